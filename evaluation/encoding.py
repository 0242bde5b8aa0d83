"""Tokenization of a task's files as [CLS] a [SEP], or [CLS] a [SEP] b [SEP] (BERT, figure 4)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.evaluation.config import FinetuneConfig
from sesame.evaluation.reading import Examples, MissingFileError, read_table
from sesame.evaluation.tasks.task import Task

SPLIT_SEED = 20180420
"""Seed of the rows chosen by ``split_dev`` and ``limit_train_rows``: the same rows for every seed and model."""
TRAIN_SHARE_OF_DEV = 0.8


class EncodedExamples(NamedTuple):
    """Token sequences of a file with their labels."""

    tokens: list[np.ndarray]
    """int32 [sequence length] each."""
    first_segment_lengths: np.ndarray
    """int64 [rows]: tokens of the first segment, including [CLS] and its [SEP]."""
    labels: np.ndarray
    indices: list[str]

    @property
    def lengths(self) -> np.ndarray:
        return np.array([len(tokens) for tokens in self.tokens])

    def take(self, rows: np.ndarray) -> "EncodedExamples":
        """Select ``rows``, in their order."""
        return EncodedExamples(
            [self.tokens[row] for row in rows],
            self.first_segment_lengths[rows],
            self.labels[rows] if len(self.labels) else self.labels,
            [self.indices[row] for row in rows],
        )


@dataclass(frozen=True)
class TaskData:
    """Encoded files of one task."""

    task: Task
    title: str
    """The task's name, and in parentheses how it differs from the official task."""
    train: EncodedExamples
    dev: dict[str, EncodedExamples]
    test: dict[str, EncodedExamples]
    notes: list[str] = field(default_factory=list)
    """Remarks for the report."""


def load_task(task: Task, config: FinetuneConfig, data_dir: Path, tokenizer: Tokenizer, predict: bool) -> TaskData:
    """Read and encode one task.

    Raises:
        MissingFileError: a training or dev file is absent.
        TaskError: a file breaks its layout.
    """
    notes: list[str] = []

    def encoded(examples: Examples, file: str) -> EncodedExamples:
        if examples.skipped:
            notes.append(f"{file}: skipped {examples.skipped} rows with missing cells, which the official release has")
        return encode(examples, tokenizer, config.sequence_length)

    dev = {prefix: encoded(read_table(data_dir, table, task), table.file) for prefix, table in task.dev.items()}
    if config.split_dev:
        title = f"{task.name} (dev split 80/20)"
        train, dev = _split(dev)
        notes.append("trained on a random 80 % of the dev rows, scored on the other 20 %: not an official dev score")
    else:
        title = task.name
        train = encoded(read_table(data_dir, task.train, task), task.train.file)
    train = _limited(train, config.limit_train_rows, notes)
    return TaskData(task, title, train, dev, _test_sets(task, data_dir, encoded, notes) if predict else {}, notes)


def encode(examples: Examples, tokenizer: Tokenizer, sequence_length: int) -> EncodedExamples:
    """Tokenize, and truncate long sequences at the end of the longer text, token by token (BERT's published code)."""
    special = tokenizer.special
    columns = [tokenizer.encode_batch(column) for column in zip(*examples.texts, strict=True)]
    tokens, firsts = [], []
    for pieces in zip(*columns, strict=True):
        kept = _truncated([len(part) for part in pieces], sequence_length - 1 - len(pieces))
        ids = [special.cls]
        for part, length in zip(pieces, kept, strict=True):
            ids += [*part[:length], special.sep]
        tokens.append(np.array(ids, np.int32))
        firsts.append(kept[0] + 2)
    return EncodedExamples(tokens, np.array(firsts, np.int64), examples.labels, examples.indices)


def _truncated(lengths: list[int], limit: int) -> list[int]:
    """Lengths of the texts after truncation to ``limit`` tokens together, with the longer text truncated first."""
    if len(lengths) == 1 or sum(lengths) <= limit:
        return [min(length, limit) for length in lengths]
    first, second = lengths
    half = limit // 2
    kept_second = min(second, max(half, limit - first))
    return [min(first, limit - kept_second), kept_second]


def _split(dev: dict[str, EncodedExamples]) -> tuple[EncodedExamples, dict[str, EncodedExamples]]:
    """Split the first dev set into (train, dev); further dev sets (MNLI's mismatched) are not split."""
    prefix, examples = next(iter(dev.items()))
    order = np.random.default_rng(SPLIT_SEED).permutation(len(examples.tokens))
    cut = round(TRAIN_SHARE_OF_DEV * len(order))
    return examples.take(order[:cut]), {**dev, prefix: examples.take(order[cut:])}


def _limited(train: EncodedExamples, limit: int | None, notes: list[str]) -> EncodedExamples:
    rows = len(train.tokens)
    if limit is None or limit >= rows:
        return train
    notes.append(f"trained on {limit} of {rows} rows, drawn at random")
    return train.take(np.random.default_rng(SPLIT_SEED).permutation(rows)[:limit])


def _test_sets(
    task: Task, data_dir: Path, encoded: Callable[[Examples, str], EncodedExamples], notes: list[str]
) -> dict[str, EncodedExamples]:
    sets = {}
    for name, table in task.test.items():
        try:
            sets[name] = encoded(read_table(data_dir, table, task), table.file)
        except MissingFileError:
            notes.append(f"{table.file} is missing: no {name}.tsv in the submission")
    return sets
