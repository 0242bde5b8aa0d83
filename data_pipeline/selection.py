"""Which documents of the whole corpus stay, and which of them are held out for validation."""

from collections import Counter
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from data_pipeline.near_duplicates import first_of_alike
from data_pipeline.parts import Part, Reading


class Fate(IntEnum):
    """What becomes of a document that cleaning let through."""

    DUPLICATE = 0
    NEAR_DUPLICATE = 1
    BEYOND_LIMIT = 2
    TRAIN = 3
    VALIDATION = 4


class Choice(NamedTuple):
    """The fates of the documents of one part, and its paragraphs that stay."""

    fates: np.ndarray
    """int8 [documents]: a :class:`Fate` each."""
    paragraphs: np.ndarray | None
    """bool [paragraphs], or None where all stay."""

    def keep(self, fate: Fate) -> np.ndarray:
        return self.fates == fate


def choose(
    parts: Sequence[Part],
    *,
    drop_duplicates: bool,
    drop_near_duplicates: bool,
    drop_paragraphs: bool,
    limit: float,
    validation_fraction: float,
) -> list[Choice]:
    """Decide over all documents in their order: of equal texts the first stays, and ``limit`` characters are enough.

    A document is held out by the hash of its text, so that the choice is stable when others come or go.
    """
    seen: set[bytes] = set()
    fates = [np.full(part.documents, Fate.TRAIN, np.int8) for part in parts]
    size = 0
    alike = first_of_alike([part.bands for part in parts]) if drop_near_duplicates else [None] * len(parts)
    for part, codes, first in zip(parts, fates, alike, strict=True):
        for row, mark in enumerate(part.fingerprints):
            if drop_duplicates and mark in seen:
                codes[row] = Fate.DUPLICATE
            elif first is not None and not first[row]:
                codes[row] = Fate.NEAR_DUPLICATE
            elif size >= limit:
                codes[row] = Fate.BEYOND_LIMIT
            else:
                size += int(part.characters[row])
                codes[row] = Fate.VALIDATION if _share(mark) < validation_fraction else Fate.TRAIN
            seen.add(mark)
    _hold_out_some(parts, fates)
    paragraphs = _first_paragraphs(parts, fates) if drop_paragraphs and parts else [None] * len(parts)
    return [Choice(codes, stays) for codes, stays in zip(fates, paragraphs, strict=True)]


def counts(readings: Sequence[Reading], choices: Sequence[Choice]) -> dict[str, int]:
    """Documents read, kept, held out, and dropped by reason."""
    dropped: Counter[str] = Counter()
    for reading in readings:
        dropped.update(reading.dropped)
    found = Counter(int(fate) for choice in choices for fate in choice.fates)
    dropped["duplicate"] += found[Fate.DUPLICATE]
    dropped["near duplicate"] += found[Fate.NEAR_DUPLICATE]
    dropped["beyond the limit"] += found[Fate.BEYOND_LIMIT]
    return {
        "read": sum(reading.documents for reading in readings),
        "kept for training": found[Fate.TRAIN],
        "held out": found[Fate.VALIDATION],
        **{f"dropped: {reason}": count for reason, count in sorted(dropped.items()) if count},
    }


def _share(fingerprint: bytes) -> float:
    return int.from_bytes(fingerprint[:8], "little") / 2**64


def _hold_out_some(parts: Sequence[Part], fates: list[np.ndarray]) -> None:
    """A small corpus may miss the fraction by chance, but without two held-out documents no run could be judged."""
    kept = [
        (part.fingerprints[row], codes, row)
        for part, codes in zip(parts, fates, strict=True)
        for row in np.flatnonzero(codes >= Fate.TRAIN)
    ]
    if len(kept) >= 4:
        for _, codes, row in sorted(kept, key=lambda found: found[0][7::-1])[:2]:
            codes[row] = Fate.VALIDATION


def _first_paragraphs(parts: Sequence[Part], fates: list[np.ndarray]) -> list[np.ndarray]:
    """For each part which paragraphs are the first of their text among the documents that stay."""
    hashes = np.concatenate([part.paragraphs for part in parts])
    stays = np.concatenate(
        [
            np.repeat(codes >= Fate.TRAIN, np.diff(part.paragraph_bounds))
            for part, codes in zip(parts, fates, strict=True)
        ]
    )
    first = np.zeros(len(hashes), bool)
    candidates = np.flatnonzero(stays)
    first[candidates[np.unique(hashes[candidates], return_index=True)[1]]] = True
    return np.split(first, np.cumsum([len(part.paragraphs) for part in parts])[:-1])
