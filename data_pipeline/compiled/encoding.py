"""Encoding texts with a sentencepiece model, word by word where that gives the ids of the whole text."""

from typing import NamedTuple

import numpy as np

from sesame.data_pipeline.compiled import compiled, inlined
from sesame.data_pipeline.compiled.byte_pairs import SYMBOLS, merge_pairs
from sesame.data_pipeline.compiled.normalization import normalize
from sesame.data_pipeline.compiled.trie import NONE
from sesame.data_pipeline.compiled.utf8 import NEWLINE, SPACE
from sesame.data_pipeline.compiled.viterbi import segment_text, segment_word
from sesame.data_pipeline.compiled.word_cache import (
    KEPT_BYTES,
    MARGIN_AT,
    NUMBERS,
    SCORE_AT,
    find_row,
    read_ids,
    store,
    word_key,
)

UNIGRAM = 1
"""``TrainerSpec.ModelType``; the other type is BPE."""
SHORT_BYTES = 48
"""Longest word that a unigram model segments on its own."""
ROUNDING = 2 * SHORT_BYTES * 2.0**-24
"""Largest rounding error between two segmentations of a word, as a share of the score of the text."""


class Unknown(NamedTuple):
    """What stands for characters that are in no piece."""

    score: np.float32
    id: int
    byte_ids: np.ndarray
    """int32 [256]: ids of the byte pieces, NONE in a model without byte fallback."""


class Model(NamedTuple):
    """A sentencepiece model."""

    type: int
    """UNIGRAM or another."""
    trie: np.ndarray
    """From :func:`build_trie`."""
    scores: np.ndarray
    """float32 [V + 1]: of each piece; the last, -inf, is that of NONE."""
    pairs: np.ndarray
    """From :func:`build_pairs`."""
    places: np.ndarray
    """int64 [65536, 2]: span of each code point's normalized bytes in ``replacements``; first NONE: no entry."""
    replacements: np.ndarray
    """uint8."""
    unknown: Unknown


class Workspace(NamedTuple):
    """Arrays that are used again for every word."""

    buffer: np.ndarray
    """uint8: normalized text."""
    starts: np.ndarray
    """int32: start of the best piece that ends at each place."""
    pieces: np.ndarray
    """int32: its id."""
    sums: np.ndarray
    """float32: score of the best segmentation up to each place."""
    steps: np.ndarray
    """int32: ends of the pieces of the best segmentation."""
    best: np.ndarray
    """float64: score of the best segmentation of a word up to each place."""
    second: np.ndarray
    """float64: the same for the second best."""
    begins: np.ndarray
    """int64: start of each symbol of a word."""
    following: np.ndarray
    """int64: the symbol after each."""
    before: np.ndarray
    """int64: the symbol before each."""
    symbols: np.ndarray
    """int64: id of each symbol."""
    merges: np.ndarray
    """int64: id of each symbol merged with the one after it."""
    gains: np.ndarray
    """float32: score of that merge."""


@compiled
def encode(data, blocks, spans, marks, model, cache, ids):
    """Encode texts.

    Args:
        data: uint8 UTF-8; a newline is a space.
        blocks: uint64, the same bytes, and READ_AHEAD more.
        spans: int64 [texts, 2]: first byte of each, and the one after the last.
        marks: bool [texts]: whether the first word of a text gets a mark too.
        model: a ``Model``.
        cache: a ``WordCache``.
        ids: output, of at least as many entries as bytes and texts, and KEPT_IDS more.

    Returns:
        (int64 [texts + 1] where each text ends in ``ids``, bool [texts] not encoded).
    """
    longest = 0
    for text in range(len(spans)):
        longest = max(longest, spans[text, 1] - spans[text, 0])
    work = new_workspace(2 * longest + 2)
    ends, skipped = np.zeros(len(spans) + 1, np.int64), np.zeros(len(spans), np.bool_)
    end = 0
    for text in range(len(spans)):
        start, stop = spans[text, 0], spans[text, 1]
        new_end = encode_words(data, blocks, start, stop, marks[text], model, work, cache, ids, end)
        if new_end == NONE and model.type == UNIGRAM:
            size = normalize(data, start, stop, marks[text], model, work.buffer)
            if size != NONE:
                new_end = segment_text(size, model, work, ids, end)
        skipped[text] = new_end == NONE
        end = end if new_end == NONE else new_end
        ends[text + 1] = end
    return ends, skipped


@inlined
def new_workspace(room):
    return Workspace(
        np.empty(room, np.uint8),
        np.empty(room, np.int32),
        np.empty(room, np.int32),
        np.empty(room, np.float32),
        np.empty(room, np.int32),
        np.empty(room),
        np.empty(room),
        np.empty(SYMBOLS + 1, np.int64),
        np.empty(SYMBOLS + 1, np.int64),
        np.empty(SYMBOLS + 1, np.int64),
        np.empty(SYMBOLS + 1, np.int64),
        np.empty(SYMBOLS + 1, np.int64),
        np.empty(SYMBOLS + 1, np.float32),
    )


@inlined
def encode_words(data, blocks, start, stop, marked, model, work, cache, ids, end):
    """Append the ids of a text word by word, from the cache where it has them.

    sentencepiece adds 32-bit scores from the start of the text, so each sum of a word's pieces may be off by half of
    the last digit of at most the whole text's score. Where the margin of a word is smaller, its segmentation depends on
    the text.

    Returns:
        The new end of ``ids``, NONE if the text must be segmented as a whole.
    """
    # Members of a tuple are counted as references on each access, so the loop uses arrays.
    words, numbers, floats = cache
    is_unigram = model.type == UNIGRAM
    place, total, closest = start, 0.0, np.inf
    while place < stop and data[place] in (SPACE, NEWLINE):
        place += 1
    while place < stop:
        if data[place] in (SPACE, NEWLINE):
            place += 1
            marked = True
            continue
        word, length = word_key(blocks, place, stop)
        row, is_cached = NONE, False
        # The cache has words with their marks.
        if marked and length <= KEPT_BYTES:
            row, is_cached = find_row(words, word)
        if is_cached:
            end = read_ids(numbers, row, ids, end)
            if is_unigram:
                total += floats[NUMBERS * row + SCORE_AT]
                closest = min(closest, floats[NUMBERS * row + MARGIN_AT])
            # A word is followed by a space or the end.
            place += length + 1
            continue
        if length > KEPT_BYTES:
            length = word_length(data, place, stop)
        first = end
        end, score, margin = encode_word(data, place, length, marked, model, work, ids, end)
        if end == NONE:
            return NONE
        total += score
        closest = min(closest, margin)
        if row != NONE:
            store(cache, row, word, ids, first, end, score, margin)
        place += length + 1
        marked = True
    return end if closest > ROUNDING * abs(total) else NONE


@compiled
def encode_word(data, place, length, marked, model, work, ids, end):
    """Append the ids of one word.

    Returns:
        (the new end of ``ids``, NONE if it cannot be segmented on its own; its score; the margin of that).
    """
    size = normalize(data, place, place + length, marked, model, work.buffer)
    if size == NONE:
        return NONE, 0.0, 0.0
    if model.type != UNIGRAM:
        return merge_pairs(size, model, work, ids, end), 0.0, np.inf
    if size > SHORT_BYTES:
        return NONE, 0.0, 0.0
    return segment_word(size, model, work, ids, end)


@inlined
def word_length(data, place, stop):
    after = place
    while after < stop and data[after] not in (SPACE, NEWLINE):
        after += 1
    return after - place
