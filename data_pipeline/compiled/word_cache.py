"""Cache of encoded words: rows of one processor cache line, found by the bytes of the word."""

from typing import NamedTuple

import numpy as np

from sesame.data_pipeline.compiled import inlined
from sesame.data_pipeline.compiled.utf8 import NEWLINE, SPACE

KEPT_BYTES, KEPT_IDS = 15, 8
"""Longest word, and most ids of one, that are cached."""
ROW_BYTES = 64
"""A row: 16 bytes of the word with its length in the last, its ids of 32 bits, their count, the score of the word and
the margin of the best segmentation over the second best."""
WORDS, NUMBERS = ROW_BYTES // 8, ROW_BYTES // 4
"""Numbers of 64 and of 32 bits in a row."""
IDS_AT, COUNT_AT, SCORE_AT, MARGIN_AT = 4, 12, 13, 14
"""Their places among the 32-bit numbers of a row."""
LENGTH_AT = np.uint64(56)
"""Lowest bit of the length in the second number of a word."""
READ_AHEAD = 24
"""Bytes behind a text that are read with its last word."""
PROBES = 8
"""Neighboring rows that a word may be in."""
EACH_BYTE, HIGH_BITS = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)
MIX, MIX_SECOND = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)
"""Multipliers of the hash of a word."""


class WordCache(NamedTuple):
    """The same memory as arrays of three types."""

    words: np.ndarray
    """uint64 [WORDS x rows]."""
    numbers: np.ndarray
    """uint32 [NUMBERS x rows]."""
    floats: np.ndarray
    """float32 [NUMBERS x rows]."""


def new_cache(rows: int) -> WordCache:
    """Return an empty cache of ``rows`` rows, a power of two, each aligned to a line of the processor's cache."""
    memory = np.zeros((rows + 1) * ROW_BYTES, np.uint8)
    begin = -memory.ctypes.data % ROW_BYTES
    aligned = memory[begin : begin + rows * ROW_BYTES]
    return WordCache(aligned.view(np.uint64), aligned.view(np.uint32), aligned.view(np.float32))


@inlined
def word_key(blocks, place, stop):
    """Return the key of the word at ``place``, two numbers of its bytes with its length in the highest, and its length;
    a length over KEPT_BYTES means that the word is longer than that."""
    left = stop - place
    first, length = until_space(eight_bytes(blocks, place), left)
    second = np.uint64(0)
    if length == 8:
        second, more = until_space(eight_bytes(blocks, place + 8), left - 8)
        length += more
    return (first, second | np.uint64(length) << LENGTH_AT), length


@inlined
def eight_bytes(blocks, place):
    """Return the eight bytes from ``place`` on as one number, the first byte lowest."""
    block, bits = place >> 3, np.uint64((place & 7) << 3)
    return blocks[block] >> bits | (blocks[block + 1] << np.uint64(1)) << (np.uint64(63) - bits)


@inlined
def until_space(eight, left):
    """Return (eight bytes with zeros from the first space on and after the last of ``left``, bytes before those)."""
    spaces = find_byte(eight, np.uint64(SPACE)) | find_byte(eight, np.uint64(NEWLINE))
    if left < 8:
        spaces |= np.uint64(0x80) << np.uint64(8 * left)
    if spaces == 0:
        return eight, 8
    below = ((spaces & (~spaces + np.uint64(1))) >> np.uint64(7)) - np.uint64(1)
    return eight & below, np.int64((below & EACH_BYTE) * EACH_BYTE >> np.uint64(56))


@inlined
def find_byte(eight, byte):
    """Return the high bit of each of eight bytes that equals ``byte``; only the lowest of them is reliable."""
    differs = eight ^ (EACH_BYTE * byte)
    return (differs - EACH_BYTE) & ~differs & HIGH_BITS


@inlined
def find_row(words, word):
    """Return (the row of a word, whether the word is in it); the row to store it in if it is not."""
    code = (word[0] ^ word[1] * MIX_SECOND) * MIX
    last = len(words) // WORDS - 1
    # Only the highest bits of a product depend on every bit of the factors.
    home = np.int64(code >> np.uint64(44)) & last
    for probe in range(PROBES):
        row = (home + probe) & last
        if words[WORDS * row] == word[0] and words[WORDS * row + 1] == word[1]:
            return row, True
        if words[WORDS * row + 1] == 0:
            return row, False
    return home, False


@inlined
def read_ids(numbers, row, ids, end):
    """Append the ids of a word and return the new end of ``ids``; entries behind it are overwritten."""
    for each in range(KEPT_IDS):
        ids[end + each] = numbers[NUMBERS * row + IDS_AT + each]
    return end + np.int64(numbers[NUMBERS * row + COUNT_AT])


@inlined
def store(cache, row, word, ids, first, end, score, margin):
    """Store a word in its row, overwriting another word there."""
    words, numbers, floats = cache
    if end - first > KEPT_IDS:
        return
    words[WORDS * row], words[WORDS * row + 1] = word
    for each in range(end - first):
        numbers[NUMBERS * row + IDS_AT + each] = ids[first + each]
    numbers[NUMBERS * row + COUNT_AT] = end - first
    floats[NUMBERS * row + SCORE_AT], floats[NUMBERS * row + MARGIN_AT] = score, margin
