"""From packed tokens to one padded block of all heads for each group of sequences, and back.

Each direction copies a row of K entries once, from its token to its head's sequence or back; the gradient takes the
other direction. Separate steps of padding, exchange of axes and joining of groups would copy three times.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from sesame.pretrain.batch import Layout, LengthGroup, on_device


class Rows(NamedTuple):
    """Which rows of K entries are copied between a packed [T, H, K] and a block [B, H, L, K] of unequal lengths."""

    packed: Tensor
    """int64 [B H L]: for each row of the block its row of [T H]; for padding one of the first token of the sequence."""
    padded: Tensor
    """int64 [t H]: for each row of the group's tokens its row of the block."""
    padding: Tensor
    """int64: rows of the block that are padding."""


class PaddedGroup(NamedTuple):
    """A group of sequences and its block."""

    start: int
    end: int
    """One past the last token."""
    sequences: int
    rows: Rows | None
    """None: all sequences fill the block."""

    @classmethod
    def of(cls, group: LengthGroup, heads: int, layout: Layout) -> "PaddedGroup":
        place = group.start, group.end, len(group.lengths)
        if min(group.lengths) == group.width:
            return cls(*place, None)
        lengths, positions = np.array(group.lengths), np.arange(group.width)
        is_token_BL = positions < lengths[:, None]
        starts_B = group.start + np.cumsum(lengths) - lengths
        token_BL = starts_B[:, None] + positions * is_token_BL
        head_H = np.arange(heads)
        packed_BHL = token_BL[:, None] * heads + head_H[:, None]
        block_BHL = np.arange(packed_BHL.size).reshape(packed_BHL.shape)
        is_token_BHL = np.broadcast_to(is_token_BL[:, None], packed_BHL.shape)
        padded_tH = block_BHL.transpose(0, 2, 1)[is_token_BL]
        indices = packed_BHL, padded_tH, np.flatnonzero(~is_token_BHL)
        device = layout.cu_seqlens_B1.device
        return cls(*place, Rows(*(on_device(torch.from_numpy(each.ravel()), device) for each in indices)))


def padded_groups(layout: Layout, heads: int) -> list[PaddedGroup]:
    """Return the groups of a layout; made once for a batch."""
    return [PaddedGroup.of(group, heads, layout) for group in layout.groups]


def pad_heads(states_THK: Tensor, groups: Sequence[PaddedGroup]) -> tuple[Tensor, ...]:
    """Return a block [B, H, L, K] for each group, with zeros after shorter sequences."""
    return cast(tuple[Tensor, ...], _PadHeads.apply(states_THK, groups))


def pack_heads(blocks: Sequence[Tensor], groups: Sequence[PaddedGroup], tokens: int) -> Tensor:
    """Return [T, H, K] of the blocks' tokens, with zeros for tokens after the last group."""
    return cast(Tensor, _PackHeads.apply(groups, tokens, *blocks))


class _PadHeads(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states_THK: Tensor, groups: Sequence[PaddedGroup]) -> tuple[Tensor, ...]:
        ctx.groups, ctx.tokens = groups, len(states_THK)
        return _padded(states_THK, groups)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _packed(gradients, ctx.groups, ctx.tokens), None


class _PackHeads(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, groups: Sequence[PaddedGroup], tokens: int, *blocks: Tensor) -> Tensor:
        ctx.groups = groups
        return _packed(blocks, groups, tokens)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *_padded(gradients[0], ctx.groups)


def _padded(states_THK: Tensor, groups: Sequence[PaddedGroup]) -> tuple[Tensor, ...]:
    blocks = []
    for group in groups:
        if group.rows is None:
            block_BLHK = states_THK[group.start : group.end].unflatten(0, (group.sequences, -1))
            blocks.append(block_BLHK.transpose(1, 2))
        else:
            rows = states_THK.flatten(0, 1).index_select(0, group.rows.packed)
            rows.index_fill_(0, group.rows.padding, 0.0)
            blocks.append(rows.view(group.sequences, states_THK.shape[1], -1, states_THK.shape[2]))
    return tuple(blocks)


def _packed(blocks: Sequence[Tensor], groups: Sequence[PaddedGroup], tokens: int) -> Tensor:
    if len(groups) == 1 and groups[0].rows is None and groups[0].end == tokens:
        return blocks[0].transpose(1, 2).flatten(0, 1)
    _, heads, _, head_width = blocks[0].shape
    states_THK = blocks[0].new_empty(tokens, heads, head_width)
    for block, group in zip(blocks, groups, strict=True):
        part_tHK = states_THK[group.start : group.end]
        if group.rows is None:
            part_tHK.unflatten(0, (group.sequences, -1)).copy_(block.transpose(1, 2))
        else:
            torch.index_select(block.reshape(-1, head_width), 0, group.rows.padded, out=part_tHK.flatten(0, 1))
    states_THK[groups[-1].end :] = 0.0
    return states_THK
