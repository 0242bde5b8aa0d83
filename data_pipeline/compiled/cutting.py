"""Where sentences that are too long are cut, as bytes of UTF-8 and as ids.

What each character is comes from ``characters.py``.
"""

import numpy as np

from data_pipeline.compiled import compiled
from data_pipeline.compiled.utf8 import after_space, before, decoded, is_space

TAGS = 0xE0000
"""Code points from here on are part of the character before them."""

PAUSE, JOINED, JOINS, FLAG = 1, 2, 4, 8
"""What a character is, as bits: a comma or the like; never parted from the character before, from the one behind, and
from the other half of a flag."""


@compiled
def kind_at(data, place, stop, kinds):
    """(bits of the character at ``place``, its bytes); (0, 0) at the end."""
    if place >= stop:
        return np.uint8(0), 0
    point, width = decoded(data, place)
    if point < len(kinds):
        return kinds[point], width
    return np.uint8(JOINED if point >= TAGS else 0), width


@compiled
def kind_before(data, place, start, kinds):
    """Bits of the character that ends at ``place``; 0 at the start."""
    if place <= start:
        return np.uint8(0)
    return kind_at(data, before(data, place, start), place, kinds)[0]


@compiled
def pieces(data, spans, parts, kinds):
    """Cut spans into about equal pieces: at spaces, else behind a comma, else between characters with their marks.

    Args:
        data: uint8 UTF-8.
        spans: int64 [spans, 2].
        parts: int64 [spans]: how many pieces of each, at most.

    Returns:
        (int64 [pieces, 2], int64 [spans] pieces of each); only white space lies between those of a span.
    """
    found = np.empty((parts.sum(), 2), np.int64)
    counts = np.zeros(len(spans), np.int64)
    total = 0
    for number in range(len(spans)):
        start, stop = spans[number]
        for left in range(parts[number], 0, -1):
            end = stop if left == 1 else cut(data, start, stop, start + (stop - start) // left, kinds)
            found[total, 0], found[total, 1] = start, end
            while is_space(data[found[total, 1] - 1]):
                found[total, 1] -= 1
            total += 1
            counts[number] += 1
            start = after_space(data, end, stop)
            if start == stop:
                break
    return found[:total], counts


@compiled
def cut(data, start, stop, aimed, kinds):
    """Where the piece that begins at ``start`` ends, near ``aimed``; ``stop`` where there is no place to cut."""
    aimed = max(aimed, start + 1)
    earliest = start + (aimed - start) // 2
    place = aimed
    while place > earliest and not is_space(data[place]):
        place -= 1
    if place > earliest:
        return place
    place = character_at(data, start, aimed)
    while place > earliest and not kind_before(data, place, start, kinds) & PAUSE:
        place = before(data, place, start)
    if place > earliest and may_cut(data, start, place, stop, kinds):
        return place
    place = character_at(data, start, aimed)
    while place > start and not may_cut(data, start, place, stop, kinds):
        place = before(data, place, start)
    if place > start:
        return place
    place = aimed
    while place < stop and (data[place] & 0xC0 == 0x80 or not may_cut(data, start, place, stop, kinds)):
        place += 1
    return place


@compiled
def character_at(data, start, place):
    """Where the character that ``place`` lies in begins."""
    while place > start and data[place] & 0xC0 == 0x80:
        place -= 1
    return place


@compiled
def may_cut(data, start, place, stop, kinds):
    """Is ``place`` between two characters as a reader sees them (Unicode's grapheme clusters), or nearly?"""
    earlier, later = kind_before(data, place, start, kinds), kind_at(data, place, stop, kinds)[0]
    if later & JOINED or earlier & JOINS:
        return False
    if not (earlier & FLAG and later & FLAG):
        return True
    flags, back = 0, place
    while kind_before(data, back, start, kinds) & FLAG:
        back = before(data, back, start)
        flags += 1
    return flags % 2 == 0


@compiled
def token_pieces(ids, offsets, longest, after_space):
    """Cut rows of ids into about equal pieces before tokens that stand behind white space.

    Args:
        ids: [tokens] of all rows.
        offsets: int64 [rows + 1].
        longest: tokens of a piece, at most.
        after_space: bool [V].

    Returns:
        (int64 [pieces] tokens of each, int64 [rows] pieces of each); a row that has no such place is one piece.
    """
    counts = np.ones(len(offsets) - 1, np.int64)
    lengths = np.empty(2 * (len(ids) // longest + len(offsets)), np.int64)
    total = 0
    for row in range(len(counts)):
        place, stop, first = offsets[row], offsets[row + 1], total
        while stop - place > longest:
            left = (stop - place + longest - 1) // longest
            end = token_cut(ids, place, (stop - place + left - 1) // left, longest, after_space)
            if end == place:
                total, place = first, offsets[row]
                break
            lengths[total] = end - place
            total, place = total + 1, end
        lengths[total] = stop - place
        total += 1
        counts[row] = total - first
    return lengths[:total], counts


@compiled
def token_cut(ids, place, aimed, longest, after_space):
    """Where the piece that begins at ``place`` ends: near ``aimed`` tokens; ``place`` where it cannot end."""
    for end in range(place + aimed, place + aimed // 2, -1):
        if after_space[ids[end]]:
            return end
    for end in range(place + aimed + 1, place + longest + 1):
        if after_space[ids[end]]:
            return end
    return place
