"""Rows of a dataset -> one packed batch of named tensors: sequences end to end, and where each of them is."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from sesame.data_pipeline.ragged import Column, Ragged, boundaries
from sesame.pretrain.batch import Batch, Layout, LengthGroup
from sesame.pretrain.data.columns import COLUMNS, DatasetRows

SIMILAR_LENGTH = 0.75
"""Sequences of at least this share of the longest one's length are in one call of attention, shorter ones in others."""
EQUAL_LENGTHS = 4
"""So many neighbours of equal length are a group of their own, which needs no padding."""


def assemble(
    columns: Mapping[str, Column], reads: Sequence[str], denominators: Mapping[str, float], start_token: int = 0
) -> Batch:
    """Make a packed batch, without a loop over sequences.

    Args:
        columns: dataset columns of its rows.
        reads: batch columns to make beside ``tokens``.
        start_token: what a decoder reads before its first target (T5: the padding token).
    """
    rows = DatasetRows(columns, start_token)
    names = tuple(dict.fromkeys(("tokens", *reads)))
    tensors = {name: _int64(COLUMNS[name].make(rows)) for name in names}
    tokens = layout(rows.lengths_B)
    has_targets = any(COLUMNS[name].axis == "U" for name in names)
    targets = layout_like(tokens, np.diff(rows.ragged("target_tokens").offsets)) if has_targets else None
    return Batch(tokens, tensors, denominators, targets)


def pack(sequences: Sequence[np.ndarray], first_segment_lengths: Sequence[int], **columns: np.ndarray) -> Batch:
    """Make a packed batch of token id arrays, in their order; ``columns`` (per sequence) are added unchanged."""
    offsets = boundaries(np.array([len(sequence) for sequence in sequences]))
    rows: dict[str, Column] = {
        "tokens": Ragged(np.concatenate(sequences), offsets),
        "first_segment_length": np.asarray(first_segment_lengths),
    }
    batch = assemble(rows, ("tokens", "positions", "segments", "distinct_tokens", "distinct_numbers"), {})
    extra = {name: torch.from_numpy(np.ascontiguousarray(column)) for name, column in columns.items()}
    return Batch(batch.layout, {**batch.columns, **extra})


def layout(lengths: np.ndarray) -> Layout:
    """Return the boundaries and length groups of sequences that lie end to end."""
    cu_seqlens = boundaries(lengths)
    groups, first = [], _leading_empty(lengths)
    while first < len(lengths):
        last = _group_end(lengths, first)
        groups.append(_length_group(cu_seqlens, lengths, first, last))
        first = last
    return Layout(torch.from_numpy(cu_seqlens.astype(np.int32)), int(lengths.max(initial=0)), tuple(groups))


def layout_like(other: Layout, lengths: np.ndarray) -> Layout:
    """Return the layout of sequences of other ``lengths``, grouped as the sequences of ``other`` are."""
    cu_seqlens = boundaries(lengths)
    groups, first = [], other.sequences - sum(len(group.lengths) for group in other.groups)
    for group in other.groups:
        last = first + len(group.lengths)
        groups.append(_length_group(cu_seqlens, lengths, first, last))
        first = last
    return Layout(torch.from_numpy(cu_seqlens.astype(np.int32)), int(lengths.max(initial=0)), tuple(groups))


def _leading_empty(lengths: np.ndarray) -> int:
    """Return how many sequences at the beginning have no tokens; they are in no group."""
    return int((np.cumsum(lengths) == 0).sum())


def _length_group(cu_seqlens: np.ndarray, lengths: np.ndarray, first: int, last: int) -> LengthGroup:
    group_lengths = tuple(int(length) for length in lengths[first:last])
    return LengthGroup(int(cu_seqlens[first]), int(cu_seqlens[last]), group_lengths)


def _group_end(lengths: np.ndarray, first: int) -> int:
    """Return one past the last sequence that is grouped with ``first``: several of equal length, else similar ones."""
    equal = first + 1
    while equal < len(lengths) and lengths[equal] == lengths[first]:
        equal += 1
    if equal - first >= EQUAL_LENGTHS:
        return equal
    similar, shortest, longest = first + 1, lengths[first], lengths[first]
    while similar < len(lengths):
        shortest, longest = min(shortest, lengths[similar]), max(longest, lengths[similar])
        if shortest < SIMILAR_LENGTH * longest:
            break
        similar += 1
    return similar


def _int64(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.int64))
