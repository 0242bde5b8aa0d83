"""Which documents of the whole corpus stay, and which of them are held out for validation."""

from collections import Counter
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from data_pipeline.near_duplicates import first_of_alike
from data_pipeline.parts import NEVER_REPEATED, Part, Reading


class Fate(IntEnum):
    """What becomes of a document that cleaning let through."""

    DUPLICATE = 0
    NEAR_DUPLICATE = 1
    BEYOND_LIMIT = 2
    BEYOND_WEIGHT = 3
    TRAIN = 4
    VALIDATION = 5


class Choice(NamedTuple):
    """The fates of the documents of one part, and its paragraphs that stay."""

    fates: np.ndarray
    """int8 [documents]: a :class:`Fate` each."""
    paragraphs: np.ndarray | None
    """bool [paragraphs], or None where all stay."""
    times: np.ndarray | None = None
    """int64 [documents]: how often a train document is gone through; None for once each."""

    def keep(self, fate: Fate) -> np.ndarray:
        return self.fates == fate


class Origin(NamedTuple):
    """What choosing needs to know of the source of a part."""

    source: int = 0
    """Number of the source; its limit is for all its parts together."""
    limit: float = float("inf")
    """Characters."""
    weight: float = 1.0


def choose(
    parts: Sequence[Part],
    origins: Sequence[Origin],
    *,
    drop_duplicates: bool,
    drop_near_duplicates: bool,
    drop_paragraphs: bool,
    validation_fraction: float,
) -> list[Choice]:
    """Decide over all documents in their order: of equal texts the first stays, and the limits of the sources hold.

    A document is held out by the hash of its text, so that the choice is stable when others come or go.
    """
    seen: set[bytes] = set()
    fates = [np.full(part.documents, Fate.TRAIN, np.int8) for part in parts]
    sizes: Counter[int] = Counter()
    alike = first_of_alike([part.bands for part in parts]) if drop_near_duplicates else [None] * len(parts)
    for part, origin, codes, first in zip(parts, origins, fates, alike, strict=True):
        for row, mark in enumerate(part.fingerprints):
            if drop_duplicates and mark in seen:
                codes[row] = Fate.DUPLICATE
            elif first is not None and not first[row]:
                codes[row] = Fate.NEAR_DUPLICATE
            elif sizes[origin.source] >= origin.limit:
                codes[row] = Fate.BEYOND_LIMIT
            else:
                sizes[origin.source] += int(part.characters[row])
                codes[row] = Fate.VALIDATION if _share(mark) < validation_fraction else Fate.TRAIN
            seen.add(mark)
    _hold_out_some(parts, fates)
    times = [_times(part, codes, origin.weight) for part, codes, origin in zip(parts, fates, origins, strict=True)]
    paragraphs = _first_paragraphs(parts, fates) if drop_paragraphs and parts else [None] * len(parts)
    return [Choice(*each) for each in zip(fates, paragraphs, times, strict=True)]


def counts(readings: Sequence[Reading], choices: Sequence[Choice]) -> dict[str, int]:
    """Documents read, kept, held out, and dropped by reason."""
    dropped: Counter[str] = Counter()
    for reading in readings:
        dropped.update(reading.dropped)
    found = Counter(int(fate) for choice in choices for fate in choice.fates)
    dropped["duplicate"] += found[Fate.DUPLICATE]
    dropped["near duplicate"] += found[Fate.NEAR_DUPLICATE]
    dropped["beyond the limit"] += found[Fate.BEYOND_LIMIT]
    dropped["beyond the weight"] += found[Fate.BEYOND_WEIGHT]
    changed: Counter[str] = Counter()
    for reading in readings:
        changed.update(reading.changed)
    parts = [part for reading in readings for part in reading.parts]
    changed["repeated pieces left out"] = sum(map(_left_out, parts, choices))
    return {
        "read": sum(reading.documents for reading in readings),
        "kept for training": found[Fate.TRAIN],
        "held out": found[Fate.VALIDATION],
        **{f"dropped: {reason}": count for reason, count in sorted(dropped.items()) if count},
        **{name: count for name, count in sorted(changed.items()) if count},
    }


def _left_out(part: Part, choice: Choice) -> int:
    """Paragraphs or lines of documents that stay which are not the first of their text."""
    if choice.paragraphs is None:
        return 0
    inside = np.repeat(choice.fates >= Fate.TRAIN, np.diff(part.paragraph_bounds))
    return int((inside & ~choice.paragraphs).sum())


def _times(part: Part, codes: np.ndarray, weight: float) -> np.ndarray | None:
    """How often each document is gone through; train documents of no turn get their fate in ``codes``."""
    if weight == 1:
        return None
    # The half of the fingerprint that does not decide what is held out, so that the two choices are independent.
    shares = np.array([_share(mark[8:]) for mark in part.fingerprints])
    times = int(weight) + (shares < weight - int(weight))
    codes[(codes == Fate.TRAIN) & (times == 0)] = Fate.BEYOND_WEIGHT
    return times.astype(np.int64)


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
    first[stays & (hashes == NEVER_REPEATED)] = True
    return np.split(first, np.cumsum([len(part.paragraphs) for part in parts])[:-1])
