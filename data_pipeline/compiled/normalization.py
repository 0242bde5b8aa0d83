"""Normalization of text for sentencepiece models, character by character."""

import numpy as np

from sesame.data_pipeline.compiled import inlined
from sesame.data_pipeline.compiled.trie import NONE
from sesame.data_pipeline.compiled.utf8 import NEWLINE, SPACE

MARK = 1
"""Stands for U+2581, the mark before a word, in texts and pieces: one byte instead of three."""


@inlined
def normalize(data, start, stop, marked, model, buffer):
    """Write the normalized bytes of one text to ``buffer``, with a mark before each word.

    Args:
        data: uint8 UTF-8.
        start, stop: place of the text.
        marked: whether the first word gets a mark too.
        model: an ``encoding.Model``.
        buffer: uint8 output, of at least twice the text and a mark.

    Returns:
        The number of bytes written, NONE if a character has no entry in ``model.places``.
    """
    places, replacements = model.places, model.replacements
    end, place, begun = 0, start, not marked
    while place < stop and data[place] in (SPACE, NEWLINE):
        place += 1
    while place < stop:
        byte = np.int64(data[place])
        if byte in (SPACE, NEWLINE):
            begun = False
            place += 1
            continue
        if byte < 0x80:
            point, size = byte, 1
        elif byte < 0xE0:
            point, size = (byte & 0x1F) << 6 | np.int64(data[place + 1]) & 0x3F, 2
        elif byte < 0xF0:
            point = (byte & 0x0F) << 12 | (np.int64(data[place + 1]) & 0x3F) << 6 | np.int64(data[place + 2]) & 0x3F
            size = 3
        else:
            return NONE
        first, last = places[point, 0], places[point, 1]
        if first == NONE:
            return NONE
        if not begun:
            buffer[end] = MARK
            end += 1
            begun = True
        for each in range(first, last):
            buffer[end] = replacements[each]
            end += 1
        place += size
    return end
