"""Shards -> packed batches of named tensors, in one global order that depends on seed and epoch only.

| column         | shape | from shard columns            | meaning                                             |
|----------------|-------|-------------------------------|-----------------------------------------------------|
| tokens         | [T]   | tokens                        | token ids, corrupted where the recipe says so       |
| positions      | [T]   |                               | position inside the sequence                        |
| segments       | [T]   | first_segment_length          | 0 in the first segment, 1 in the second             |
| mask_positions | [P]   | mask_positions                | index into T of each token to predict               |
| mask_labels    | [P]   | mask_labels                   | the original token there                            |
| pair_labels    | [B]   | pair_labels                   | 0 as it was, 1 another document or swapped          |
| next_positions | [P]   | tokens                        | index into T of each token that another one follows |
| next_labels    | [P]   | tokens                        | the token that follows                              |
| decoder_tokens | [U]   | target_tokens                 | what to write, moved by one behind the start token  |
| target_labels  | [U]   | target_tokens                 | what to write                                       |
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from pydantic import Field, model_validator

from configs import Section
from configs.errors import ConfigError, DatasetError
from configs.kinds import Fixed, Free
from data_pipeline.dataset.shards import Dataset, Ragged, Split
from data_pipeline.examples.corrupt import EachEpoch, drawn_each_epoch
from data_pipeline.ragged import Columns, take
from pretrain.batch import Batch
from pretrain.data.order import Order
from pretrain.data.packing import assemble

SOURCES: dict[str, str] = {
    "tokens": "tokens",
    "positions": "tokens",
    "segments": "first_segment_length",
    "mask_positions": "mask_positions",
    "mask_labels": "mask_labels",
    "pair_labels": "pair_labels",
    "next_positions": "tokens",
    "next_labels": "tokens",
    "decoder_tokens": "target_tokens",
    "target_labels": "target_tokens",
}
"""Batch column -> the shard column that it is made of."""

FEWER_THAN_SOURCE = {"next_labels": 1}
"""Batch column -> by how many entries each row has fewer of it than of the shard column."""


class DataConfig(Section):
    """Which dataset, and how much of it at once."""

    dataset: Fixed[str]
    """Folder that ``sesame prepare`` wrote."""
    global_batch: Fixed[int] = Field(gt=0, le=2**24)
    """Sequences that one optimizer step averages over."""
    micro_batch: Free[int] = Field(default=0, ge=0)
    """Sequences that one process handles at once, if its memory does not hold its whole share of the global batch;
    accumulation follows from the two and from the layout. 0: the whole share."""
    loader_processes: Free[int] = Field(default=0, ge=0, le=1024)
    """Background processes that make the next batches while a step is computed; 0: made between two steps. The batches
    are the same."""
    verify: Free[bool] = True
    """Check every checksum of the dataset before the first step."""

    @model_validator(mode="after")
    def _micro_divides_global(self) -> "DataConfig":
        if self.micro_batch and self.global_batch % self.micro_batch:
            raise ValueError(f"global_batch {self.global_batch} does not divide by micro_batch {self.micro_batch}")
        return self

    def cut(self, processes: int) -> tuple[int, int]:
        """(sequences of a micro-batch, micro-batches of each data-parallel process in one step).

        Raises:
            ConfigError: the global batch does not divide evenly.
        """
        micro_batch = self.micro_batch or max(1, self.global_batch // processes)
        together = micro_batch * processes
        if self.global_batch % together:
            raise ConfigError(
                f"data.global_batch {self.global_batch} does not divide by data.micro_batch {micro_batch} x "
                f"{processes} data-parallel processes = {together}; change one of the three"
            )
        return micro_batch, self.global_batch // together


class DataRank(NamedTuple):
    """One process's place among those that split the data."""

    rank: int
    of: int


class Start(NamedTuple):
    """Where a run begins, or goes on, in the order of the data: seeking costs nothing."""

    step: int = 0
    """Optimizer step."""
    sample: int = 0
    """Sequences of this dataset that were consumed before that step."""


class Batches:
    """Micro-batches by step number. A batch of another size neither skips nor repeats a row: positions are samples."""

    def __init__(
        self,
        dataset: Dataset,
        config: DataConfig,
        reads: Sequence[str],
        seed: int,
        share: DataRank,
        start: Start = Start(),
    ):
        self.dataset = dataset
        self.train = dataset.split("train")
        self.validation = dataset.split("validation")
        self.config = config
        self.reads = tuple(reads)
        self.seed = seed
        self.share = share
        self.start = start
        self.micro_batch, self.accumulation = config.cut(share.of)
        self._epoch: tuple[int, Order] | None = None
        check_columns(dataset, reads)
        recipe = dataset.manifest.recipe
        self._hide = EachEpoch(recipe, dataset.tokenizer_path) if drawn_each_epoch(recipe) else None
        if self.train.rows == 0:
            raise DatasetError(f"{dataset.path}: the train split has no rows; prepare it from more text")

    def position(self, number: int) -> int:
        """Sequences of this dataset that are consumed before optimizer step ``number`` (from 0)."""
        return self.start.sample + (number - self.start.step) * self.config.global_batch

    def step(self, number: int) -> Iterator[Batch]:
        """This process's micro-batches of optimizer step ``number`` (from 0)."""
        first = self.position(number)
        rows = self._rows(first, first + self.config.global_batch)
        micro_batches = self.accumulation * self.share.of
        columns = self._hidden(self.train, rows, self.seed, "masks of a step", number)
        denominators = self._denominators(self.train, rows, micro_batches, columns)
        places = np.split(np.arange(len(rows)), micro_batches)
        for part in places[self.share.rank :: self.share.of]:
            yield self._batch(self.train, rows, part, denominators, columns)

    def validation_batches(self, limit: int) -> Iterator[Batch]:
        """This process's part of the first ``limit`` validation rows; summed over all, losses are exact means."""
        rows = np.arange(min(limit, self.validation.rows))
        # Runs with other seeds are to be compared on the same masks.
        columns = self._hidden(self.validation, rows, self.dataset.manifest.seed, "masks of validation", 0)
        denominators = self._denominators(self.validation, rows, 1, columns)
        size = self.micro_batch
        parts = [np.arange(start, min(start + size, len(rows))) for start in range(0, len(rows), size)]
        for first in range(0, len(parts), self.share.of):
            index = first + self.share.rank
            if index < len(parts):
                yield self._batch(self.validation, rows, parts[index], denominators, columns)
            else:
                # Every process must run as many forwards as any other; a surplus one counts for nothing.
                yield self._batch(self.validation, rows, parts[0], dict.fromkeys(denominators, float("inf")), columns)

    def _rows(self, first: int, last: int) -> np.ndarray:
        """Rows at positions [first, last) of the endless stream: every epoch a new order of all rows."""
        pieces = []
        while first < last:
            epoch, start = divmod(first, self.train.rows)
            end = min(self.train.rows, start + last - first)
            pieces.append(self._order(epoch)[start:end])
            first += end - start
        return np.concatenate(pieces)

    def _order(self, epoch: int) -> Order:
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = (epoch, Order(self.train.rows, self.seed, epoch))
        return self._epoch[1]

    def _hidden(self, split: Split, rows: np.ndarray, seed: int, purpose: str, number: int) -> Columns | None:
        """All columns of ``rows`` where tokens are hidden only now.

        Every process hides the tokens of the whole global batch: only then is it known how many predictions all make,
        and the masks are those of every other layout.
        """
        return self._hide(split.take(rows), seed, purpose, number) if self._hide else None

    def _denominators(
        self, split: Split, rows: np.ndarray, micro_batches: int, columns: Columns | None
    ) -> dict[str, float]:
        def entries(name: str) -> float:
            source, fewer = SOURCES[name], FEWER_THAN_SOURCE.get(name, 0) * len(rows)
            if columns is None:
                return float(split.lengths_of(source, rows).sum() - fewer)
            column = columns[source]
            return float(len(column.values if isinstance(column, Ragged) else column) - fewer)

        counted = ["tokens", *(column for column in self.reads if column.endswith("_labels"))]
        return {column: entries(column) / micro_batches for column in counted}

    def _batch(
        self,
        split: Split,
        rows: np.ndarray,
        places: np.ndarray,
        denominators: dict[str, float],
        columns: Columns | None,
    ) -> Batch:
        """The rows at ``places`` of ``rows``, short ones first."""
        lengths = split.lengths_of("tokens", rows[places])
        by_length = places[np.argsort(lengths, kind="stable")]
        if columns is None:
            found = split.take(rows[by_length])
        else:
            found = {name: take(column, by_length) for name, column in columns.items()}
        return assemble(found, self.reads, denominators, self.dataset.manifest.tokenizer.special["pad"])


def check_columns(dataset: Dataset, reads: Sequence[str]) -> None:
    """Compare what model and objectives read with what the dataset has, before a device is touched.

    Raises:
        DatasetError: naming what is missing and the recipe that writes it.
    """
    drawn = {"mask_positions", "mask_labels"} if drawn_each_epoch(dataset.manifest.recipe) else set()
    missing = sorted({SOURCES[column] for column in reads} - set(dataset.manifest.columns) - drawn)
    if missing:
        raise DatasetError(
            f"{dataset.path}: has no column {', '.join(missing)}, which this model and its objectives read; prepare "
            "the corpus with a [segment] and [corrupt] recipe that writes it, or drop the objective from [objectives]"
        )
    if "next_labels" in reads and (drawn or {"mask_labels", "target_tokens"} & set(dataset.manifest.columns)):
        raise DatasetError(
            f"{dataset.path}: hides tokens of its text, but an objective of this run predicts every token from the "
            "text as it is; prepare the corpus with corrupt.kind = 'nothing'"
        )


def check_lengths(dataset: Dataset, positions: int | None) -> None:
    """Compare the longest row that the dataset's recipe allows with the longest that the model takes.

    Raises:
        DatasetError: rows may be too long.
    """
    longest = dataset.manifest.recipe.get("segment", {}).get("sequence_length", 0)
    if positions is not None and longest > positions:
        raise DatasetError(
            f"{dataset.path}: has rows of up to {longest} tokens, but model.positions is {positions}; raise it, or "
            f"prepare the corpus with segment.sequence_length = {positions}"
        )
