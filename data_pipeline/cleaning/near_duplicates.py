"""Near duplicates, by MinHash (Broder 1997) and banding (Leskovec et al. 2014, section 3.4).

Two documents are near duplicates if one of their 14 bands of 8 minima over 5-word sequences is equal, as in FineWeb
(Penedo et al. 2024, appendix E.1). That is likely if they share three quarters of their sequences.
"""

import hashlib
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import islice
from typing import Any

import numpy as np

from sesame.data_pipeline.cleaning.words import iterate_words

BANDS, MINIMA, WORDS = 14, 8, 5
WORDS_AT_ONCE = 1 << 16
"""Words in memory as Python strings."""


@cache
def _empty_minhash() -> Any:
    """The MinHash of no sequences. datasketch is imported here because it takes long to load and few runs need it."""
    from datasketch import MinHash

    return MinHash(num_perm=BANDS * MINIMA, seed=1)


def bands(text: str) -> np.ndarray:
    """Return uint64 [BANDS]: a hash of the minima of each band."""
    minima = _empty_minhash().copy()
    for words in _word_chunks(text.lower()):
        sequences = {" ".join(words[first : first + WORDS]) for first in range(max(1, len(words) - WORDS + 1))}
        minima.update_batch([sequence.encode() for sequence in sorted(sequences)])
    rows = minima.hashvalues.astype("<u8").reshape(BANDS, MINIMA)
    hashes = [hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in rows]
    return np.frombuffer(b"".join(hashes), "<u8")


def _word_chunks(text: str) -> Iterator[list[str]]:
    """Yield the words of a text, which may be long, in chunks; each 5-word sequence is in one of them."""
    words = iterate_words(text)
    chunk = list(islice(words, WORDS_AT_ONCE))
    while True:
        yield chunk
        more = list(islice(words, WORDS_AT_ONCE))
        if not more:
            return
        chunk = chunk[-(WORDS - 1) :] + more


def first_of_near_duplicates(bands_by_part: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Find the first document of each cluster of near duplicates, connected directly or through others.

    Args:
        bands_by_part: uint64 [documents, BANDS] of each part.

    Returns:
        bool [documents] for each part; a document without near duplicates is the first of its cluster.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not bands_by_part:
        return []
    whole = np.concatenate(bands_by_part)
    documents = np.arange(len(whole))
    # Edges from each document to the first one with the same band connect all documents that share it.
    firsts = [np.unique(column, return_index=True, return_inverse=True)[1:] for column in whole.T]
    others = np.concatenate([index[inverse] for index, inverse in firsts])
    edges = (np.ones(len(others), np.int8), (np.tile(documents, whole.shape[1]), others))
    count, cluster = connected_components(coo_array(edges, shape=(len(whole), len(whole))), directed=False)
    first = np.full(count, len(whole))
    np.minimum.at(first, cluster, documents)
    is_first = first[cluster] == documents
    return np.split(is_first, np.cumsum([len(part) for part in bands_by_part])[:-1])
