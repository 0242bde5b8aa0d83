"""Which tokens of a packed batch attend to which: causal order, window, rotary angles, bias and padding."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from sesame.pretrain.batch import Layout, LengthGroup, on_device
from sesame.pretrain.layers.padded_heads import PaddedGroup, padded_groups
from sesame.pretrain.layers.positions import Angles


@dataclass(frozen=True)
class AttentionPattern:
    """Which keys each query attends to, and positions; made once for a batch and shared by its layers."""

    query_layout: Layout
    key_layout: Layout
    """Of the same sequences in the same groups; the same object as ``query_layout`` in self-attention."""
    causal: bool = False
    """A query attends only to keys at or before its position."""
    window: int = 0
    """Largest distance of a key, in tokens; 0: no limit (Sparse Transformer's local band, Child et al. 2019)."""
    rotary_angles: Angles | None = None
    """Of queries and keys."""
    added_values_SD: Tensor | None = None
    """Added to the values of all heads, [S, D]: value embeddings of the key tokens."""
    bias_HLL: Tensor | None = None
    """Added to the scores, by head, query position and key position; L is the longest sequence."""

    def __post_init__(self) -> None:
        if self.bias_HLL is not None:
            # Not in the first block that reads it: a recomputed block must do the same in both passes.
            _ = self.masks

    @cached_property
    def masks(self) -> list[Tensor | None]:
        """The mask of each group of sequences, added to its scores: [B or 1, H or 1, L, S], or None."""
        return [
            self._mask(queries, keys)
            for queries, keys in zip(self.query_layout.groups, self.key_layout.groups, strict=True)
        ]

    def padded_groups(self, heads: int) -> tuple[list[PaddedGroup], list[PaddedGroup]]:
        """Return the groups of queries and of keys, with the rows that are copied to their padded blocks."""
        if heads not in self._padded_groups:
            queries, keys = self.query_layout, self.key_layout
            query_groups = padded_groups(queries, heads)
            self._padded_groups[heads] = query_groups, query_groups if keys is queries else padded_groups(keys, heads)
        return self._padded_groups[heads]

    @cached_property
    def _padded_groups(self) -> dict[int, tuple[list[PaddedGroup], list[PaddedGroup]]]:
        """By number of heads."""
        return {}

    @property
    def is_banded(self) -> bool:
        """Whether the window masks keys that causal order does not."""
        return 0 < self.window < max(self.query_layout.longest, self.key_layout.longest) - 1

    @property
    def has_equal_lengths(self) -> bool:
        """Whether all sequences of queries have one length, and all of keys."""
        return self.query_layout.has_equal_lengths and self.key_layout.has_equal_lengths

    def _mask(self, queries: LengthGroup, keys: LengthGroup) -> Tensor | None:
        longest, device = (queries.width, keys.width), self.query_layout.cu_seqlens_B1.device
        masked = []
        # Padding comes after the tokens of a sequence, so a causal mask covers it.
        if not self.causal and min(keys.lengths) < longest[1]:
            is_padding = torch.arange(longest[1]) >= torch.tensor(keys.lengths)[:, None]
            masked.append(on_device(is_padding[:, None, None, :], device))
        banded = self.window > 0 and max(longest) > self.window + 1
        if self.causal or banded:
            distance = torch.arange(longest[1], device=device) - torch.arange(longest[0], device=device)[:, None]
            later = (distance > 0) & self.causal
            masked.append((later | (distance.abs() > self.window) if banded else later)[None, None])
        if not masked and self.bias_HLL is None:
            return None
        if self.bias_HLL is None:
            scores = torch.zeros((), device=device)
        else:
            scores = self.bias_HLL[None, :, : longest[0], : longest[1]]
        for mask in masked:
            scores = torch.where(mask, MASKED_SCORE, scores)
        return scores


MASKED_SCORE = -1e30
"""Finite, because all keys of a padding query can be masked, and its softmax must not be NaN."""
