"""A trie of byte strings in one array."""

import numpy as np

from sesame.data_pipeline.compiled import compiled, inlined

NONE = -1
ONE, TWO, FOUR = np.uint32(1), np.uint32(2), np.uint32(4)
"""Unsigned, so that numba does not handle negative indices."""


@compiled
def build_trie(pieces, starts, values):
    """Build a double-array trie (Aoe 1989) of byte strings.

    Args:
        pieces: uint8, the concatenated strings, sorted.
        starts: int64 [strings + 1].
        values: int32 [strings], 0 or more.

    Returns:
        uint32 [4 x nodes]: base, parent and value + 1 of each node, the root first; four numbers to a node, so that one
        access loads them all.
    """
    size = 1024
    base, check, value = np.zeros(size, np.int32), np.full(size, NONE, np.int32), np.full(size, NONE, np.int32)
    check[0] = 0
    # An entry of the stack: a node and the strings [first, last) below it, equal up to ``depth``.
    stack = [(np.int64(0), 0, len(starts) - 1, 0)]
    # Starting at 256, no place minus a byte is below 1.
    free = roomy = 256
    while len(stack):
        node, first, last, depth = stack.pop()
        if starts[first + 1] - starts[first] == depth:
            value[node] = values[first]
            first += 1
        if first == last:
            continue
        groups = [first]
        for string in range(first + 1, last):
            if pieces[starts[string] + depth] != pieces[starts[string - 1] + depth]:
                groups.append(string)
        groups.append(last)
        while free < size and check[free] != NONE:
            free += 1
        lowest, probes = np.int64(pieces[starts[first] + depth]), 0
        place = (free if len(groups) == 2 else max(free, roomy)) - lowest
        while True:
            if place + 256 >= size:
                grown = 2 * size
                base, check, value = grow(base, grown, 0), grow(check, grown, NONE), grow(value, grown, NONE)
                size = grown
            fits = True
            for group in groups[:-1]:
                if check[place + pieces[starts[group] + depth]] != NONE:
                    fits = False
                    break
            if fits:
                break
            place += 1
            probes += 1
        if probes > 64:
            # The slots before are too full for nodes with several children; nodes with one child fill the gaps.
            roomy = place + lowest
        base[node] = place
        for number in range(len(groups) - 1):
            child = place + np.int64(pieces[starts[groups[number]] + depth])
            check[child] = node
            stack.append((child, groups[number], groups[number + 1], depth + 1))
    nodes = np.zeros(4 * size, np.uint32)
    for node in range(size):
        nodes[4 * node] = base[node]
        nodes[4 * node + 1] = check[node]
        nodes[4 * node + 2] = value[node] + 1
    return nodes


@compiled
def grow(old, size, fill):
    new = np.full(size, fill, old.dtype)
    new[: len(old)] = old
    return new


@inlined
def child_of(trie, node, byte):
    """Return the child of a node for a byte, 0 (the root) if there is none."""
    child = trie[FOUR * node] + np.uint32(byte)
    return child if trie[FOUR * child + ONE] == node else np.uint32(0)


@inlined
def piece_at(trie, node):
    """Return the id of the piece that ends at a node, or NONE."""
    return np.int64(trie[FOUR * node + TWO]) - 1


@inlined
def find_piece(buffer, start, stop, trie):
    """Return the id of the piece ``buffer[start:stop]``, or NONE."""
    node = np.uint32(0)
    for place in range(start, stop):
        node = child_of(trie, node, buffer[place])
        if node == 0:
            return NONE
    return piece_at(trie, node)
