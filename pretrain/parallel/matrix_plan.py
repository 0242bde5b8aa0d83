"""Which process computes which matrix, and which ranges of matrices are sent to it.

A unit is what one process computes at once: a parameter, or one expert of a parameter that has several. All processes
make the same plan from what each of them holds.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

import torch

ENTRIES_AT_ONCE = 2**26
"""Entries (128 MiB in bf16) of matrices that a process receives or computes at once, if no unit is larger."""


class Holding(NamedTuple):
    """The range of one parameter that a process updates."""

    group: Hashable
    """The same in the processes that have one copy of the parameter together."""
    part: int
    """Tensor-parallel part."""
    start: int
    """In the flattened part."""
    length: int
    offset: int
    """Of the range in the process's flat tensor."""


class Piece(NamedTuple):
    """Entries of a unit that a process has."""

    rank: int
    part: int
    start: int
    """In the unit's flattened part."""
    length: int
    offset: int
    """In the process's flat tensor."""


class Unit(NamedTuple):
    slot: int
    """Number of the parameter."""
    shape: torch.Size
    """Of one tensor-parallel part."""
    owner: int
    """Rank of the process that computes it."""
    pieces: tuple[Piece, ...]

    @property
    def is_cut(self) -> bool:
        return len(self.pieces) > 1


def plan_units(
    slot: int, shape: torch.Size, is_stacked: bool, by_rank: Sequence[Holding], loads: list[int]
) -> list[Unit]:
    """Divide a parameter into units, and give each to the least busy process of those that have most of it.

    Args:
        shape: of one tensor-parallel part of it.
        is_stacked: its first dimension counts units.
        by_rank: what each process has of it.
        loads: work of each process so far; changed.
    """
    count = shape[0] if is_stacked else 1
    unit_shape = torch.Size((1, *shape[1:])) if is_stacked else shape
    entries, units = unit_shape.numel(), []
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for rank, holding in enumerate(by_rank):
        groups[holding.group].append(rank)
    for ranks in groups.values():
        for number in range(count):
            pieces = tuple(_pieces(ranks, by_rank, number * entries, entries))
            most = max(piece.length for piece in pieces)
            owner = min((piece.rank for piece in pieces if piece.length == most), key=loads.__getitem__)
            # A product of a matrix with its transpose costs its entries times its smaller side.
            loads[owner] += entries * min(unit_shape)
            units.append(Unit(slot, unit_shape, owner, pieces))
    return units


class Round(NamedTuple):
    """What one process sends, receives and computes of some cut units."""

    sent: list[tuple[int, Piece]]
    """(slot, piece) that it sends, in order of the receiver."""
    sent_sizes: list[int]
    """Entries to each process."""
    received: list[Piece]
    received_sizes: list[int]
    units: list[tuple[Unit, list[int]]]
    """Units that it computes, and which of ``received`` are their pieces."""

    @classmethod
    def of(cls, units: Sequence[Unit], rank: int, processes: int) -> "Round":
        sent = [
            (unit.slot, piece, unit.owner)
            for unit in sorted(units, key=lambda unit: unit.owner)
            for piece in unit.pieces
            if piece.rank == rank
        ]
        own = [unit for unit in units if unit.owner == rank]
        # In the order in which each sender has them.
        received = sorted(
            ((piece, number) for number, unit in enumerate(own) for piece in unit.pieces), key=lambda pair: pair[0].rank
        )
        numbers: list[list[int]] = [[] for _ in own]
        for index, (_, number) in enumerate(received):
            numbers[number].append(index)
        return cls(
            [(slot, piece) for slot, piece, _ in sent],
            _sizes(((owner, piece) for _, piece, owner in sent), processes),
            [piece for piece, _ in received],
            _sizes(((piece.rank, piece) for piece, _ in received), processes),
            list(zip(own, numbers, strict=True)),
        )


def rounds(units: Iterable[Unit], rank: int, processes: int) -> list[Round]:
    """Divide cut units into rounds: in each, every process sends and receives about ``ENTRIES_AT_ONCE`` entries."""
    parts: list[list[Unit]] = []
    entries = 0
    for unit in units:
        size = sum(piece.length for piece in unit.pieces)
        if not parts or entries + size > ENTRIES_AT_ONCE * processes:
            parts.append([])
            entries = 0
        parts[-1].append(unit)
        entries += size
    return [Round.of(part, rank, processes) for part in parts]


def _sizes(pieces: Iterable[tuple[int, Piece]], processes: int) -> list[int]:
    sizes = [0] * processes
    for process, piece in pieces:
        sizes[process] += piece.length
    return sizes


def _pieces(ranks: list[int], by_rank: Sequence[Holding], begin: int, entries: int) -> Iterable[Piece]:
    """Yield what each of ``ranks`` has of the entries from ``begin``."""
    for rank in ranks:
        held = by_rank[rank]
        first, last = max(held.start, begin), min(held.start + held.length, begin + entries)
        if first < last:
            yield Piece(rank, held.part, first - begin, last - first, held.offset + first - held.start)
