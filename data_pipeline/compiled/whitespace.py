"""Compiled loop that normalizes the white space of a text in UTF-8, by the rules of ``cleaning/clean.py``."""

import numpy as np

from sesame.data_pipeline.compiled import compiled, inlined
from sesame.data_pipeline.compiled.character_kinds import kind_at

SPACE, NEWLINE, RETURN = 32, 10, 13
BLOCK = 32
"""Bytes that are processed together, in a loop without branches."""

LETTER, REMOVED, WHITE = 1, 2, 4
"""Bits of a character: a letter or mark, one that is removed, white space other than a newline."""


@inlined
def is_plain(byte):
    """Return whether a byte is a visible ASCII character."""
    return np.uint8(byte - np.uint8(0x21)) < np.uint8(0x5E)


@inlined
def write_space(out, end, newlines, since):
    """Write a run of white space in normal form, nothing at the start of a text, and return the new end of ``out``."""
    if end == 0:
        return end
    for _ in range(min(newlines, 2)):
        out[end] = NEWLINE
        end += 1
    if newlines == 0 or (newlines == 1 and since):
        out[end] = SPACE
        end += 1
    return end


@inlined
def is_normal(data, place):
    """Return whether a block has only visible ASCII characters and white space in normal form."""
    wrong = 0
    for each in range(BLOCK):
        # Unsigned, so that the loop is vectorized.
        here = np.uint64(place + each)
        byte, last, one_before = data[here], data[here - np.uint64(1)], data[here - np.uint64(2)]
        space, newline = byte == np.uint8(SPACE), byte == np.uint8(NEWLINE)
        wrong += not (is_plain(byte) | space | newline)
        wrong += (last == np.uint8(SPACE)) & (space | newline)
        wrong += (last == np.uint8(NEWLINE)) & (space | (newline & (one_before == np.uint8(NEWLINE))))
    return wrong == 0


@inlined
def copy_block(data, place, out, end):
    """Copy a block and return (its letters, its white space)."""
    letters = gaps = 0
    for each in range(BLOCK):
        byte = data[np.uint64(place + each)]
        out[np.uint64(end + each)] = byte
        letters += np.uint8((byte | np.uint8(32)) - np.uint8(97)) < np.uint8(26)
        gaps += not is_plain(byte)
    return letters, gaps


@inlined
def copy_plain(data, place, out, end):
    """Copy visible ASCII characters and the white space between them while it is in normal form.

    Returns:
        (where they end, number of letters, number of white space characters).
    """
    letters = gaps = 0
    while 2 <= place <= len(data) - BLOCK and is_normal(data, place):
        last = place + BLOCK
        while not is_plain(data[last - 1]):
            last -= 1
        found, white = copy_block(data, place, out, end)
        letters, gaps = letters + found, gaps + white - (place + BLOCK - last)
        end, place = end + last - place, last
    while place < len(data):
        byte = data[place]
        gap = byte == SPACE and place + 1 < len(data) and is_plain(data[place + 1])
        if not (gap or is_plain(byte)):
            break
        out[end] = byte
        letters += np.uint8((byte | 32) - 97) < 26
        gaps += gap
        end, place = end + 1, place + 1
    return place, letters, gaps


@compiled
def normalize_whitespace(data, kinds):
    """Normalize white space: single spaces, none at the end of a line, one blank line between paragraphs, none at the
    ends. Control characters are removed.

    Args:
        data: uint8 UTF-8 of one text.
        kinds: uint8 [code points]: bits of each character.

    Returns:
        (uint8 text, number of letters, number of visible characters).
    """
    out = np.empty(len(data) + BLOCK, np.uint8)
    end = letters = visible = 0
    place, spaces, newlines, since = 0, 0, 0, 0
    while place < len(data):
        byte = data[place]
        kind, width = np.uint8(0), 1
        if byte == SPACE:
            kind = np.uint8(WHITE)
        elif byte in (NEWLINE, RETURN):
            # A carriage return ends a line, alone or together with the newline after it.
            place += 2 if byte == RETURN and place + 1 < len(data) and data[place + 1] == NEWLINE else 1
            newlines, since = newlines + 1, 0
            continue
        elif not is_plain(byte):
            kind, width = kind_at(data, place, len(data), kinds)
        if kind & (WHITE | REMOVED):
            seen = not kind & REMOVED
            place, spaces, since = place + width, spaces + seen, since + seen
            continue
        if spaces + newlines:
            end = write_space(out, end, newlines, since)
            spaces = newlines = since = 0
        if is_plain(byte):
            before_it = place
            place, found, gaps = copy_plain(data, place, out, end)
            end, letters, visible = end + place - before_it, letters + found, visible + place - before_it - gaps
            continue
        letters += (kind & LETTER) != 0
        for each in range(width):
            out[end + each] = data[place + each]
        end, place, visible = end + width, place + width, visible + 1
    return out[:end], letters, visible
