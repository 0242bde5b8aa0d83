"""Hash table of words with bits, for sentence splitting."""

import numpy as np

from sesame.data_pipeline.compiled import compiled

FNV_OFFSET, FNV_PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
"""Of the hash FNV-1a."""


@compiled
def hash_word(data, start, stop, lower, code):
    """Return the hash of a word after the bytes that ``code`` is the hash of; ASCII is lowercased if ``lower``."""
    for place in range(start, stop):
        byte = np.uint64(data[place])
        if lower and np.uint64(65) <= byte <= np.uint64(90):
            byte |= np.uint64(32)
        code = (code ^ byte) * FNV_PRIME
    return code


@compiled
def row_of(table, code):
    """Return the row of ``code`` in a table with open addressing, or the free row for it."""
    last = np.uint64(len(table) - 1)
    row = (code ^ code >> np.uint64(32)) & last
    while table[row, 0] != code and table[row, 0] != 0:
        row = (row + np.uint64(1)) & last
    return row


@compiled
def build_table(codes, bits):
    """Build the table of words.

    Args:
        codes: uint64 [words] from :func:`hash_word`; a word may occur several times.
        bits: uint64 [words].

    Returns:
        uint64 [rows, 2], a power of two of them: hash and bits.
    """
    rows = 1
    while rows < 4 * len(codes):
        rows *= 2
    table = np.zeros((rows, 2), np.uint64)
    for number in range(len(codes)):
        row = row_of(table, codes[number])
        table[row, 0] = codes[number]
        table[row, 1] |= bits[number]
    return table


@compiled
def bits_of_code(table, code):
    """Return the bits of a hashed word, 0 if it is not in the table."""
    return table[row_of(table, code), 1]


@compiled
def bits_of_word(data, start, stop, lower, words):
    """Return the bits of the word ``data[start:stop]``, 0 if it is empty or not in the table."""
    return bits_of_code(words, hash_word(data, start, stop, lower, FNV_OFFSET)) if stop > start else np.uint64(0)
