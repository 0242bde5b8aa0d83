"""Sentences that are longer than a row are cut, so that nothing of them is lost; so is text without any terminals."""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from sesame.data_pipeline.characters import cutting_kinds
from sesame.data_pipeline.compiled.cutting import cut_spans, cut_tokens
from sesame.data_pipeline.ragged import Ragged, boundaries
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer

SPACES = ("\N{LOWER ONE EIGHTH BLOCK}", "\u0120")
"""White space in the pieces of sentencepiece and of GPT-2."""
MORE_PIECES = 1.1
"""Of a sentence that is cut by its bytes, so that few pieces have to be cut again by their tokens."""

Encode = Callable[[Ragged, Ragged], Ragged]
"""Texts (uint8 rows) and their sentences (int64 [sentences, 2], a row a text) -> ids, a row for each sentence."""


class Fitting(NamedTuple):
    """Sentences of which none is too long."""

    sentences: Ragged
    """int64 [sentences, 2], a row for each text."""
    ids: Ragged
    """A row for each sentence or piece of one."""
    counts: np.ndarray
    """int64 [texts]: rows of each."""
    lengths: np.ndarray
    """int64: tokens of the sentences as they were."""


def cut_to_fit(texts: Ragged, found: Ragged, encode: Encode, longest: int, after_space: np.ndarray) -> Fitting:
    """Encode sentences, with those of more than ``longest`` tokens cut until all pieces fit: at spaces, else behind
    commas, else between characters with their marks. Nothing of the text is lost.

    Where tokens show the spaces, their ids are cut; else the text is, and encoded again.

    Args:
        texts: uint8 rows of UTF-8.
        found: int64 [sentences, 2], a row for each text, as ``find_sentences`` has them.
        after_space: bool [V]: white space stands before the token.

    Returns:
        Only what cannot be cut, such as a character of many tokens, is longer than asked for.
    """
    ids = encode(texts, found)
    lengths = ids.lengths
    whole = np.zeros(len(lengths), bool)
    while True:
        sizes, counts = cut_tokens(ids.values, ids.offsets, longest, after_space)
        too_long = (ids.lengths > longest) & (counts == 1) & ~whole
        if not too_long.any():
            break
        parts = np.ceil(ids.lengths[too_long] * MORE_PIECES / longest).astype(np.int64)
        made, cuts = cut_spans(texts.values, found.values[too_long], parts, cutting_kinds())
        again = _encode_pieces(texts, found, np.flatnonzero(too_long), Ragged(made, boundaries(cuts)), encode)
        found, ids, whole = _replaced(found, ids, too_long, Ragged(made, boundaries(cuts)), again)
    owners = np.repeat(np.arange(len(found.lengths)), found.lengths)
    per_text = np.bincount(owners, weights=counts, minlength=len(found.lengths)).astype(np.int64)
    return Fitting(found, Ragged(ids.values, boundaries(sizes)), per_text, lengths)


@lru_cache(maxsize=2)
def after_space(tokenizer: Tokenizer) -> np.ndarray:
    """bool [V]: the piece is written with the white space before it. WordPiece has no such pieces."""
    return np.array([tokenizer.piece(token).startswith(SPACES) for token in range(len(tokenizer))])


def _replaced(
    found: Ragged, ids: Ragged, replaced: np.ndarray, made: Ragged, again: Ragged
) -> tuple[Ragged, Ragged, np.ndarray]:
    """(the sentences, their ids) with the pieces ``made``, and the ids ``again``, in place of those that are
    ``replaced``; bool: those that could not be cut."""
    times = np.ones(len(replaced), np.int64)
    times[replaced] = made.lengths
    new = np.repeat(replaced, times)
    places = np.empty((len(new), 2), np.int64)
    places[new], places[~new] = made.values, found.values[~replaced]
    owners = np.repeat(np.arange(len(found.lengths)), found.lengths)
    lengths = np.bincount(owners, weights=times, minlength=len(found.lengths)).astype(np.int64)
    order = np.empty(len(new), np.int64)
    order[~new], order[new] = np.flatnonzero(~replaced), len(replaced) + np.arange(len(made.values))
    whole = np.repeat(replaced & (times == 1), times)
    return Ragged(places, boundaries(lengths)), Ragged.joined([ids, again]).take(order), whole


def _encode_pieces(texts: Ragged, found: Ragged, numbers: np.ndarray, made: Ragged, encode: Encode) -> Ragged:
    """The ids of the pieces ``made`` of the sentences ``numbers``.

    What stands before and behind a sentence may decide about its ids, so that it is encoded with the last character of
    the sentence before it and the first one of the next, as a text of its own.
    """
    data, spans = texts.values, found.values
    owners = np.repeat(np.arange(len(found.lengths)), found.lengths)
    inner = np.append(owners[1:] == owners[:-1], False)
    after, before = inner[numbers], np.append(False, inner[:-1])[numbers]
    low, high = texts.offsets[owners[numbers]], texts.offsets[owners[numbers] + 1]
    low[before] = _character_before(data, spans[numbers[before] - 1, 1])
    high[after] = _character_after(data, spans[numbers[after] + 1, 0])
    lengths = high - low
    offsets = boundaries(lengths)
    chosen = Ragged(data[np.arange(offsets[-1]) + np.repeat(low - offsets[:-1], lengths)], offsets)
    owner = np.repeat(np.arange(len(numbers)), made.lengths)
    beside = [
        np.stack([low[before], spans[numbers[before] - 1, 1]], axis=1),
        np.stack([spans[numbers[after] + 1, 0], high[after]], axis=1),
    ]
    every = np.concatenate([made.values, *beside])
    texts_of = np.concatenate([owner, np.flatnonzero(before), np.flatnonzero(after)])
    order = np.lexsort((every[:, 0], texts_of))
    moved = every[order] + (offsets[:-1] - low)[texts_of[order], None]
    ids = encode(chosen, Ragged(moved, boundaries(made.lengths + before + after)))
    return ids.take(np.flatnonzero(order < len(owner)))


def _character_before(data: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Where the characters that end at ``ends`` begin."""
    places = ends - 1
    for _ in range(3):
        places = places - (data[places] & 0xC0 == 0x80)
    return places


def _character_after(data: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Where the characters that begin at ``starts`` end."""
    lead = data[starts]
    return starts + 1 + (lead >= 0xC0) + (lead >= 0xE0) + (lead >= 0xF0)
