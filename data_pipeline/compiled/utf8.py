"""Characters and white space in UTF-8."""

import numpy as np

from sesame.data_pipeline.compiled import compiled, inlined

TAB, SPACE, NEWLINE = 9, 32, 10


@compiled
def decoded(data, place):
    """Return (code point, bytes) of the character at ``place``."""
    byte = np.int64(data[place])
    if byte < 0x80:
        return byte, 1
    if byte < 0xE0:
        return (byte & 0x1F) << 6 | np.int64(data[place + 1]) & 0x3F, 2
    if byte < 0xF0:
        return (byte & 0x0F) << 12 | (np.int64(data[place + 1]) & 0x3F) << 6 | np.int64(data[place + 2]) & 0x3F, 3
    high = (byte & 0x07) << 18 | (np.int64(data[place + 1]) & 0x3F) << 12
    return high | (np.int64(data[place + 2]) & 0x3F) << 6 | np.int64(data[place + 3]) & 0x3F, 4


@inlined
def length_of_character(byte):
    return 1 if byte < 0x80 else 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4


@compiled
def before(data, place, start):
    """Return where the character before ``place`` begins; ``place`` at the start."""
    if place <= start:
        return place
    place -= 1
    while place > start and data[place] & 0xC0 == 0x80:
        place -= 1
    return place


@compiled
def character_start(data, start, place):
    """Return where the character that contains the byte ``place`` begins."""
    while place > start and data[place] & 0xC0 == 0x80:
        place -= 1
    return place


@compiled
def is_space(byte):
    return byte in (SPACE, NEWLINE, TAB)


@compiled
def after_space(data, place, stop):
    while place < stop and is_space(data[place]):
        place += 1
    return place
