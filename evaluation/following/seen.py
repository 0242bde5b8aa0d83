"""How much a checkpoint was trained on: steps, rows, tokens and words."""

from collections.abc import Iterator
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sesame.configs.errors import DatasetError
from sesame.data_pipeline.dataset.shards import Dataset, open_dataset
from sesame.data_pipeline.ragged import Column, Columns, Ragged
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.pretrain.checkpoints.record import Record
from sesame.pretrain.checkpoints.resume import fingerprint

SAMPLE_ROWS = 2000
"""Training rows whose words are counted."""


class Seen(NamedTuple):
    """What a checkpoint was trained on; every pass over a row counts."""

    steps: int
    sequences: int
    tokens: float | None
    """With special ones; None if the dataset cannot be read any more."""
    words: float | None
    """Of the training text, separated by white space, as decoded from a sample of the rows."""


class RowText:
    """Tokens and words of a dataset's training rows, on average: rows are in random order."""

    def __init__(self, dataset: Dataset):
        self.dataset = dataset

    @property
    def tokens(self) -> float:
        split = self.dataset.manifest.splits["train"]
        return split.tokens / max(1, split.rows)

    @cached_property
    def words(self) -> float:
        """Words of the text of a row, without what special tokens are decoded to, and with what is masked."""
        split, tokenizer = self.dataset.split("train"), Tokenizer.load(self.dataset.tokenizer_path)
        columns = split.take(np.linspace(0, split.rows - 1, min(SAMPLE_ROWS, split.rows)).astype(np.int64))
        special = {name: token for name, token in self.dataset.manifest.tokenizer.special.items() if name != "unk"}
        words = 0
        for ids in (*_unmasked(columns), *_rows_of(columns.get("target_tokens"))):
            words += len(tokenizer.decode(ids[~np.isin(ids, list(special.values()))]).split())
        return words / max(1, len(columns["first_segment_length"]))


class Counter:
    """Counts what the checkpoints of one run have seen."""

    def __init__(self) -> None:
        self._datasets: dict[str, RowText | None] = {}
        """By path."""

    def seen(self, record: Record) -> Seen:
        """Return what the checkpoint with this record has seen."""
        counted = list(self._rows(record))
        tokens = [None if text is None else samples * text.tokens for text, samples in counted]
        words = [None if text is None else samples * text.words for text, samples in counted]
        return Seen(record.step, record.samples, _sum(tokens), _sum(words))

    def _rows(self, record: Record) -> Iterator[tuple[RowText | None, int]]:
        """The datasets of a run, and how many rows of each were read."""
        data = record.config.get("data", {})
        paths = [data.get("dataset", ""), *(stage.get("dataset", "") for stage in data.get("stages", ()))]
        known = {}
        for path in paths:
            if (text := self._open(path)) is not None:
                known[fingerprint(text.dataset)] = text
        if record.stages:
            yield from ((known.get(stage.dataset_sha256), stage.samples) for stage in record.stages)
            return
        text = known.get(record.dataset_sha256) if record.dataset_sha256 else self._open(paths[0])
        yield text, record.samples - record.dataset_first_sample
        if record.dataset_first_sample:
            # Of a dataset that the record does not name any more.
            yield None, record.dataset_first_sample

    def _open(self, path: str) -> RowText | None:
        if path not in self._datasets:
            try:
                self._datasets[path] = RowText(open_dataset(Path(path), verify=False))
            except DatasetError:
                self._datasets[path] = None
        return self._datasets[path]


def _sum(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _unmasked(columns: Columns) -> Iterator[np.ndarray]:
    """The ids of each row, with the original ones where they are masked."""
    masked = zip(_rows_of(columns.get("mask_positions")), _rows_of(columns.get("mask_labels")), strict=True)
    for ids in _rows_of(columns["tokens"]):
        places, labels = next(masked, (slice(0, 0), ()))
        ids[places] = labels
        yield ids


def _rows_of(column: Column | None) -> Iterator[np.ndarray]:
    """A copy of each row of a column of lists."""
    if isinstance(column, Ragged):
        yield from (column.values[start:end].copy() for start, end in pairwise(column.offsets.tolist()))
