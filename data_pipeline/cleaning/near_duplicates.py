"""Documents that say almost the same, by MinHash (Broder 1997) and banding (Leskovec et al. 2014, section 3.4).

Two documents meet when one of their 14 bands of 8 minima over 5-word sequences is equal, as in FineWeb (Penedo et al.
2024, appendix E.1): likely from about three quarters of shared sequences on.
"""

import hashlib
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import islice
from typing import Any

import numpy as np

from data_pipeline.cleaning.words import iterate_words

BANDS, MINIMA, WORDS = 14, 8, 5
WORDS_AT_ONCE = 1 << 16


@cache
def _empty() -> Any:
    """The minima of no sequences. datasketch loads half of scipy, which most runs need not wait for."""
    from datasketch import MinHash

    return MinHash(num_perm=BANDS * MINIMA, seed=1)


def bands(text: str) -> np.ndarray:
    """uint64 [BANDS]: a hash of the minima of each band."""
    minima = _empty().copy()
    for words in _stretches(text.lower()):
        sequences = {" ".join(words[first : first + WORDS]) for first in range(max(1, len(words) - WORDS + 1))}
        minima.update_batch([sequence.encode() for sequence in sorted(sequences)])
    rows = minima.hashvalues.astype("<u8").reshape(BANDS, MINIMA)
    hashes = [hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in rows]
    return np.frombuffer(b"".join(hashes), "<u8")


def _stretches(text: str) -> Iterator[list[str]]:
    """The words of a text, some at a time, for a document may be long; each 5-word sequence is in one of them."""
    words = iterate_words(text)
    held = list(islice(words, WORDS_AT_ONCE))
    while True:
        yield held
        more = list(islice(words, WORDS_AT_ONCE))
        if not more:
            return
        held = held[-(WORDS - 1) :] + more


def first_of_alike(by_part: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Which documents are the first of those that are alike, directly or through others.

    Args:
        by_part: uint64 [documents, BANDS] of each part.

    Returns:
        bool [documents] for each part.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not by_part:
        return []
    whole = np.concatenate(by_part)
    documents = np.arange(len(whole))
    # An edge from each document to the first one with the same band is enough to connect all that share it.
    firsts = [np.unique(column, return_index=True, return_inverse=True)[1:] for column in whole.T]
    others = np.concatenate([index[inverse] for index, inverse in firsts])
    edges = (np.ones(len(others), np.int8), (np.tile(documents, whole.shape[1]), others))
    count, group = connected_components(coo_array(edges, shape=(len(whole), len(whole))), directed=False)
    first = np.full(count, len(whole))
    np.minimum.at(first, group, documents)
    stays = first[group] == documents
    return np.split(stays, np.cumsum([len(part) for part in by_part])[:-1])
