"""A packed batch, with its shapes.

Shape suffixes, here and in every file of this stage:
    T tokens of a packed batch, S keys, U tokens of all targets, B sequences, L tokens of the longest one, D width,
    H heads, K head width, F feed-forward width, V vocabulary, P predicted positions, E experts.

A batch is packed: the tokens of whole sequences lie end to end in one axis T, and ``cu_seqlens`` says where each
sequence starts. No padding exists, so none is computed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor


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

    cu_seqlens_B1: Tensor
    """int32 [B + 1]: sequence b is ``tokens[boundaries[b]:boundaries[b + 1]]``."""
    longest: int
    """Tokens of the longest sequence."""
    groups: tuple[LengthGroup, ...]
    """The sequences in runs of similar length, in order, covering all of T."""

    @property
    def sequences(self) -> int:
        return len(self.cu_seqlens_B1) - 1

    @property
    def starts_B(self) -> Tensor:
        """int64 [B]: the position of each sequence's first token."""
        return self.cu_seqlens_B1[:-1].long()

    @property
    def ends_B(self) -> Tensor:
        """int64 [B]: the position of each sequence's last token."""
        return self.cu_seqlens_B1[1:].long() - 1

    def to(self, device: torch.device) -> "Layout":
        return Layout(self.cu_seqlens_B1.to(device, non_blocking=True), self.longest, self.groups)


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
    targets: Layout | None = None
    """Where the texts lie that a decoder writes, one for each sequence; its groups hold the same sequences as those of
    ``layout``."""

    def __getitem__(self, column: str) -> Tensor:
        return self.columns[column]

    @property
    def tokens(self) -> int:
        return len(self.columns["tokens"])

    def to(self, device: torch.device) -> "Batch":
        columns = {name: column.to(device, non_blocking=True) for name, column in self.columns.items()}
        targets = self.targets.to(device) if self.targets is not None else None
        return Batch(self.layout.to(device), columns, self.denominators, targets)
