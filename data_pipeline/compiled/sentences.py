"""Compiled loop that finds the sentences of texts, as places in UTF-8."""

import numpy as np

from sesame.data_pipeline.compiled import compiled
from sesame.data_pipeline.compiled.character_kinds import kind_at
from sesame.data_pipeline.compiled.sentence_gaps import ends_block
from sesame.data_pipeline.compiled.sentence_marks import east_asian_mark, is_greek_question, latin_mark, other_mark
from sesame.data_pipeline.compiled.splitting import EASTERN_MARK, LATIN_MARK, OTHER_MARK, SEMICOLON
from sesame.data_pipeline.compiled.utf8 import NEWLINE, after_space

BYTES_OF_SENTENCE = 64
"""Fewer than most sentences have; sets the initial capacity of the result."""


@compiled
def find_sentences(data, documents, kinds, is_lead, words):
    """Find the sentences of each document.

    Args:
        data: uint8 UTF-8 of all documents, of white space only spaces, tabs and newlines in it.
        documents: int64 [documents + 1]: where each starts.
        kinds: uint32 [code points]: bits of each character.
        is_lead: bool [256] from :func:`lead_bytes`.
        words: uint64 [rows, 2] from :func:`build_table`.

    Returns:
        (int64 [sentences, 2] first byte and the one after the last, int64 [documents] sentences of each).
    """
    spans = np.empty((len(data) // BYTES_OF_SENTENCE + len(documents), 2), np.int64)
    counts = np.zeros(len(documents) - 1, np.int64)
    total = 0
    for document in range(len(counts)):
        stop, earlier = documents[document + 1], total
        start = place = after_space(data, documents[document], stop)
        while start < stop:
            place = next_mark(data, place, stop, is_lead)
            if place < stop:
                end, place = boundary(data, start, place, stop, kinds, words)
            else:
                end = stop
            if end > start:
                if total == len(spans):
                    spans = np.concatenate((spans, np.empty_like(spans)))
                spans[total, 0], spans[total, 1] = start, end
                total += 1
                start = place = after_space(data, place, stop)
        counts[document] = total - earlier
    return spans[:total], counts


@compiled
def lead_bytes(kinds):
    """Return bool [256]: first bytes of the characters that may end a sentence."""
    is_lead = np.zeros(256, np.bool_)
    is_lead[NEWLINE] = is_lead[SEMICOLON] = True
    for point in range(len(kinds)):
        if kinds[point] & (LATIN_MARK | OTHER_MARK | EASTERN_MARK):
            if point < 0x80:
                is_lead[point] = True
            elif point < 0x800:
                is_lead[0xC0 | point >> 6] = True
            elif point < 0x10000:
                is_lead[0xE0 | point >> 12] = True
            else:
                is_lead[0xF0 | point >> 18] = True
    return is_lead


@compiled
def next_mark(data, place, stop, is_lead):
    while place < stop and not is_lead[data[place]]:
        place += 1
    return place


@compiled
def boundary(data, start, place, stop, kinds, words):
    """Return (end of the sentence that begins at ``start``, where to continue), or (-1, where to continue) if it does
    not end with the mark at ``place``."""
    if data[place] == NEWLINE:
        return (place, place + 1) if ends_block(data, place, stop, kinds) else (-1, place + 1)
    if data[place] == SEMICOLON and not is_greek_question(data, start, place, stop, kinds):
        return -1, place + 1
    kind, width = kind_at(data, place, stop, kinds)
    if kind & LATIN_MARK or data[place] == SEMICOLON:
        return latin_mark(data, start, place, stop, kinds, words)
    if kind & EASTERN_MARK:
        return east_asian_mark(data, start, place, stop, kinds)
    if kind & OTHER_MARK:
        return other_mark(data, start, place, stop, kinds, words)
    return -1, place + width
