"""The right answers of a row, where they are texts of which several may be right (ReCoRD, CMRC2018)."""

from collections.abc import Sequence
from typing import NamedTuple

from sesame.configs.errors import TaskError
from sesame.evaluation.reading.rows import CORRECT, Row
from sesame.evaluation.reading.spans import nearest
from sesame.evaluation.scores import SEPARATOR
from sesame.evaluation.tasks.task import Table


class Answers(NamedTuple):
    """The right answers of a row."""

    texts: tuple[str, ...]
    """Distinct, in the order of the file."""
    start: int | None
    """First character of the first one in the text, as published."""

    @property
    def label(self) -> str:
        """All of them as one text."""
        return SEPARATOR.join(self.texts)

    def are_right(self, choices: Sequence[str]) -> list[bool]:
        """Return for each candidate whether it is a right answer."""
        return [choice in self.texts for choice in choices]

    def range_in(self, text: str, removed: int, place: str) -> tuple[int, int, bool]:
        """Return (first character, the one after the last) of the first answer in a text, and whether it is not at its
        published place: then it is the nearest occurrence, or, if there is none, what is at that place.

        Args:
            removed: white space before the text that the published place counts.

        Raises:
            TaskError: it is outside the text.
        """
        answer, start = self.texts[0], (self.start or 0) - removed
        if self.start is not None and text.startswith(answer, start):
            return start, start + len(answer), False
        found = nearest(answer, text, start)
        if found is not None:
            return found, found + len(answer), self.start is not None
        end = start + len(answer)
        if self.start is None or not 0 <= start < end <= len(text):
            raise TaskError(f"{place}: the answer '{answer}' is not in its text; {CORRECT}")
        return start, end, True


def read_answers(row: Row, table: Table) -> Answers:
    """Read the list of a row's answers.

    Raises:
        TaskError: it is not a list of texts or of records with a text, or is empty.
    """
    assert table.answers is not None
    values = row.read(table.answers)
    entries = values if isinstance(values, list) else []
    texts = [entry.get("text") if isinstance(entry, dict) else entry for entry in entries]
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise TaskError(f"{row.place}: '{table.answers}' is not a list of right answers; {CORRECT}")
    start = entries[0].get("answer_start") if isinstance(entries[0], dict) else None
    if start is not None and (isinstance(start, bool) or not isinstance(start, int)):
        raise TaskError(f"{row.place}: 'answer_start' is not a number; {CORRECT}")
    first = str(texts[0])
    # The published place is that of the text with its white space.
    start = None if start is None else start + len(first) - len(first.lstrip())
    return Answers(tuple(dict.fromkeys(str(text).strip() for text in texts)), start)
