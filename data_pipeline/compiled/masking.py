"""Compiled loops that choose the masked tokens of every row and replace them.

Bounds are not checked in compiled loops; ``examples/corrupt.py`` ensures that numbers are in range.
"""

import numpy as np

from sesame.data_pipeline.compiled import compiled
from sesame.data_pipeline.compiled.random_numbers import uniform, uniform_integer

CONTINUES, BEGINS, SPECIAL, ENDS = 0, 1, 2, 4
"""Kind of a token: inside a word, the first of one, not text, or (a bit of its own) the last of a word."""
NO_LIMIT = 2**62
"""Of masked tokens in a row."""


@compiled
def mask_rows(tokens, offsets, kinds, runs, budgets, replacement, ordinary, weights, seed):
    """Mask some tokens of every row in place.

    Args:
        tokens: of all rows, overwritten.
        offsets: int64 [rows + 1].
        kinds: uint8 [V]: CONTINUES, BEGINS or SPECIAL of each id, and ENDS.
        runs: float64 [longest]: cumulative probability of the number of words of a unit.
        budgets: share of the text tokens that is masked, most of a row.
        replacement: id of [MASK], share of masked tokens that becomes it, share that becomes it or a random id.
        ordinary: ids of random replacements.
        weights: float32 [V]: how likely each id is chosen beside others; [0]: all alike.
        seed: of the random numbers.

    Returns:
        (uint16 positions, labels, int64 [rows + 1] offsets of both).
    """
    state, rows, longest = np.full(1, seed, np.uint64), len(offsets) - 1, 0
    for number in range(rows):
        longest = max(longest, offsets[number + 1] - offsets[number])
    # Rounding up adds less than one to each row.
    capacity = np.int64(len(tokens) * budgets[0]) + rows + 1
    positions, labels, ends = (
        np.empty(capacity, np.uint16),
        np.empty(capacity, tokens.dtype),
        np.zeros(rows + 1, np.int64),
    )
    starts, stops = np.empty(longest + 1, np.int32), np.empty(longest + 1, np.int32)
    order, taken, end = np.empty(longest, np.int32), np.empty(longest, np.int32), 0
    weighs = len(weights) > 0
    for number in range(rows):
        row = tokens[offsets[number] : offsets[number + 1]]
        count, text = find_words(row, kinds, starts, stops)
        if len(runs) > 1:
            count = join_words(starts, stops, count, runs, state)
        if count > 0:
            # Rounded up or down at random, so that the mean is exact also where most rows have the same length.
            budget = min(max(1, np.int64(text * budgets[0] + uniform(state))), budgets[1])
            if weighs:
                order_by_weight(row, starts, stops, count, weights, order, state)
            choose_units(starts, stops, count, budget, order, taken, weighs, state)
        for unit in range(count):
            for place in range(starts[unit], starts[unit] + taken[unit]):
                positions[end], labels[end] = place, row[place]
                end += 1
                row[place] = replacement_of(row[place], replacement, ordinary, state)
        ends[number + 1] = end
    return positions[:end], labels[:end], ends


@compiled
def find_words(row, kinds, starts, stops):
    """Write the spans of a row's words to ``starts`` and ``stops``.

    A word ends before a special token and after a token that ends words. Without branches, which are unpredictable.

    Returns:
        (number of words, number of text tokens).
    """
    count, text, begins = 0, 0, 1
    for place in range(len(row)):
        kind = np.int64(kinds[row[place]])
        special = kind >> 1 & 1
        starts[count] = place
        count += (kind | begins) & ~special & 1
        # After a special token this entry is the next word's, and overwritten.
        stops[count - 1 + special] = place + 1
        text += 1 - special
        begins = special | kind >> 2
    return count, text


@compiled
def join_words(starts, stops, count, runs, state):
    """Replace words by random runs of neighboring words and return the number of runs."""
    joined, word = 0, 0
    while word < count:
        chance, last = uniform(state), word
        while last + 1 < count and starts[last + 1] == stops[last] and chance >= runs[last - word]:
            last += 1
        starts[joined], stops[joined] = starts[word], stops[last]
        joined += 1
        word = last + 1
    return joined


@compiled
def order_by_weight(row, starts, stops, count, weights, order, state):
    """Set ``order`` to the units in a random order in which the next one is always drawn in proportion to the mean
    weight of its tokens (Efraimidis and Spirakis 2006: by exponential variables with those rates)."""
    arrivals = np.empty(count, np.float64)
    for unit in range(count):
        weight = 0.0
        for place in range(starts[unit], stops[unit]):
            weight += weights[row[place]]
        arrivals[unit] = -np.log(1 - uniform(state)) * (stops[unit] - starts[unit]) / weight
    order[:count] = np.argsort(arrivals)


@compiled
def choose_units(starts, stops, count, budget, order, taken, is_ordered, state):
    """Choose units in random order, skipping those that exceed the rest of the budget (BERT's published code), and set
    ``taken`` to the masked tokens of each.

    Args:
        is_ordered: ``order`` is that order already.
    """
    for unit in range(count):
        taken[unit] = 0
        if not is_ordered:
            order[unit] = unit
    left = budget
    for place in range(count):
        if not is_ordered:
            other = uniform_integer(place, count, state)
            unit = order[other]
            order[other] = order[place]
            order[place] = unit
        unit = order[place]
        length = stops[unit] - starts[unit]
        if length <= left:
            taken[unit] = length
            left -= length
            if left == 0:
                return
    if left == budget:
        # None fits: mask the beginning of one, or text without spaces would never be masked.
        taken[order[0]] = budget


@compiled
def replacement_of(token, replacement, ordinary, state):
    """Return the replacement of a masked token."""
    chance = uniform(state)
    if chance < replacement[1]:
        return replacement[0]
    if chance < replacement[2]:
        return ordinary[uniform_integer(0, len(ordinary), state)]
    return np.int64(token)
