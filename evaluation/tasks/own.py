"""A user's own task: the same row as the shipped ones, as a section of a suite's TOML file.

[[own_task]]
name = "Reviews"
metrics = ["accuracy"]
labels = ["bad", "good"]
train = { file = "reviews/train.jsonl", texts = ["title", "body"], label = "stars" }
dev = { file = "reviews/dev.jsonl", texts = ["title", "body"], label = "stars" }
"""

import re

from pydantic import Field

from sesame.configs import Section
from sesame.configs.errors import ConfigError
from sesame.evaluation.scores import ANSWER_SCORES, METRICS
from sesame.evaluation.tasks.task import KindName, Table, Task


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

    def row(self) -> Table:
        further = {"group": self.group, "choices": self.choices, "answers": self.answers}
        return Table(self.file, self.texts, self.label, self.index, **further)  # pyright: ignore[reportArgumentType]


class OwnTask(Section):
    """A task of a suite's TOML file; the fields are those of ``Task``."""

    name: str
    kind: KindName = "classify"
    """classify, regress, choose, extract, similarity or minimal_pairs."""
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
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", self.name):
            raise ConfigError(f"own_task '{self.name}': a name has letters, digits and . _ - only; change it")
        if unknown := [metric for metric in self.metrics if metric not in METRICS]:
            raise ConfigError(f"own_task '{self.name}': unknown metric '{unknown[0]}'; known: {', '.join(METRICS)}")
        if (self.train is None) != (self.kind in ("similarity", "minimal_pairs")):
            needed, change = ("needs", "add one") if self.train is None else ("does not have", "leave it out")
            raise ConfigError(f"own_task '{self.name}': kind '{self.kind}' {needed} a training file; {change}")
        correlations = {"pearson", "spearman"}
        is_scored = self.kind in ("regress", "similarity")
        if not set(self.metrics) <= correlations if is_scored else set(self.metrics) & correlations:
            raise ConfigError(
                f"own_task '{self.name}': {', '.join(self.metrics)} do not fit kind '{self.kind}'; "
                "pearson and spearman are for scores, the others for classes and texts"
            )
        has_answers = self.dev.answers is not None
        if not set(self.metrics) <= set(ANSWER_SCORES) if has_answers else set(self.metrics) & set(ANSWER_SCORES):
            raise ConfigError(
                f"own_task '{self.name}': {', '.join(self.metrics)} do not fit; {', '.join(ANSWER_SCORES)} are for "
                "files with `answers`, the others for files with `label`"
            )
        if self.kind == "extract" and not (has_answers and len(self.dev.texts) == 2):
            raise ConfigError(
                f"own_task '{self.name}': kind 'extract' needs two texts and `answers`; add what is missing"
            )
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
