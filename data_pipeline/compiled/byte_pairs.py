"""BPE segmentation of single words (Sennrich et al. 2016), as sentencepiece merges pieces."""

import numpy as np

from sesame.data_pipeline.compiled import compiled, inlined
from sesame.data_pipeline.compiled.token_output import append_piece
from sesame.data_pipeline.compiled.trie import NONE, find_piece
from sesame.data_pipeline.compiled.utf8 import length_of_character

SYMBOLS = 512
"""Longest word in characters."""
ID_BITS = np.uint64(20)
"""Bits of each of the two ids in the key of a pair."""
MIX = np.uint64(0x9E3779B97F4A7C15)
"""Multiplier of the hash of a pair."""


@compiled
def build_pairs(pieces, starts, values, trie):
    """Return the table of merges: uint64 [2 x rows] with open addressing, the key of a pair and the id of the merge.

    Args:
        pieces, starts, values: as in :func:`build_trie`.
        trie: of the pieces.
    """
    table = np.zeros(1 << 12, np.uint64)
    used = 0
    for number in range(len(starts) - 1):
        start, stop = starts[number], starts[number + 1]
        place = start + length_of_character(pieces[start])
        while place < stop:
            left, right = find_piece(pieces, start, place, trie), find_piece(pieces, place, stop, trie)
            place += length_of_character(pieces[place])
            if left == NONE or right == NONE:
                continue
            if 4 * used > len(table):
                old, table = table, np.zeros(2 * len(table), np.uint64)
                for row in range(0, len(old), 2):
                    if old[row] != 0:
                        free = row_of_pair(table, old[row])
                        table[free], table[free + 1] = old[row], old[row + 1]
            key = key_of_pair(left, right)
            row = row_of_pair(table, key)
            table[row], table[row + 1] = key, np.uint64(values[number])
            used += 1
    return table


@inlined
def key_of_pair(left, right):
    return np.uint64(left) << ID_BITS | np.uint64(right) | np.uint64(1) << (ID_BITS + ID_BITS)


@inlined
def row_of_pair(table, key):
    """Return the row of a pair, or the free row for it."""
    last = np.uint64(len(table) - 1)
    code = key * MIX
    row = (code ^ code >> np.uint64(32)) << np.uint64(1) & last
    while table[row] != 0 and table[row] != key:
        row = (row + np.uint64(2)) & last
    return row


@inlined
def merge_pairs(size, model, work, ids, end):
    """Append the pieces of a normalized word: the merge of the highest score first, of equal ones the leftmost.

    Args:
        size: bytes of the word in ``work.buffer``.
        model, work, ids: as in ``encoding.encode``.
        end: of the ids written so far.

    Returns:
        The new end of ``ids``, NONE if the word has more than SYMBOLS characters.
    """
    buffer, begins, following, before = work.buffer, work.begins, work.following, work.before
    pieces, merges, gains = work.symbols, work.merges, work.gains
    trie, scores, pairs, unknown = model.trie, model.scores, model.pairs, model.unknown
    symbols = (pieces, merges, gains)
    count, place = 0, 0
    while place < size:
        if count == SYMBOLS:
            return NONE
        width = length_of_character(buffer[place])
        begins[count], following[count], before[count] = place, count + 1, count - 1
        pieces[count] = find_piece(buffer, place, place + width, trie)
        count, place = count + 1, place + width
    begins[count] = size
    for symbol in range(count):
        update_pair(symbol, count, following, symbols, pairs, scores)
    while True:
        best, chosen, symbol = np.float32(-np.inf), NONE, 0
        while symbol < count:
            if gains[symbol] > best:
                best, chosen = gains[symbol], symbol
            symbol = following[symbol]
        if chosen == NONE:
            break
        after = following[following[chosen]]
        following[chosen], pieces[chosen] = after, merges[chosen]
        before[after] = chosen
        update_pair(chosen, count, following, symbols, pairs, scores)
        if chosen > 0:
            update_pair(before[chosen], count, following, symbols, pairs, scores)
    first, symbol = end, 0
    while symbol < count:
        piece = unknown.id if pieces[symbol] == NONE else pieces[symbol]
        end = append_piece(piece, begins[symbol], begins[following[symbol]], buffer, unknown, ids, first, end)
        symbol = following[symbol]
    return end


@inlined
def update_pair(symbol, count, following, symbols, pairs, scores):
    """Update the merge of a symbol with the next one, and its score."""
    pieces, merges, gains = symbols
    gains[symbol] = -np.inf
    after = following[symbol]
    if after == count or pieces[symbol] == NONE or pieces[after] == NONE:
        return
    row = row_of_pair(pairs, key_of_pair(pieces[symbol], pieces[after]))
    if pairs[row] != 0:
        merges[symbol] = np.int64(pairs[row + np.uint64(1)])
        gains[symbol] = scores[merges[symbol]]
