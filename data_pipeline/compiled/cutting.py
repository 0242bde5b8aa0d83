"""Compiled loops that cut sentences that are too long, as UTF-8 and as ids."""

import numpy as np

from sesame.data_pipeline.compiled import compiled
from sesame.data_pipeline.compiled.character_kinds import JOINED, kind_at, kind_before
from sesame.data_pipeline.compiled.utf8 import after_space, before, character_start, is_space

PAUSE, JOINS, FLAG = 1, 4, 8
"""Bits of a character beside JOINED: punctuation such as a comma; extends the character after it; half of a flag."""


@compiled
def cut_spans(data, spans, parts, kinds):
    """Cut spans into pieces of about equal length: at spaces, else behind a comma, else between grapheme clusters.

    Args:
        data: uint8 UTF-8.
        spans: int64 [spans, 2].
        parts: int64 [spans]: most pieces of each.
        kinds: uint8 [code points]: bits of each character.

    Returns:
        (int64 [pieces, 2], int64 [spans] pieces of each); only white space is left out between the pieces of a span.
    """
    pieces = np.empty((parts.sum(), 2), np.int64)
    counts = np.zeros(len(spans), np.int64)
    total = 0
    for number in range(len(spans)):
        start, stop = spans[number]
        for left in range(parts[number], 0, -1):
            end = stop if left == 1 else cut_place(data, start, stop, start + (stop - start) // left, kinds)
            pieces[total, 0], pieces[total, 1] = start, end
            while is_space(data[pieces[total, 1] - 1]):
                pieces[total, 1] -= 1
            total += 1
            counts[number] += 1
            start = after_space(data, end, stop)
            if start == stop:
                break
    return pieces[:total], counts


@compiled
def cut_place(data, start, stop, target, kinds):
    """Return the end of the piece that begins at ``start``, near ``target``; ``stop`` if it cannot be cut."""
    target = max(target, start + 1)
    earliest = start + (target - start) // 2
    place = target
    while place > earliest and not is_space(data[place]):
        place -= 1
    if place > earliest:
        return place
    place = character_start(data, start, target)
    while place > earliest and not kind_before(data, place, start, kinds) & PAUSE:
        place = before(data, place, start)
    if place > earliest and may_cut(data, start, place, stop, kinds):
        return place
    place = character_start(data, start, target)
    while place > start and not may_cut(data, start, place, stop, kinds):
        place = before(data, place, start)
    if place > start:
        return place
    place = target
    while place < stop and (data[place] & 0xC0 == 0x80 or not may_cut(data, start, place, stop, kinds)):
        place += 1
    return place


@compiled
def may_cut(data, start, place, stop, kinds):
    """Return whether ``place`` is between two grapheme clusters (UAX 29, simplified)."""
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
def cut_tokens(ids, offsets, longest, after_space):
    """Cut rows of ids into pieces of about equal length before tokens that follow white space.

    Args:
        ids: [tokens] of all rows.
        offsets: int64 [rows + 1].
        longest: most tokens of a piece.
        after_space: bool [V]: white space stands before the token.

    Returns:
        (int64 [pieces] tokens of each, int64 [rows] pieces of each); a row without such a token is one piece.
    """
    counts = np.ones(len(offsets) - 1, np.int64)
    lengths = np.empty(2 * (len(ids) // longest + len(offsets)), np.int64)
    total = 0
    for row in range(len(counts)):
        place, stop, first = offsets[row], offsets[row + 1], total
        while stop - place > longest:
            left = (stop - place + longest - 1) // longest
            end = token_cut_place(ids, place, (stop - place + left - 1) // left, longest, after_space)
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
def token_cut_place(ids, place, target, longest, after_space):
    """Return the end of the piece that begins at ``place``, near ``target`` tokens; ``place`` if it cannot be cut."""
    for end in range(place + target, place + target // 2, -1):
        if after_space[ids[end]]:
            return end
    for end in range(place + target + 1, place + longest + 1):
        if after_space[ids[end]]:
            return end
    return place
