"""The random numbers of torch's generator for a CPU (MT19937, Matsumoto & Nishimura 1998) in half of the time."""

from typing import Any

import numpy as np

from sesame.data_pipeline.compiled import compiled

WORDS, SHIFT = 624, 397
U = np.uint32
UPPER, LOWER, MATRIX = U(0x80000000), U(0x7FFFFFFF), U(0x9908B0DF)


@compiled
def draw_pairs(words: Any, used: int, output: Any) -> int:
    """Write the generator's next numbers to ``output``, each pair with its second number first, as torch does where it
    needs 64 bits.

    Args:
        words: uint32 [624], the state, which is changed.
        used: numbers that were drawn from it.
        output: uint32, of even length.

    Returns:
        How many of the new state's numbers were drawn.
    """
    old = np.empty(WORDS, np.uint32)
    ready = np.empty(WORDS, np.uint32)
    _temper(words, ready)
    filled = 0
    while filled < len(output):
        if used == WORDS:
            old[:] = words
            _twist(old[:-1], old[1:], old[SHIFT:], words[: WORDS - SHIFT], 0)
            _twist(old[:-1], old[1:], words[: WORDS - SHIFT], words[WORDS - SHIFT : 2 * (WORDS - SHIFT)], WORDS - SHIFT)
            middle = 2 * (WORDS - SHIFT)
            _twist(old[:-1], old[1:], words[WORDS - SHIFT : middle], words[middle : WORDS - 1], middle)
            mixed = (old[WORDS - 1] & UPPER) | (words[0] & LOWER)
            words[WORDS - 1] = words[SHIFT - 1] ^ (mixed >> U(1)) ^ (MATRIX if mixed & U(1) else U(0))
            _temper(words, ready)
            used = 0
        count = min(WORDS - used, len(output) - filled)
        if (used | filled | count) & 1:
            for number in range(count):
                output[(filled + number) ^ 1] = ready[used + number]
        else:
            source, target = ready[used : used + count], output[filled : filled + count]
            for pair in range(count // 2):
                target[2 * pair] = source[2 * pair + 1]
                target[2 * pair + 1] = source[2 * pair]
        used += count
        filled += count
    return used


@compiled
def _twist(words: Any, following: Any, distant: Any, output: Any, first: int) -> None:
    """Compute ``output``, the new words from number ``first`` on."""
    current, after = words[first:], following[first:]
    for number in range(len(output)):
        mixed = (current[number] & UPPER) | (after[number] & LOWER)
        output[number] = distant[number] ^ (mixed >> U(1)) ^ (MATRIX if mixed & U(1) else U(0))


@compiled
def _temper(words: Any, output: Any) -> None:
    for number in range(len(words)):
        word = words[number]
        word ^= word >> U(11)
        word ^= (word << U(7)) & U(0x9D2C5680)
        word ^= (word << U(15)) & U(0xEFC60000)
        output[number] = word ^ (word >> U(18))
