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

    def turns(self, fate: Fate) -> np.ndarray:
        """int64: how often each document of ``fate`` is gone through."""
        kept = self.keep(fate)
        return np.ones(kept.sum(), np.int64) if self.times is None else self.times[kept]


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
    if not parts:
        return []
    marks = np.concatenate([part.fingerprints for part in parts])
    whole = np.full(len(marks), Fate.TRAIN, np.int8)
    whole[marks[:, 0] / 2.0**64 < validation_fraction] = Fate.VALIDATION
    if drop_near_duplicates:
        whole[~np.concatenate(first_of_alike([part.bands for part in parts]))] = Fate.NEAR_DUPLICATE
    if drop_duplicates:
        whole[~_first_of_equal(marks)] = Fate.DUPLICATE
    _apply_limits(parts, origins, whole)
    _hold_out_some(marks, whole)
    fates = np.split(whole, np.cumsum([part.documents for part in parts])[:-1])
    times = [_times(part, codes, origin.weight) for part, codes, origin in zip(parts, fates, origins, strict=True)]
    paragraphs = _first_paragraphs(parts, fates) if drop_paragraphs else [None] * len(parts)
    return [Choice(*each) for each in zip(fates, paragraphs, times, strict=True)]


def counts(readings: Sequence[Reading], choices: Sequence[Choice]) -> dict[str, int]:
    """Documents read, kept, held out, and dropped by reason."""
    dropped: Counter[str] = Counter()
    for reading in readings:
        dropped.update(reading.dropped)
    nothing = np.zeros(len(Fate), np.int64)
    found = sum((np.bincount(each.fates, minlength=len(Fate)) for each in choices), nothing).tolist()
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


def _first_of_equal(marks: np.ndarray) -> np.ndarray:
    """bool [documents]: no document before it has the same fingerprint.

    Args:
        marks: uint64 [documents, 2].
    """
    order = np.lexsort((marks[:, 1], marks[:, 0]))
    first = np.zeros(len(marks), bool)
    first[order] = np.any(np.diff(marks[order], axis=0, prepend=~marks[order[:1]]) != 0, axis=1)
    return first


def _apply_limits(parts: Sequence[Part], origins: Sequence[Origin], fates: np.ndarray) -> None:
    """Mark what lies beyond the limit of its source, which counts the documents that stay."""
    sources = np.repeat([origin.source for origin in origins], [part.documents for part in parts])
    characters = np.concatenate([part.characters for part in parts])
    for source, limit in {origin.source: origin.limit for origin in origins}.items():
        candidates = np.flatnonzero((fates >= Fate.TRAIN) & (sources == source))
        before = np.cumsum(characters[candidates]) - characters[candidates]
        fates[candidates[before >= limit]] = Fate.BEYOND_LIMIT


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
    times = int(weight) + (part.fingerprints[:, 1] / 2.0**64 < weight - int(weight))
    codes[(codes == Fate.TRAIN) & (times == 0)] = Fate.BEYOND_WEIGHT
    return times.astype(np.int64)


def _hold_out_some(marks: np.ndarray, fates: np.ndarray) -> None:
    """A small corpus may miss the fraction by chance, but without two held-out documents no run could be judged."""
    kept = np.flatnonzero(fates >= Fate.TRAIN)
    if len(kept) >= 4:
        fates[kept[np.argsort(marks[kept, 0], kind="stable")[:2]]] = Fate.VALIDATION


def _first_paragraphs(parts: Sequence[Part], fates: Sequence[np.ndarray]) -> list[np.ndarray]:
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
