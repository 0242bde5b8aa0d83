"""Micro-batches of one shape: a fixed number of tokens, sequences, predictions and target tokens.

Whole rows of the global batch are packed; dummy sequences that count for nothing fill the rest, so that torch.compile
and CUDA graphs see one shape. A micro-batch is, in this order: empty sequences, which make the number of sequences
constant, the rows, and the dummies. How many micro-batches a step has follows from its rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from sesame.configs.errors import DatasetError
from sesame.data_pipeline.dataset.shards import Dataset, Split
from sesame.data_pipeline.examples.corrupt import drawn_each_epoch
from sesame.data_pipeline.ragged import Column, Columns, Ragged, boundaries, joined
from sesame.pretrain.batch import IGNORED, Batch, Layout
from sesame.pretrain.data.columns import COLUMNS
from sesame.pretrain.data.packing import assemble

RESERVE = 1.25
"""Room for sequences, predictions and targets, relative to their mean in so many tokens."""
SAMPLED_ROWS = 4096
"""First rows of the dataset, whose means are taken; all rows would take minutes at a billion."""
TARGET_MULTIPLE = 64
"""The longest target sequence is rounded up to a multiple of it."""


@dataclass(frozen=True)
class TokenBudget:
    """What every micro-batch has."""

    path: Path
    """Of the dataset, for messages."""
    reads: tuple[str, ...]
    """Batch columns that the model and its objectives read."""
    pad: int
    """Token of the dummies."""
    tokens: int
    longest: int
    """Tokens of the longest row."""
    sequences: int
    """Rows at most."""
    limits: Mapping[str, int]
    """Dataset column of predictions or targets -> its entries, those of dummies included."""
    drawn: float = 0.0
    """Share of the tokens that are predicted, if masks are drawn in training; 0: they are in the dataset."""

    @classmethod
    def of(cls, dataset: Dataset, reads: Sequence[str], tokens: int) -> "TokenBudget":
        """Return the budget of micro-batches of ``tokens`` tokens.

        Raises:
            DatasetError: a row may not fit.
        """
        recipe, train = dataset.manifest.recipe, dataset.split("train")
        sample = np.arange(min(SAMPLED_ROWS, train.rows))
        lengths = train.lengths_of("tokens", sample)
        longest = max(recipe.get("segment", {}).get("sequence_length", 0), int(lengths.max(initial=1)))
        if tokens < longest + -(-tokens // longest):
            raise DatasetError(
                f"{dataset.path}: has rows of up to {longest} tokens, which do not fit into data.micro_tokens "
                f"{tokens}; set it to {longest + 2} or more, best to several times {longest}"
            )

        def room(entries: float) -> int:
            """Entries of ``tokens`` tokens where the sample has ``entries``."""
            return int(RESERVE * entries / lengths.sum() * tokens) + longest

        sources = {COLUMNS[name].source for name in reads} & {"mask_labels", "target_tokens"}
        limits = {name: room(float(train.lengths_of(name, sample).sum())) for name in sources & set(train.columns)}
        drawn = recipe["corrupt"].get("mask_probability", 0.15) if drawn_each_epoch(recipe) else 0.0
        if drawn:
            limits["mask_labels"] = room(drawn * lengths.sum())
        sequences = min(tokens, int(RESERVE * len(sample) / lengths.sum() * tokens) + 1)
        pad = dataset.manifest.tokenizer.special["pad"]
        return cls(dataset.path, tuple(reads), pad, tokens, longest, sequences, limits, drawn)

    @property
    def dummies(self) -> int:
        """Dummy sequences, none of which is longer than a row."""
        return -(-self.tokens // self.longest)

    def parts(self, split: Split, rows: np.ndarray) -> list[np.ndarray]:
        """Pack rows, the longest first, each into the first micro-batch that has room (first-fit decreasing).

        Returns:
            Indices of ``rows`` in each micro-batch; they depend on the rows alone.

        Raises:
            DatasetError: a row does not fit into an empty one.
        """
        sizes = [split.lengths_of("tokens", rows), np.ones(len(rows), np.int64)]
        room = [self.tokens - self.dummies, self.sequences]
        for name, limit in self.limits.items():
            is_drawn = name == "mask_labels" and self.drawn
            sizes.append(np.ceil(sizes[0] * self.drawn) + 1 if is_drawn else split.lengths_of(name, rows))
            room.append(limit - (self.dummies if name == "target_tokens" else 0))
        table = np.stack(sizes, axis=1).astype(np.int64)
        if (table > room).any():
            row = int(np.flatnonzero((table > room).any(axis=1))[0])
            raise DatasetError(
                f"{self.path}: row {rows[row]} has {table[row, 0]} tokens and does not fit into data.micro_tokens "
                f"{self.tokens}, of which {self.dummies} are reserved; raise it"
            )
        return first_fit_decreasing(table, np.array(room))

    def batch(self, columns: Columns, denominators: Mapping[str, float], *, causal: bool = False) -> Batch:
        """Return the micro-batch of rows, in their order.

        Args:
            causal: as many predictions as tokens (``causal_steps.py``), which is another shape.
        """
        tokens = columns["tokens"]
        assert isinstance(tokens, Ragged)
        rows, counted = len(tokens.lengths), {"tokens": len(tokens.values), "pair_labels": len(tokens.lengths)}
        empty = self.sequences - rows
        names = {COLUMNS[name].source for name in ("tokens", *self.reads)}
        if "target_tokens" in names:
            counted["target_labels"] = counted["decoder_tokens"] = _entries(columns["target_tokens"])
        filled = {name: self._fill(name, columns[name], empty) for name in names}
        batch = assemble(filled, self.reads, denominators, self.pad)
        tensors = {name: column.clone() for name, column in batch.columns.items()}
        if "pair_labels" in tensors:
            tensors["pair_labels"][:empty] = IGNORED
            tensors["pair_labels"][empty + rows :] = IGNORED
        if "target_labels" in tensors:
            tensors["target_labels"][counted["target_labels"] :] = IGNORED
        masked = self.tokens if causal else self.limits.get("mask_labels", 0)
        for kind, size in (("mask", masked), ("next", self.tokens)):
            if f"{kind}_labels" in tensors:
                made = self._predictions(tensors, kind, counted["tokens"], size)
                counted[f"{kind}_labels"] = counted[f"{kind}_positions"] = made
        layouts = [self._static(batch.layout, self.longest)]
        if batch.targets is not None:
            longest = -(-batch.targets.longest // TARGET_MULTIPLE) * TARGET_MULTIPLE
            layouts.append(self._static(batch.targets, longest))
        return Batch(layouts[0], tensors, denominators, *layouts[1:], counts=counted, causal=causal)

    def _static(self, layout: Layout, longest: int) -> Layout:
        return replace(layout, longest=max(longest, layout.longest), dummies=self.dummies)

    def _fill(self, name: str, column: Column, empty: int) -> Column:
        """Add empty rows before a dataset column and those of the dummies after it."""
        if not isinstance(column, Ragged):
            padding = [np.zeros(count, column.dtype) for count in (empty, self.dummies)]
            return joined([padding[0], column, padding[1]])
        size = {"tokens": self.tokens, "target_tokens": self.limits.get("target_tokens", 0)}.get(name)
        rest = 0 if size is None else size - len(column.values)
        shares = np.full(self.dummies, rest // self.dummies) + (np.arange(self.dummies) < rest % self.dummies)
        nothing = Ragged(column.values[:0], np.zeros(empty + 1, np.int64))
        return joined([nothing, column, Ragged(np.full(rest, self.pad, column.values.dtype), boundaries(shares))])

    def _predictions(self, tensors: dict[str, torch.Tensor], kind: str, real_tokens: int, size: int) -> int:
        """Lengthen positions and labels of predictions to ``size`` and return how many count."""
        positions, labels = tensors[f"{kind}_positions"], tensors[f"{kind}_labels"]
        count = int((positions < real_tokens).sum())
        if count > size:
            raise DatasetError(
                f"{self.path}: a micro-batch has {count} predictions, more than the {size} that were expected for "
                f"data.micro_tokens {self.tokens}; lower mask_probability or set data.micro_tokens to 0"
            )
        # Different positions, because gradients of equal ones would wait for one another.
        other = torch.arange(size - count) % max(1, self.tokens - 1)
        tensors[f"{kind}_positions"] = torch.cat([positions[:count], other])
        tensors[f"{kind}_labels"] = torch.cat([labels[:count], torch.full((size - count,), IGNORED)])
        return count


def without_weight(batch: Batch) -> Batch:
    """Return a batch that changes no loss, for a process that has none left while others have."""
    nothing = replace(batch.layout, dummies=batch.layout.sequences)
    targets = None if batch.targets is None else replace(batch.targets, dummies=batch.targets.sequences)
    labels = {name: torch.full_like(value, IGNORED) for name, value in batch.columns.items() if name.endswith("labels")}
    columns, counts = {**batch.columns, **labels}, dict.fromkeys(batch.counts, 0)
    return replace(batch, layout=nothing, columns=columns, targets=targets, counts=counts)


def first_fit_decreasing(sizes: np.ndarray, room: np.ndarray) -> list[np.ndarray]:
    """Return the indices of ``sizes`` [rows, kinds] in each of as few groups as needed of at most ``room`` [kinds]."""
    free = np.empty((len(sizes), len(room)), np.int64)
    groups: list[list[int]] = []
    for row in np.argsort(-sizes[:, 0], kind="stable"):
        fitting = (free[: len(groups)] >= sizes[row]).all(axis=1)
        if fitting.any():
            chosen = int(fitting.argmax())
        else:
            chosen = len(groups)
            groups.append([])
            free[chosen] = room
        groups[chosen].append(int(row))
        free[chosen] -= sizes[row]
    return [np.sort(np.array(group)) for group in groups]


def _entries(column: Column) -> int:
    return len(column.values if isinstance(column, Ragged) else column)
