"""Definition of an evaluation task as one row of data; reading, training and scoring have no code for single tasks."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Literal

from sesame.configs.errors import ConfigError

Column = str | int
"""What is read from a row: a column's name in the header, or its index (from 0) where the file has no header; in JSON
a path, "target.span1_text"; or a template, "{premise} {question}". ``*`` in a path is the entry that a row stands for
(``Table.each``)."""
KindName = Literal["classify", "regress", "choose", "spans", "extract", "similarity", "minimal_pairs"]
"""A key of ``evaluation/finetuning/kinds.py`` or of ``evaluation/zero_shot``.

classify: a class for a text or pair. regress: a number. choose: the best of a row's candidates. spans: a class for
words of the text. extract: words of the second text that answer the first. Without fine-tuning: similarity: the cosine
of two texts; minimal_pairs: the likelier of two."""
FIELD = re.compile(r"\{([^{}]+)\}")
PSEUDO_COLUMNS = ("choice", "choices", "blank")
"""What a template may name beside columns: a row's candidate, all of its candidates, the mark of its gap."""


@dataclass(frozen=True)
class Span:
    """Words of a text that a task asks about."""

    text: int
    """Index in ``Table.texts``."""
    start: Column
    """Column with the number (from 0) of the first character or word."""
    end: Column | None = None
    """Column with the number of the character after the last one; None: ``words`` says where the span ends."""
    words: Column | None = None
    """Column with the words themselves."""
    unit: Literal["character", "word"] = "character"
    """What ``start`` counts; words are separated by white space."""


@dataclass(frozen=True)
class Blank:
    """A gap in a text that a candidate fills: each gap is a row, and the other gaps of its text are "____"."""

    column: Column
    """The text with the gaps."""
    pattern: str
    """Regular expression of a gap's mark; the mark itself is the column "blank"."""


@dataclass(frozen=True)
class Indices:
    """Indices of an official test set, which a file of predictions must have."""

    first: int = 0
    """Index of the first row; they count up."""
    sha256: str = ""
    """Of the indices, a line each, where they do not count up."""
    pattern: str = ""
    """Regular expression of an index, where nothing else of them is published."""
    more_rows: bool = False
    """``Table.rows`` is a lower bound: the exact number is not published."""


@dataclass(frozen=True)
class TextForm:
    """A task as text to text: what an encoder reads and a decoder answers."""

    template: str
    """Of the input; {0}, {1} are the row's texts."""
    words: tuple[str, ...] = ()
    """The decoder's answers, by class or score; empty: any text."""
    target: Literal["word", "number", "answer", "referent"] = "word"
    """word: that of the row's class. number: the nearest one to the row's score. answer: any of the row's right
    answers. referent: the words of the first span, which are compared with the decoder's (WSC)."""
    texts: tuple[Column, ...] = ()
    """In place of ``Table.texts``."""
    replacements: tuple[tuple[str, str], ...] = ()
    """In addition to ``Table.replacements``."""


@dataclass(frozen=True)
class Table:
    """One file of a task and what is read from it: tab-separated, or JSON lines if it ends in .json or .jsonl."""

    file: str
    """Path below the data directory."""
    texts: tuple[Column, ...]
    """One column for single sentences, two for pairs. ``{choice}`` in a template is the candidate."""
    label: Column | None = None
    """None where labels are not published."""
    index: Column | None = None
    """Column with the row's name in the file of predictions; None counts rows from 0."""
    any_order: bool = False
    """The texts may stand in another order in the header, which in an official file is a sign of swapped columns."""
    cells: int | None = None
    """Cells of each row of a file without a header; None: the first line is a header, and rows have as many cells."""
    hub_file: str | None = None
    """Path of the Parquet file in ``Task.hub.repository`` from which ``sesame fetch-glue`` makes this file."""
    rows: int | None = None
    """Rows of the official release, for a test set: a file of predictions has as many."""
    indices: Indices = Indices()
    """Their indices, likewise."""
    also: tuple[str, ...] = ()
    """Further files, whose rows follow (C3 has its dialogues apart)."""
    answer_key: str = "label"
    """Name of the answer in JSON lines of predictions."""
    is_object: bool = False
    """Predictions are one JSON object from index to answer, and not a line for each row."""
    each: str | None = None
    """JSON: path of the lists whose entries are the rows, "passage.questions.*.answers"; None: each line is a row."""
    group: Column | None = None
    """Rows with the same value are scored together (a question's answers)."""
    group_size: int | None = None
    """So many consecutive rows are scored together (AX-g: a pair that differs in a gender)."""
    groups_lines: bool = False
    """The rows of one line are scored together (CHID: gaps with the same candidates)."""
    categories: tuple[Column, ...] = ()
    """The report has a score for each value of one column, or for each of several columns, of the rows that have it."""
    choices: tuple[Column, ...] = ()
    """A column for each candidate, or one column with a list of them."""
    candidates: int | None = None
    """For a test set: candidates of a row, at most; None: the number of ``choices``."""
    choices_in: Column | None = None
    """The text of which the list of candidates has the first and last characters (ReCoRD)."""
    blank: Blank | None = None
    """The gap that a candidate fills."""
    answers: Column | None = None
    """In place of ``label``: list of the right answers, as texts or as records with "text" and "answer_start"."""
    labels_file: str | None = None
    """In place of ``label``: file with one JSON object from index to label (CHID)."""
    spans: tuple[Span, ...] = ()
    words: Mapping[str, str] = field(default_factory=dict)
    """What replaces a value of a template's column."""
    replacements: tuple[tuple[str, str], ...] = ()
    """Regular expressions and what their matches in a text are replaced by."""
    ignored_labels: tuple[str, ...] = ()
    """Rows with one of these labels are left out (OCNLI: "-", on which annotators disagree)."""
    metrics: tuple[str, ...] = ()
    """Of this dev set; empty: ``Task.metrics``."""
    optional: bool = False
    """A dev set that may be absent, which the report says, and that does not count in the task's score."""

    @property
    def files(self) -> tuple[str, ...]:
        """All files that are read."""
        return (self.file, *self.also, *([self.labels_file] if self.labels_file is not None else []))

    @property
    def columns(self) -> tuple[Column, ...]:
        """All columns that are read, without those of templates more than once."""
        spans = [column for span in self.spans for column in (span.start, span.end, span.words)]
        used = (*self.texts, self.label, self.index, self.group, *self.categories, *self.choices, *spans)
        return tuple(dict.fromkeys(name for column in used if column is not None for name in fields(column)))

    @property
    def is_labelled(self) -> bool:
        """Whether the right answers are published."""
        return any(each is not None for each in (self.label, self.answers, self.labels_file))

    @property
    def is_json(self) -> bool:
        return self.suffix in (".json", ".jsonl")

    @property
    def is_nested(self) -> bool:
        """Whether predictions are in the shape of the test file, and an index is "0/1/2" (MultiRC)."""
        return self.each is not None and "/" in str(self.index)

    @property
    def suffix(self) -> str:
        """Of the file, and of a file of predictions for it."""
        return PurePosixPath(self.file).suffix


def fields(column: Column) -> tuple[Column, ...]:
    """Return the columns that a template names, without ``PSEUDO_COLUMNS``, or the column itself."""
    if not isinstance(column, str) or "{" not in column:
        return (column,)
    return tuple(name for name in FIELD.findall(column) if name not in PSEUDO_COLUMNS)


@dataclass(frozen=True)
class HubDataset:
    """Where a task is published on the Hugging Face hub, and its column and label names there."""

    repository: str
    texts: tuple[str, ...]
    """The hub's names of the columns ``Table.texts``, in the same order."""
    labels: tuple[str, ...] = ()
    """The label as written in the task's files, by the hub's class number; empty: the number itself."""


@dataclass(frozen=True)
class Task:
    """One task of a benchmark."""

    name: str
    metrics: tuple[str, ...]
    """Rows of the table in ``scores.py``; the task's score is their mean."""
    train: Table | None
    """None: the task is scored without fine-tuning."""
    dev: Mapping[str, Table]
    """By prefix of the metric's name: "" for a single dev set, "m" and "mm" for MNLI."""
    test: Mapping[str, Table] = field(default_factory=dict)
    """By name of the file of predictions, without its ending."""
    labels: tuple[str, ...] = ()
    """Classes as written in the files; class 1 is the positive class of F1."""
    kind: KindName = "classify"
    score_range: tuple[float, float] = (0.0, 1.0)
    """Smallest and largest score of a regression; predictions are clipped to it."""
    is_distinct: bool = False
    """No two rows of a group have the same candidate (CHID)."""
    broken_rows: bool = False
    """The official release has training or dev rows with missing cells: they are skipped and counted instead of being
    an error. A test row is never skipped."""
    text: TextForm | None = None
    """The form in which a decoder answers; None: a head answers."""
    hub: HubDataset | None = None
    """None: ``sesame fetch-glue`` does not download this task."""
    starts_from: str | None = None
    """Task on which the model is fine-tuned first (RTE from MNLI). Such a row is never mixed with the plain one."""

    def __post_init__(self) -> None:
        if self.kind in ("classify", "spans") and len(self.labels) < 2:
            raise ConfigError(f"task {self.name}: kind '{self.kind}' needs at least two labels")
        if "f1" in self.metrics and len(self.labels) > 2:
            raise ConfigError(f"task {self.name}: f1 is defined for two labels; use macro_f1 for {len(self.labels)}")

    @property
    def has_scores(self) -> bool:
        """Whether labels are numbers on a scale and not classes."""
        return self.kind in ("regress", "similarity")

    @property
    def has_texts(self) -> bool:
        """Whether answers are texts: words of the text, or a candidate where several are right."""
        return any(table.answers is not None for table in self.dev.values())

    @property
    def has_constant(self) -> bool:
        """Whether always giving the same answer has an informative score."""
        says_words = self.text is None or self.text.target == "word"
        return self.train is not None and says_words and not self.has_scores and not self.has_texts

    @property
    def outputs(self) -> int:
        """Number of outputs of the head for a sequence; of extract, for a token: start and end."""
        return len(self.labels) if self.kind in ("classify", "spans") else 2 if self.kind == "extract" else 1

    @property
    def tables(self) -> tuple[Table, ...]:
        """All files of the task: train, dev, test."""
        train = (self.train,) if self.train is not None else ()
        return (*train, *self.dev.values(), *self.test.values())

    @property
    def prediction_files(self) -> dict[str, Table]:
        """Name of each file of predictions -> the test set that it answers."""
        return {self.prediction_file(name): table for name, table in self.test.items()}

    def prediction_file(self, name: str) -> str:
        """Name of the file of predictions for the test set ``name``."""
        return f"{name}{self.test[name].suffix}"

    @property
    def plain_name(self) -> str:
        """Name of the same task without another one before it."""
        return self.name.removesuffix(f"-from-{self.starts_from}")

    def metrics_of(self, prefix: str) -> tuple[str, ...]:
        """Metrics of a dev set."""
        return self.dev[prefix].metrics or self.metrics

    @property
    def score_names(self) -> tuple[str, ...]:
        """Every metric whose mean is the task's score: "accuracy", or "m accuracy" and "mm accuracy".

        Optional dev sets, SuperGLUE's diagnostics, are reported and not counted, as on its leaderboard.
        """
        return tuple(score_name(prefix, metric) for prefix in self.counted for metric in self.metrics_of(prefix))

    @property
    def counted(self) -> tuple[str, ...]:
        """Prefixes of the dev sets that count in the score."""
        return tuple(prefix for prefix, table in self.dev.items() if not table.optional)


def score_name(prefix: str, metric: str) -> str:
    """Return what a metric of a dev set is called in results and reports: "accuracy", "mm accuracy"."""
    return f"{prefix} {metric}".strip()


def started(task: Task, first: str) -> Task:
    """Return the row of ``task`` with a model that is fine-tuned on the task ``first`` before."""
    return replace(task, name=f"{task.name}-from-{first}", hub=None, starts_from=first)
