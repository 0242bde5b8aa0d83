"""The roles of the pretraining stage, with their shapes.

Shape suffixes, here and in every file of this stage:
    T tokens of a packed batch, B sequences, D width, H heads, K head width, F feed-forward width, V vocabulary,
    P predicted positions.

A batch is packed: the tokens of whole sequences lie end to end in one axis T, and ``boundaries`` says where each
sequence starts. No padding exists, so none is computed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor, nn


class LengthGroup(NamedTuple):
    """Neighbouring sequences of a packed batch that attention handles in one call (the CPU path)."""

    start: int
    """First token."""
    end: int
    """One past the last token."""
    lengths: tuple[int, ...]
    """Tokens of each sequence of the group."""


@dataclass(frozen=True)
class Layout:
    """Where the sequences of a packed batch lie. Made once for a batch and read by every layer."""

    boundaries_B1: Tensor
    """int32 [B + 1]: sequence b is ``tokens[boundaries[b]:boundaries[b + 1]]``."""
    longest: int
    """Tokens of the longest sequence."""
    groups: tuple[LengthGroup, ...]
    """The sequences in runs of similar length, in order, covering all of T."""

    @property
    def sequences(self) -> int:
        return len(self.boundaries_B1) - 1

    @property
    def starts_B(self) -> Tensor:
        """int64 [B]: the position of each sequence's first token."""
        return self.boundaries_B1[:-1].long()


@dataclass(frozen=True)
class Batch:
    """Named tensors of one packed micro-batch, and what they are to be averaged over."""

    layout: Layout
    columns: Mapping[str, Tensor]
    """By column name: per token [T], per prediction [P] or per sequence [B]; the table is in ``batches.py``."""
    denominators: Mapping[str, float] = field(default_factory=dict)
    """By column name: entries of that column in the GLOBAL batch, divided by the number of micro-batches in it.

    A loss summed over this micro-batch and divided by it is, after the mean over all micro-batches, the exact mean
    over the global batch, whatever the layout."""

    def __getitem__(self, column: str) -> Tensor:
        return self.columns[column]

    @property
    def tokens(self) -> int:
        return len(self.columns["tokens"])

    def to(self, device: torch.device) -> "Batch":
        boundaries_B1 = self.layout.boundaries_B1.to(device, non_blocking=True)
        layout = Layout(boundaries_B1, self.layout.longest, self.layout.groups)
        columns = {name: column.to(device, non_blocking=True) for name, column in self.columns.items()}
        return Batch(layout, columns, self.denominators)


class Encoded(NamedTuple):
    """What a backbone makes of a batch."""

    hidden_TD: Tensor
    """The last layer's state of each token."""


class Backbone(Protocol):
    """A model family without a head: ``forward(batch) -> Encoded``."""

    reads: ClassVar[tuple[str, ...]]
    """Batch columns that forward reads."""
    width: int
    token_embedding: nn.Embedding
    """Objectives that predict tokens tie their projection to it."""

    def __call__(self, batch: Batch) -> Encoded: ...


class Objective(Protocol):
    """A head with its loss: ``forward(encoded, batch) -> loss``, the sum over entries of ``label_column``."""

    reads: ClassVar[tuple[str, ...]]
    """Batch columns that forward reads."""
    label_column: ClassVar[str]
    """The column whose number of entries the summed loss is divided by."""

    def __call__(self, encoded: Encoded, batch: Batch) -> Tensor: ...
