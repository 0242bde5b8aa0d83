"""A packed batch and its shapes.

Shape suffixes, here and in every file of ``pretrain``:
    T tokens of a packed batch, S keys, U tokens of all targets, B sequences, L tokens of the longest one, D width,
    H heads, K head width, F feed-forward width, V vocabulary, P predicted positions, E experts, N distinct tokens.

A batch is packed: the tokens of whole sequences are concatenated along one axis T, and ``cu_seqlens_B1`` has the start
of each sequence. There is no padding, so none is computed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

IGNORED = -1
"""Label of a prediction that counts for nothing."""


def on_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy ``tensor`` to ``device`` without waiting for what the device is computing."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


class LengthGroup(NamedTuple):
    """Consecutive sequences of a packed batch that ``grouped_attention`` processes in one call."""

    start: int
    """First token."""
    end: int
    """One past the last token."""
    lengths: tuple[int, ...]
    """Tokens of each sequence of the group."""
    least_width: int = 0
    """Tokens that each is padded to at least."""

    @property
    def width(self) -> int:
        """Tokens that each sequence is padded to."""
        return max(self.least_width, *self.lengths)


@dataclass(frozen=True)
class Layout:
    """The boundaries of the sequences of a packed batch; made once for a batch and read by every layer."""

    cu_seqlens_B1: Tensor
    """int32 [B + 1]: sequence b is ``tokens[cu_seqlens_B1[b]:cu_seqlens_B1[b + 1]]``."""
    longest: int
    """Tokens of the longest sequence."""
    groups: tuple[LengthGroup, ...]
    """All sequences that are not empty, in order, in groups of similar length. Tokens after the last one belong to no
    sequence, count for nothing and attend to nothing (``pretrain/data/repeated_sizes.py``)."""
    dummies: int = 0
    """Sequences at the end that count for nothing (``pretrain/data/token_budget.py``)."""

    @property
    def sequences(self) -> int:
        return len(self.cu_seqlens_B1) - 1

    @property
    def has_equal_lengths(self) -> bool:
        """Whether all sequences have the length of the longest one."""
        grouped = sum(len(group.lengths) for group in self.groups)
        return grouped == self.sequences and all(min(group.lengths) == self.longest for group in self.groups)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of each sequence that counts and is not empty."""
        lengths = [length for group in self.groups for length in group.lengths]
        return tuple(lengths[: max(0, len(lengths) - self.dummies)])

    @property
    def starts_B(self) -> Tensor:
        """int64 [B]: the position of each sequence's first token."""
        return self.cu_seqlens_B1[:-1].long()

    @property
    def ends_B(self) -> Tensor:
        """int64 [B]: the position of each sequence's last token."""
        return self.cu_seqlens_B1[1:].long() - 1

    @property
    def merged(self) -> "Layout":
        """The same sequences in one group: more padding, one call of attention."""
        lengths = tuple(length for group in self.groups for length in group.lengths)
        end = self.groups[-1].end if self.groups else 0
        return replace(self, groups=(LengthGroup(0, end, lengths),))

    def to(self, device: torch.device) -> "Layout":
        # A GPU computes padding faster than its host starts the calls of a loop over groups.
        placed = self.merged if device.type == "cuda" else self
        return replace(placed, cu_seqlens_B1=on_device(self.cu_seqlens_B1, device))


@dataclass(frozen=True)
class Batch:
    """Named tensors of one packed micro-batch, and the denominators of its losses."""

    layout: Layout
    columns: Mapping[str, Tensor]
    """By column name: per token [T], prediction [P], sequence [B], target token [U] or distinct token [N]; the table is
    in ``pretrain/data/columns.py``."""
    denominators: Mapping[str, float] = field(default_factory=dict)
    """By column name: entries of that column in the global batch, divided by the number of micro-batches in it.

    If each micro-batch's summed loss is divided by it, the mean over all micro-batches is the exact mean over the
    global batch, whatever the parallel layout."""
    targets: Layout | None = None
    """Of the decoder's target sequences, one for each sequence of ``layout`` and in the same groups."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """By column name, where the column has entries that count for nothing: how many do count."""
    causal: bool = False
    """A bidirectional model attends to earlier tokens only (``pretrain/data/causal_steps.py``)."""
    ends_step: bool | None = None
    """Whether it is this process's last one of an optimizer step; None: each step has the same number of them."""

    def __getitem__(self, column: str) -> Tensor:
        return self.columns[column]

    @property
    def tokens(self) -> int:
        return self.count("tokens")

    def count(self, column: str) -> int:
        """Return how many entries of a column count."""
        return self.counts.get(column, len(self.columns[column]))

    def to(self, device: torch.device) -> "Batch":
        columns = {name: on_device(column, device) for name, column in self.columns.items()}
        targets = self.targets.to(device) if self.targets is not None else None
        return replace(self, layout=self.layout.to(device), columns=columns, targets=targets)
