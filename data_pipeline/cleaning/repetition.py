"""Repeated paragraphs or lines of the whole corpus: of equal ones the first stays."""

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np

from data_pipeline.cleaning.parts import BLANK, CONTINUES, NEVER_REPEATED, Part


class Paragraphs(NamedTuple):
    """Those of all pieces end to end, in the order of the corpus."""

    hashes: np.ndarray
    """uint64 [paragraphs]."""
    sizes: np.ndarray
    """int64 [paragraphs]: characters."""
    pieces: np.ndarray
    """int64 [paragraphs]: number of the piece of each."""
    documents: np.ndarray
    """int64 [pieces]: number of the document of each."""
    end: int
    """Characters that a paragraph ends with, if another one follows in its document."""

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

    def staying(self, stays: np.ndarray) -> np.ndarray:
        """bool [paragraphs]: those that stay of the documents that ``stays`` (bool [documents])."""
        return self.staying_of_pieces(stays[self.documents])

    def staying_of_pieces(self, stays: np.ndarray) -> np.ndarray:
        """The same by pieces (bool [pieces])."""
        inside = stays[self.pieces]
        found = np.zeros(len(self.hashes), bool)
        candidates = np.flatnonzero(inside & (self.hashes > BLANK))
        found[candidates[np.unique(self.hashes[candidates], return_index=True)[1]]] = True
        found[inside & (self.hashes == NEVER_REPEATED)] = True
        # The rest of a paragraph that lies in two pieces goes with its beginning.
        continuing = self.hashes == CONTINUES
        beginnings = np.maximum.accumulate(np.where(continuing, 0, np.arange(len(found))))
        found[continuing] = found[beginnings[continuing]]
        self._keep_single_blanks(found, inside)
        return found

    def characters(self, staying: np.ndarray) -> np.ndarray:
        """int64 [pieces]: characters of each piece of which only ``staying`` (bool [paragraphs]) stays."""
        sizes = np.where(staying, self.sizes, 0)
        owner = self.documents[self.pieces]
        kept = np.flatnonzero(staying)
        last = kept[np.diff(owner[kept], append=-1) != 0]
        ended = last[np.append(owner[1:], -1)[last] == owner[last]]
        sizes[ended] -= self.end
        return np.bincount(self.pieces, sizes, minlength=len(self.documents)).astype(np.int64)

    def _keep_single_blanks(self, found: np.ndarray, inside: np.ndarray) -> None:
        """Mark in ``found`` the first of each run of empty lines, none at either end of a document."""
        blank = self.hashes == BLANK
        shown = np.flatnonzero(found | (inside & blank))
        owner, empty = self.documents[self.pieces[shown]], blank[shown]
        first = np.diff(owner, prepend=-1) != 0
        shown = shown[~(empty & (first | np.append(False, empty[:-1])))]
        owner, empty = self.documents[self.pieces[shown]], blank[shown]
        last = np.diff(owner, append=-1) != 0
        found[shown[~(empty & last)]] = True
