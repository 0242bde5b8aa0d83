"""A user's own task: the same row as the shipped ones, as a section of a suite's TOML file.

[[own_task]]
name = "Reviews"
metrics = ["accuracy"]
labels = ["bad", "good"]
train = { file = "reviews/train.jsonl", texts = ["title", "body"], label = "stars" }
dev = { file = "reviews/dev.jsonl", texts = ["title", "body"], label = "stars" }
"""

import re
from collections.abc import Iterator
from pathlib import PurePath
from typing import Literal

from pydantic import Field

from sesame.configs import Section
from sesame.configs.errors import ConfigError
from sesame.evaluation.scores import ANSWER_SCORES, METRICS
from sesame.evaluation.tasks.task import KindName, Span, Table, Task

CLASSES = ("accuracy", "f1", "macro_f1", "matthews", "exact_match")
SCORES = ("pearson", "spearman")
METRICS_OF = {
    "classify": CLASSES,
    "regress": SCORES,
    "choose": ("accuracy", "exact_match"),
    "spans": CLASSES,
    "extract": (),
    "similarity": SCORES,
    "minimal_pairs": ("pair_accuracy",),
}
"""Kind of an own task -> metrics of files with a label; answers that are texts have ``ANSWER_SCORES``."""
ZERO_SHOT = ("similarity", "minimal_pairs")


class OwnSpan(Section):
    """Words of a text that a task of kind spans asks about; the fields are those of ``Span``."""

    text: int = 0
    """Which of ``texts`` it is in: 0 or 1."""
    start: str
    """Column with the number (from 0) of the first character or word."""
    end: str | None = None
    """Column with the number of the character after the last one."""
    words: str | None = None
    """Column with the words themselves; those of characters need this or ``end``."""
    unit: Literal["character", "word"] = "character"
    """What ``start`` counts; words are separated by white space. Without ``words``, the span is one word."""

    def fault(self, texts: int) -> str | None:
        """Return what cannot be in a table with so many texts, and the way out."""
        if not 0 <= self.text < texts:
            return f"has a span in text {self.text}, and its texts are 0 to {texts - 1}; change `text`"
        if self.unit == "word" and self.end is not None:
            return "has a span of words with an `end`, which counts characters; give `words`"
        if self.unit == "character" and self.end is None and self.words is None:
            return "has a span without an end; give `end` or `words`"
        return None


class OwnTable(Section):
    """One file and its columns; the fields are those of ``Table``."""

    file: str
    """Path below the data directory; .json and .jsonl are JSON lines, others tab-separated with a header."""
    texts: tuple[str, ...] = Field(min_length=1, max_length=2)
    """Columns, JSON paths ("meta.title"), or templates ("{title}: {body}", "{choice}")."""
    label: str | None = None
    """Column of the label; unset in a test file."""
    index: str | None = None
    """Column of the row's name in the file of predictions; unset: rows are counted."""
    group: str | None = None
    """Rows with the same value are scored together."""
    choices: tuple[str, ...] = ()
    """Columns of the candidates, or one column with a list of them."""
    answers: str | None = None
    """In place of ``label``: list of right answers, as texts or as records with "text" and "answer_start"."""
    spans: tuple[OwnSpan, ...] = ()
    """Of kind spans: the words that are asked about, in every file as many."""
    ignored_labels: tuple[str, ...] = ()
    """Rows with one of these labels are left out (such as "-" where annotators disagree)."""
    categories: tuple[str, ...] = ()
    """Of dev: the report has a score for each value of one column, or for each of several columns, of the rows in which
    it is not empty."""

    def row(self) -> Table:
        further = {"group": self.group, "choices": self.choices, "answers": self.answers, "categories": self.categories}
        further["spans"] = tuple(Span(**dict(span)) for span in self.spans)
        further["ignored_labels"] = self.ignored_labels
        return Table(self.file, self.texts, self.label, self.index, any_order=True, **further)  # pyright: ignore[reportArgumentType]


class OwnTask(Section):
    """A task of a suite's TOML file; the fields are those of ``Task``."""

    name: str
    kind: KindName = "classify"
    """classify, regress, choose, spans, extract, similarity or minimal_pairs."""
    metrics: tuple[str, ...] = Field(min_length=1)
    """accuracy, f1, macro_f1, matthews, pearson, spearman, exact_match, pair_accuracy; of answers that are texts
    squad_em, squad_f1, cmrc_em, cmrc_f1."""
    labels: tuple[str, ...] = ()
    """Classes as written in the files; class 1 is the positive class of F1."""
    score_range: tuple[float, float] = (0.0, 1.0)
    """Smallest and largest score of a regression."""
    train: OwnTable | None = None
    dev: OwnTable
    test: OwnTable | None = None

    def row(self) -> Task:
        """Return the row of the table of tasks.

        Raises:
            ConfigError: the task cannot be.
        """
        for fault in self._faults():
            raise ConfigError(f"own_task '{self.name}': {fault}")
        return Task(
            self.name,
            self.metrics,
            self.train.row() if self.train is not None else None,
            {"": self.dev.row()},
            {self.name: self.test.row()} if self.test is not None else {},
            self.labels,
            self.kind,
            self.score_range,
        )

    def _faults(self) -> Iterator[str]:
        """Yield what cannot be, and the way out."""
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", self.name):
            yield "a name has letters, digits and . _ - only; change it"
        if unknown := [metric for metric in self.metrics if metric not in METRICS]:
            yield f"unknown metric '{unknown[0]}'; known: {', '.join(METRICS)}"
        if (self.train is None) != (self.kind in ZERO_SHOT):
            needed, change = ("needs", "add one") if self.train is None else ("does not have", "leave it out")
            yield f"kind '{self.kind}' {needed} a training file; {change}"
        if self.test is not None and self.kind in ZERO_SHOT:
            yield f"kind '{self.kind}' has no predictions for a test file; leave it out"
        has_answers = self.dev.answers is not None
        if has_answers and self.kind not in ("choose", "extract"):
            yield f"kind '{self.kind}' has no `answers`; give `label`"
        if self.kind == "extract" and not (has_answers and len(self.dev.texts) == 2):
            yield "kind 'extract' needs two texts and `answers`; add what is missing"
        fitting = tuple(ANSWER_SCORES) if has_answers else METRICS_OF[self.kind]
        if other := [metric for metric in self.metrics if metric not in fitting]:
            of = "with `answers`" if has_answers else f"of kind '{self.kind}'"
            yield f"{other[0]} does not fit; the metrics of files {of} are {', '.join(fitting)}"
        if "exact_match" in self.metrics and self.dev.group is None:
            yield "exact_match is of groups of rows; give dev a `group`"
        yield from self._faults_of_files()

    def _faults_of_files(self) -> Iterator[str]:
        tables = {name: each for name in ("train", "dev", "test") if (each := getattr(self, name)) is not None}
        right = "answers" if self.dev.answers is not None else "label"
        for name, each in tables.items():
            if PurePath(each.file).is_absolute():
                yield f"{name}.file {each.file} is a path below the data directory; leave out what is before it"
            if name != "test" and self.kind != "minimal_pairs" and getattr(each, right) is None:
                yield f"{name} has no `{right}`, so its right answers are unknown; add the column"
            if both := [label for label in each.ignored_labels if label in self.labels]:
                yield f"{name} leaves out rows with the label '{both[0]}', which is in `labels`; take it out of one"
            if bool(each.spans) != (self.kind == "spans"):
                yield f"{name} has {'spans' if each.spans else 'no `spans`'}, and the kind is '{self.kind}'; change one"
            if len(each.spans) != len(self.dev.spans):
                yield f"{name} has {len(each.spans)} spans, dev {len(self.dev.spans)}; give each file as many"
            yield from (f"{name} {fault}" for span in each.spans if (fault := span.fault(len(each.texts))))
        files = [each.file for each in tables.values()]
        if len(set(files)) < len(files):
            yield f"{' and '.join(tables)} have a file in common; give each its own"
