"""How much a checkpoint was trained on: steps, rows, tokens and words."""

import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sesame.configs.errors import DatasetError
from sesame.data_pipeline.dataset.shards import Dataset, open_dataset
from sesame.data_pipeline.ragged import Ragged
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.pretrain.checkpoints.record import Record
from sesame.pretrain.checkpoints.resume import fingerprint

SAMPLE_ROWS = 4096
"""Training rows whose text tokens are counted."""
SAMPLE_CHARACTERS = 1_000_000
"""Of validation documents whose words and tokens are counted."""
NO_TEXT = ("pad", "cls", "sep")
"""Special tokens that stand for no text, unlike a masked or an unknown token."""


class Seen(NamedTuple):
    """What a checkpoint was trained on; every pass over a row counts."""

    steps: int
    sequences: int
    tokens: float | None
    """With special ones; None if the dataset cannot be read any more."""
    words: float | None
    """Of the training text, separated by white space: from the tokens of text, and the words for each token in the
    validation documents. None without these."""


class RowText:
    """Tokens and words of a dataset's training rows, on average: rows are in random order."""

    def __init__(self, dataset: Dataset):
        self.dataset = dataset

    @property
    def tokens(self) -> float:
        split = self.dataset.manifest.splits["train"]
        return split.tokens / max(1, split.rows)

    @cached_property
    def words(self) -> float | None:
        if (share := self._words_of_token) is None:
            return None
        split = self.dataset.split("train")
        rows = split.take(np.linspace(0, split.rows - 1, min(SAMPLE_ROWS, split.rows)).astype(np.int64))["tokens"]
        assert isinstance(rows, Ragged)
        special = self.dataset.manifest.tokenizer.special
        text = ~np.isin(rows.values, [special[name] for name in NO_TEXT])
        return share * float(text.sum()) / (len(rows.offsets) - 1)

    @cached_property
    def _words_of_token(self) -> float | None:
        """Words for each token of the validation documents; None without documents."""
        texts = list(_sample(self.dataset.documents_path))
        if not texts:
            return None
        tokens = sum(map(len, Tokenizer.load(self.dataset.tokenizer_path).encode_batch(texts)))
        return sum(len(text.split()) for text in texts) / max(1, tokens)


class Counter:
    """Counts what the checkpoints of one run have seen."""

    def __init__(self) -> None:
        self._datasets: dict[str, RowText | None] = {}
        """By path."""

    def seen(self, record: Record) -> Seen:
        """Return what the checkpoint with this record has seen."""
        counted = list(self._rows(record))
        tokens = [None if text is None else samples * text.tokens for text, samples in counted]
        words = [None if text is None or text.words is None else samples * text.words for text, samples in counted]
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


def _sample(path: Path) -> Iterator[str]:
    """The first documents of a file of validation documents."""
    left = SAMPLE_CHARACTERS
    with path.open(encoding="utf-8") as file:
        for line in file:
            if left <= 0:
                return
            text = json.loads(line)["text"]
            left -= len(text)
            yield text
