"""Looking up what each character is: bits in a table of code points."""

from sesame.data_pipeline.compiled import compiled
from sesame.data_pipeline.compiled.utf8 import before, decoded

TAGS = 0xE0000
"""Code points from here on extend the character before them; the tables end before."""
JOINED = 1 << 7
"""Bit of a character that extends the one before it; the same in every table."""


@compiled
def kind_at(data, place, stop, kinds):
    """Return (bits of the character at ``place`` in the dtype of ``kinds``, its bytes); (0, 0) at the end."""
    if place >= stop:
        return kinds.dtype.type(0), 0
    point, width = decoded(data, place)
    if point < len(kinds):
        return kinds[point], width
    return kinds.dtype.type(JOINED if point >= TAGS else 0), width


@compiled
def kind_before(data, place, start, kinds):
    """Return the bits of the character that ends at ``place``; 0 at the start."""
    if place <= start:
        return kinds.dtype.type(0)
    return kind_at(data, before(data, place, start), place, kinds)[0]


@compiled
def end_of_run(data, place, stop, kinds, bits):
    """Return where a run of characters with any of ``bits`` ends."""
    kind, width = kind_at(data, place, stop, kinds)
    while kind & bits:
        place += width
        kind, width = kind_at(data, place, stop, kinds)
    return place
