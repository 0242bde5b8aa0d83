"""Dataset shards -> packed batches of named tensors, in one global order that depends on seed and epoch only."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sesame.configs.errors import DatasetError
from sesame.data_pipeline.dataset.shards import Dataset, Split, open_dataset
from sesame.data_pipeline.examples.corrupt import EachEpoch, drawn_each_epoch
from sesame.data_pipeline.ragged import Columns, Ragged, take
from sesame.pretrain.batch import Batch
from sesame.pretrain.data.causal_steps import causal_columns, is_causal
from sesame.pretrain.data.columns import COLUMNS
from sesame.pretrain.data.config import DataConfig
from sesame.pretrain.data.dataset_checks import check_columns
from sesame.pretrain.data.order import Order
from sesame.pretrain.data.packing import assemble
from sesame.pretrain.data.row_checks import check_row_lengths, check_row_values
from sesame.pretrain.data.skipped import Samples, Skipped
from sesame.pretrain.data.token_budget import TokenBudget, without_weight


class DataRank(NamedTuple):
    """One of the processes that the data is divided over."""

    rank: int
    size: int


class Start(NamedTuple):
    """Position in the data at which a run starts or resumes."""

    step: int = 0
    """Optimizer step."""
    sample: int = 0
    """Sequences of this dataset that were consumed before that step."""


class Batches:
    """Micro-batches by step number.

    Positions are counted in samples, so that a resumed run with another batch size neither skips nor repeats a row.
    """

    def __init__(
        self,
        dataset: Dataset,
        config: DataConfig,
        reads: Sequence[str],
        seed: int,
        data_rank: DataRank,
        start: Start = Start(),
        skipped: Skipped = Skipped(),
    ):
        """
        Args:
            reads: batch columns that the model and its objectives read.
            seed: of the order of the rows.
            skipped: positions in this dataset that are left out.
        """
        self.dataset = dataset
        self.train = dataset.split("train")
        self.validation = dataset.split("validation")
        self.config = config
        self.reads = tuple(reads)
        self.seed = seed
        self.data_rank = data_rank
        self.start = start
        self.skipped = skipped
        self.micro_batch, self.accumulation = config.batch_plan(data_rank.size)
        self._epoch: tuple[int, Order] | None = None
        check_columns(dataset, reads)
        self.budget = TokenBudget.of(dataset, reads, config.micro_tokens) if config.micro_tokens else None
        recipe = dataset.manifest.recipe
        self._mask = EachEpoch(recipe, dataset.tokenizer_path) if drawn_each_epoch(recipe) else None
        self._mask_weights: Callable[[int], np.ndarray] | None = None
        for name in ("causal_every", "adaptive_masking_every"):
            if (value := getattr(config, name)) and self._mask is None:
                raise DatasetError(
                    f"{dataset.path}: has masks in its rows, but data.{name} {value} needs the text as it is; prepare "
                    "the corpus with corrupt.drawn = 'each_epoch', or remove the setting"
                )
        if self.train.rows == 0:
            raise DatasetError(f"{dataset.path}: the train split has no rows; prepare it from more text")

    @property
    def message(self) -> str:
        """A warning about the batch size, empty if there is none."""
        if self.train.rows >= self.config.global_batch:
            return ""
        return (
            f"data.global_batch {self.config.global_batch} is larger than the {self.train.rows:,} training rows: each "
            "step sees some of them several times"
        )

    def position(self, step: int) -> int:
        """Return how many sequences of this dataset are consumed or skipped before optimizer step ``step`` (from 0)."""
        return self.skipped.after(self.start.sample, (step - self.start.step) * self.config.global_batch)

    def begin(self, number: int, fraction: float) -> None:
        """Do nothing: no setting of the data changes over the run."""

    def accumulation_of(self, size: int) -> int:
        """Return the micro-batches of each process in a step of ``size`` sequences, a multiple of the global batch."""
        return self.accumulation * (size // self.config.global_batch if self.config.micro_batch else 1)

    @property
    def draws_masks(self) -> bool:
        """Whether masks are drawn in training."""
        return self._mask is not None

    def set_mask_weights(self, weights: Callable[[int], np.ndarray]) -> None:
        """Mask tokens in training by ``weights`` of the optimizer step, float32 [V]; see ``corrupt``."""
        self._mask_weights = weights

    def opener(self) -> "Callable[[], Batches]":
        """Return what makes the same batches in another process: memory maps cannot be sent to it."""
        position = self.start, self.skipped
        return partial(_reopened, self.dataset.path, self.config, self.reads, self.seed, self.data_rank, *position)

    def samples(self, step: int) -> tuple[Samples, ...]:
        """Return the positions of optimizer step ``step`` (from 0)."""
        return tuple(self.skipped.pieces(self.position(step), self.config.global_batch))

    def rows(self, step: int) -> list[np.ndarray]:
        """Return the row numbers of optimizer step ``step`` (from 0) in their order; see ``rows_of``."""
        return self.rows_of(self.samples(step), self.config.global_batch)

    def micro_batch_rows(self, step: int) -> list[np.ndarray]:
        """Return the row numbers of each micro-batch of optimizer step ``step`` (from 0): those of process 0, 1, ...
        for their first micro-batch, then for their second one, and so on."""
        return self.in_micro_batches(self.rows(step))

    def dataset_of(self, step: int) -> Dataset:
        """Return the dataset that optimizer step ``step`` (from 0) reads."""
        return self.dataset

    def in_micro_batches(self, rows_of_each: list[np.ndarray]) -> list[np.ndarray]:
        """Return what ``rows_of`` returned as an array for each micro-batch, also with a token budget."""
        if self.budget is None:
            return rows_of_each
        rows = np.concatenate(rows_of_each)
        return [rows[part] for part in self.budget.parts(self.train, rows)]

    def rows_of(self, samples: Iterable[Samples], size: int) -> list[np.ndarray]:
        """Return the row numbers of ``size`` sequences at ``samples``, an array for each micro-batch; with a token
        budget, whose micro-batches follow from the rows, one array."""
        rows = np.concatenate([self._rows(*piece) for piece in samples])
        if self.budget is not None:
            return [rows]
        return np.split(rows, self.accumulation_of(size) * self.data_rank.size)

    def step(self, number: int) -> Iterator[Batch]:
        """Yield this process's micro-batches of optimizer step ``number`` (from 0)."""
        yield from self.batches_of(number, self.rows(number))

    def batches_of(
        self, number: int, rows_of_each: list[np.ndarray], mask_rate: float | None = None
    ) -> Iterator[Batch]:
        """Yield this process's micro-batches of a step, from the row numbers of each.

        Args:
            mask_rate: share of the text tokens that are predicted; None: the recipe's.
        """
        rows = np.concatenate(rows_of_each)
        micro_batches = len(rows_of_each) if self.budget is None else self.data_rank.size
        causal = is_causal(number, self.config.causal_every)
        weights = self._mask_weights(number) if self._mask_weights else None
        if causal:
            check_row_lengths(self.train, rows)
            columns = causal_columns(self.train.take(rows), self.dataset.manifest.tokenizer.special)
        else:
            columns = self._masked_columns(self.train, rows, self.seed, "masks of a step", number, mask_rate, weights)
        denominators = self._denominators(self.train, rows, micro_batches, columns)
        if self.budget is not None:
            yield from self._budgeted(self.budget.parts(self.train, rows), rows, denominators, columns, causal)
            return
        parts = np.split(np.arange(len(rows)), micro_batches)
        for part in parts[self.data_rank.rank :: self.data_rank.size]:
            yield self._batch(self.train, rows, part, denominators, columns, causal)

    def _budgeted(
        self,
        parts: list[np.ndarray],
        rows: np.ndarray,
        denominators: dict[str, float],
        columns: Columns | None,
        causal: bool,
    ) -> Iterator[Batch]:
        """Yield this process's micro-batches; all processes have the same number of them."""
        rounds = -(-len(parts) // self.data_rank.size)
        for number in range(rounds):
            index = number * self.data_rank.size + self.data_rank.rank
            batch = self._batch(self.train, rows, parts[index % len(parts)], denominators, columns, causal)
            if index >= len(parts):
                batch = without_weight(batch)
            yield replace(batch, ends_step=number == rounds - 1)

    def validation_batches(self, limit: int) -> Iterator[Batch]:
        """Yield this process's part of the first ``limit`` validation rows.

        Losses summed over all batches of all processes are exact means.
        """
        rows = np.arange(min(limit, self.validation.rows))
        # The dataset's seed, so that runs with different seeds are compared on the same masks.
        columns = self._masked_columns(self.validation, rows, self.dataset.manifest.seed, "masks of validation", 0)
        denominators = self._denominators(self.validation, rows, 1, columns)
        size = self.micro_batch
        parts = [np.arange(start, min(start + size, len(rows))) for start in range(0, len(rows), size)]
        if self.budget is not None:
            parts = self.budget.parts(self.validation, rows)
        for first in range(0, len(parts), self.data_rank.size):
            index = first + self.data_rank.rank
            if index < len(parts):
                yield self._batch(self.validation, rows, parts[index], denominators, columns)
            else:
                # All processes must run the same number of forward passes; a surplus one has no weight.
                yield self._batch(self.validation, rows, parts[0], dict.fromkeys(denominators, float("inf")), columns)

    def _rows(self, first: int, last: int) -> np.ndarray:
        """Return the rows at positions [first, last) of the endless stream: each epoch is a new order of all rows."""
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

    def _masked_columns(
        self,
        split: Split,
        rows: np.ndarray,
        seed: int,
        purpose: str,
        number: int,
        mask_rate: float | None = None,
        weights: np.ndarray | None = None,
    ) -> Columns | None:
        """Return all columns of ``rows`` with new masks; None if the dataset has its masks already.

        Every process masks the whole global batch: only then is the number of predictions of all processes known, and
        the masks do not depend on the layout.
        """
        if self._mask is None:
            return None
        check_row_lengths(split, rows)
        return self._mask(split.take(rows), seed, purpose, number, mask_rate, weights)

    def _denominators(
        self, split: Split, rows: np.ndarray, micro_batches: int, columns: Columns | None
    ) -> dict[str, float]:
        """Return the entries of each column that a mean is taken over, per micro-batch."""

        def entries(name: str) -> float:
            source, fewer = COLUMNS[name].source, COLUMNS[name].fewer_per_row * len(rows)
            if columns is None:
                return float(split.lengths_of(source, rows).sum() - fewer)
            column = columns[source]
            return float(len(column.values if isinstance(column, Ragged) else column) - fewer)

        names = [name for name in ("tokens", *self.reads) if COLUMNS[name].is_averaged_over]
        return {name: entries(name) / micro_batches for name in names}

    def _batch(
        self,
        split: Split,
        rows: np.ndarray,
        part: np.ndarray,
        denominators: dict[str, float],
        masked: Columns | None,
        causal: bool = False,
    ) -> Batch:
        """Return the batch of ``rows[part]``, short rows first."""
        check_row_lengths(split, rows[part])
        lengths = split.lengths_of("tokens", rows[part])
        by_length = part[np.argsort(lengths, kind="stable")]
        if masked is None:
            columns = split.take(rows[by_length])
        else:
            columns = {name: take(column, by_length) for name, column in masked.items()}
        check_row_values(split, rows[by_length], columns, self.dataset.manifest.tokenizer.vocabulary_size)
        if self.budget is not None:
            return self.budget.batch(columns, denominators, causal=causal)
        batch = assemble(columns, self.reads, denominators, self.dataset.manifest.tokenizer.special["pad"])
        return replace(batch, causal=causal)


def _reopened(path: Path, *arguments: Any) -> Batches:
    # The run has verified the checksums.
    return Batches(open_dataset(path, verify=False), *arguments)
