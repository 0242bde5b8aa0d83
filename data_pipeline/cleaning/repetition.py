"""Exact deduplication of paragraphs or lines over the whole corpus: the first of equal ones stays."""

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np

from sesame.data_pipeline.cleaning.parts import Part
from sesame.data_pipeline.cleaning.pieces import BLANK, CONTINUES, NEVER_REPEATED


class Paragraphs(NamedTuple):
    """The paragraphs of all pieces, in the order of the corpus."""

    hashes: np.ndarray
    """uint64 [paragraphs]: hash of the text, or one of NEVER_REPEATED, CONTINUES and BLANK."""
    sizes: np.ndarray
    """int64 [paragraphs]: characters."""
    pieces: np.ndarray
    """int64 [paragraphs]: index of the piece that contains it."""
    documents: np.ndarray
    """int64 [pieces]: index of the document that it is of."""
    separator_characters: int
    """Length of the separator between the paragraphs of a document."""

    @classmethod
    def of(cls, parts: Sequence[Part], documents: np.ndarray) -> Self:
        counts = np.concatenate([np.diff(part.paragraph_bounds) for part in parts])
        return cls(
            np.concatenate([part.paragraphs for part in parts]),
            np.concatenate([part.paragraph_characters for part in parts]),
            np.repeat(np.arange(len(counts)), counts),
            documents,
            len(parts[0].paragraph_end),
        )

    def kept_of_documents(self, documents: np.ndarray) -> np.ndarray:
        """Return bool [paragraphs]: which paragraphs stay if some documents do (bool [documents])."""
        return self.kept_of_pieces(documents[self.documents])

    def kept_of_pieces(self, pieces: np.ndarray) -> np.ndarray:
        """Return bool [paragraphs]: which paragraphs stay if some pieces do (bool [pieces])."""
        candidate = pieces[self.pieces]
        kept = np.zeros(len(self.hashes), bool)
        hashed = np.flatnonzero(candidate & (self.hashes > BLANK))
        kept[hashed[np.unique(self.hashes[hashed], return_index=True)[1]]] = True
        kept[candidate & (self.hashes == NEVER_REPEATED)] = True
        # A paragraph in two pieces is kept or dropped as a whole.
        continues = self.hashes == CONTINUES
        first = np.maximum.accumulate(np.where(continues, 0, np.arange(len(kept))))
        kept[continues] = kept[first[continues]]
        self._keep_single_blanks(kept, candidate)
        return kept

    def characters(self, kept: np.ndarray) -> np.ndarray:
        """Return int64 [pieces]: the characters of each piece in the paragraphs ``kept`` (bool [paragraphs])."""
        sizes = np.where(kept, self.sizes, 0)
        document = self.documents[self.pieces]
        kept_numbers = np.flatnonzero(kept)
        last = kept_numbers[np.diff(document[kept_numbers], append=-1) != 0]
        # The last paragraph that is kept has no separator, but one was counted if another paragraph followed it.
        separated = last[np.append(document[1:], -1)[last] == document[last]]
        sizes[separated] -= self.separator_characters
        return np.bincount(self.pieces, sizes, minlength=len(self.documents)).astype(np.int64)

    def _keep_single_blanks(self, kept: np.ndarray, candidate: np.ndarray) -> None:
        """Set ``kept`` for the first of consecutive empty lines, except at the beginning and end of a document."""
        blank = self.hashes == BLANK
        numbers = np.flatnonzero(kept | (candidate & blank))
        document, empty = self.documents[self.pieces[numbers]], blank[numbers]
        first = np.diff(document, prepend=-1) != 0
        numbers = numbers[~(empty & (first | np.append(False, empty[:-1])))]
        document, empty = self.documents[self.pieces[numbers]], blank[numbers]
        last = np.diff(document, append=-1) != 0
        kept[numbers[~(empty & last)]] = True
