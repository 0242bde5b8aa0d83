"""Hard cases of sentence splitting by language, from ``sentences_hard_cases.txt``; the benchmark counts them too."""

from pathlib import Path
from typing import NamedTuple


class Case(NamedTuple):
    """A text and its sentences."""

    language: str
    text: str
    sentences: list[str]
    """Each on one line."""
    known_wrong: bool
    """The rules do not see what a reader does."""


def read() -> list[Case]:
    """All cases, group after group."""
    cases, language = [], ""
    rows = Path(__file__).with_name("sentences_hard_cases.txt").read_text(encoding="utf-8").split("\n")
    for row in rows[1:]:
        if row.startswith("# "):
            language = row.removeprefix("# ")
        elif row:
            marked = row.removeprefix("~").replace("\u23ce", "\n")
            sentences = [" ".join(sentence.split()) for sentence in marked.split("|")]
            cases.append(Case(language, marked.replace("|", ""), sentences, row.startswith("~")))
    return cases
