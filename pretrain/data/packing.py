"""Rows -> one packed batch of named tensors: sequences end to end, and where each of them lies."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from data_pipeline.ragged import Ragged
from pretrain.batch import Batch, Layout, LengthGroup

PADDED_SHARE = 0.75
"""Sequences of at least this share of the longest one's length go through attention together, shorter ones apart."""


def assemble(
    columns: dict[str, np.ndarray | Ragged], reads: Sequence[str], denominators: dict[str, float], start_token: int = 0
) -> Batch:
    """Shard rows -> one packed batch, without a loop over sequences.

    Args:
        start_token: what a decoder reads before it writes its first token (T5: the padding token).
    """
    tokens = _ragged(columns["tokens"])
    starts, lengths = tokens.offsets[:-1], np.diff(tokens.offsets)
    following = _not_last(tokens) if {"next_positions", "next_labels"} & {*reads} else starts[:0]
    makers = {
        "tokens": lambda: tokens.values,
        "positions": lambda: np.arange(tokens.offsets[-1]) - np.repeat(starts, lengths),
        "segments": lambda: (
            np.arange(tokens.offsets[-1]) >= np.repeat(starts + columns["first_segment_length"], lengths)
        ),
        "mask_positions": lambda: _shifted(_ragged(columns["mask_positions"]), starts),
        "mask_labels": lambda: _ragged(columns["mask_labels"]).values,
        "pair_labels": lambda: columns["pair_labels"],
        "next_positions": lambda: following,
        "next_labels": lambda: tokens.values[following + 1],
        "decoder_tokens": lambda: _moved(_ragged(columns["target_tokens"]), start_token),
        "target_labels": lambda: _ragged(columns["target_tokens"]).values,
    }
    tensors = {name: _int64(makers[name]()) for name in dict.fromkeys(("tokens", *reads))}
    place = layout(lengths)
    writes = "decoder_tokens" in tensors
    targets = layout_like(place, np.diff(_ragged(columns["target_tokens"]).offsets)) if writes else None
    return Batch(place, tensors, denominators, targets)


def pack(sequences: Sequence[np.ndarray], first_segment_lengths: Sequence[int], **columns: np.ndarray) -> Batch:
    """Token id arrays -> a packed batch, in the order given; ``columns`` (per sequence) are passed through."""
    offsets = np.concatenate([[0], np.cumsum([len(sequence) for sequence in sequences])])
    rows: dict[str, np.ndarray | Ragged] = {
        "tokens": Ragged(np.concatenate(sequences), offsets),
        "first_segment_length": np.asarray(first_segment_lengths),
    }
    batch = assemble(rows, ("tokens", "positions", "segments"), {})
    extra = {name: torch.from_numpy(np.ascontiguousarray(column)) for name, column in columns.items()}
    return Batch(batch.layout, {**batch.columns, **extra})


def layout(lengths: np.ndarray) -> Layout:
    """Boundaries and length groups of sequences that lie end to end."""
    boundaries = np.concatenate([[0], np.cumsum(lengths)])
    groups, first = [], 0
    while first < len(lengths):
        last = _group_end(lengths, first)
        group = tuple(int(length) for length in lengths[first:last])
        groups.append(LengthGroup(int(boundaries[first]), int(boundaries[last]), group))
        first = last
    return Layout(
        torch.from_numpy(boundaries.astype(np.int32)), int(lengths.max()) if len(lengths) else 0, tuple(groups)
    )


def _group_end(lengths: np.ndarray, first: int) -> int:
    """One past the last neighbour that shares a call with sequence ``first``: equal ones, else similar ones."""
    equal = first + 1
    while equal < len(lengths) and lengths[equal] == lengths[first]:
        equal += 1
    if equal - first >= 4:
        return equal
    similar, shortest, longest = first + 1, lengths[first], lengths[first]
    while similar < len(lengths):
        shortest, longest = min(shortest, lengths[similar]), max(longest, lengths[similar])
        if shortest < PADDED_SHARE * longest:
            break
        similar += 1
    return similar


def layout_like(other: Layout, lengths: np.ndarray) -> Layout:
    """The layout of sequences of other ``lengths`` in groups of the same sequences as ``other``'s."""
    boundaries, groups, first = np.concatenate([[0], np.cumsum(lengths)]), [], 0
    for group in other.groups:
        last = first + len(group.lengths)
        together = tuple(int(length) for length in lengths[first:last])
        groups.append(LengthGroup(int(boundaries[first]), int(boundaries[last]), together))
        first = last
    return Layout(torch.from_numpy(boundaries.astype(np.int32)), int(lengths.max(initial=0)), tuple(groups))


def _ragged(column: np.ndarray | Ragged) -> Ragged:
    if not isinstance(column, Ragged):
        raise TypeError("a list column was expected")
    return column


def _shifted(positions: Ragged, starts: np.ndarray) -> np.ndarray:
    return positions.values.astype(np.int64) + np.repeat(starts, np.diff(positions.offsets))


def _not_last(tokens: Ragged) -> np.ndarray:
    """Index of each token that another one follows in its row."""
    follows = np.ones(len(tokens.values), bool)
    follows[tokens.offsets[1:] - 1] = False
    return np.flatnonzero(follows)


def _moved(targets: Ragged, start_token: int) -> np.ndarray:
    """Each row one place to the right, behind the start token."""
    moved = np.concatenate([[start_token], targets.values[:-1]])
    moved[targets.offsets[:-1]] = start_token
    return moved


def _int64(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.int64))
