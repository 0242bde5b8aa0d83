"""Rows of a parameter are each written by one process, and by one that has them where there is one."""

import random

import pytest

from sesame.pretrain.parallel.rows import Range, Turns, row_owners


def partition(draw: random.Random, entries: int, processes: int) -> list[Range]:
    """Cut ``entries`` at random places; some processes may have none."""
    cuts = sorted(draw.randrange(entries + 1) for _ in range(processes - 1))
    ranges = list(zip([0, *cuts], [*cuts, entries], strict=True))
    draw.shuffle(ranges)
    return ranges


@pytest.mark.parametrize("seed", range(50))
def test_every_row_is_owned_by_one_process_or_cut(seed: int) -> None:
    draw = random.Random(seed)
    rows, row_entries, processes = draw.randint(1, 12), draw.randint(1, 6), draw.randint(1, 5)
    ranges = partition(draw, rows * row_entries, processes)
    owners = [row_owners(own, ranges, rows, row_entries) for own in ranges]
    cut = {row for first, last in owners[0].cut for row in range(first, last)}
    assert all(each.cut == owners[0].cut for each in owners), "a collective needs the same rows in all"
    for row in range(rows):
        entries = set(range(row * row_entries, (row + 1) * row_entries))
        having = [rank for rank, (first, last) in enumerate(ranges) if entries <= set(range(first, last))]
        owning = [rank for rank, each in enumerate(owners) if row in range(*each.own)]
        assert owning == having
        assert (row in cut) == (not having)


def test_processes_with_the_same_rows_take_turns_by_size() -> None:
    sizes = [100, 1, 100, 1, 100, 1, 300, 50]
    written = [0, 0]
    turns = [Turns(), Turns()]
    for size in sizes:
        mine = [turns[copy].is_turn("kind", copy, 2, size) for copy in range(2)]
        assert sum(mine) == 1
        written[mine.index(True)] += size
    assert abs(written[0] - written[1]) <= max(sizes)
