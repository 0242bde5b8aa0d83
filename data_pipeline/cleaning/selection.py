"""Which documents of the whole corpus stay, and which of them are held out for validation."""

from collections import Counter
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from data_pipeline.cleaning.near_duplicates import first_of_alike
from data_pipeline.cleaning.parts import BLANK, Part, Reading
from data_pipeline.cleaning.repetition import Paragraphs


class Fate(IntEnum):
    """What becomes of a document that cleaning let through."""

    DUPLICATE = 0
    NEAR_DUPLICATE = 1
    BEYOND_LIMIT = 2
    BEYOND_WEIGHT = 3
    NOTHING_LEFT = 4
    TRAIN = 5
    VALIDATION = 6


DROPPED = {
    Fate.DUPLICATE: "duplicate",
    Fate.NEAR_DUPLICATE: "near duplicate",
    Fate.BEYOND_LIMIT: "beyond the limit",
    Fate.BEYOND_WEIGHT: "beyond the weight",
    Fate.NOTHING_LEFT: "all of it repeated",
}
"""Reasons, as the manifest counts them."""


class Choice(NamedTuple):
    """What becomes of the pieces of one part, the same of all pieces of a document; and its paragraphs that stay."""

    fates: np.ndarray
    """int8 [pieces]: the :class:`Fate` of the document of each."""
    characters: np.ndarray
    """int64 [pieces]: what stays of each where its document does."""
    paragraphs: np.ndarray | None = None
    """bool [paragraphs], or None where all stay."""
    times: np.ndarray | None = None
    """int64 [pieces]: how often a train document is gone through; None for once each."""

    def keep(self, fate: Fate) -> np.ndarray:
        return self.fates == fate

    @property
    def stays(self) -> np.ndarray:
        """bool [pieces]: trained on or held out."""
        return self.fates >= Fate.TRAIN

    def only(self, fate: Fate, some: np.ndarray) -> "Choice":
        """The same choice with only ``some`` (bool) of the pieces of ``fate``, and none of others."""
        fates = np.full_like(self.fates, Fate.DUPLICATE)
        fates[np.flatnonzero(self.keep(fate))[some]] = fate
        return self._replace(fates=fates)

    def turns(self, fate: Fate) -> np.ndarray:
        """int64: how often the document of each piece of ``fate`` is gone through."""
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
    begins = np.concatenate([part.begins for part in parts])
    owners = np.cumsum(begins) - 1
    pieces_of = [part.pieces for part in parts]
    marks = np.concatenate([part.fingerprints for part in parts])[begins]
    sources = np.repeat([origin.source for origin in origins], pieces_of)[begins]
    weights = np.repeat([origin.weight for origin in origins], pieces_of)[begins]
    fates = np.full(len(marks), Fate.TRAIN, np.int8)
    fates[marks[:, 0] / 2.0**64 < validation_fraction] = Fate.VALIDATION
    if drop_near_duplicates:
        whole = np.concatenate([part.bands for part in parts])[begins]
        fates[~first_of_alike([whole])[0]] = Fate.NEAR_DUPLICATE
    if drop_duplicates:
        fates[~_first_of_equal(marks)] = Fate.DUPLICATE
    paragraphs = Paragraphs.of(parts, owners) if drop_paragraphs else None
    characters = np.concatenate([part.characters for part in parts])

    def left(stays: np.ndarray) -> np.ndarray:
        """int64 [documents]: characters of each of the documents that ``stays`` (bool [documents])."""
        each = characters if paragraphs is None else paragraphs.characters(paragraphs.staying(stays))
        return np.bincount(owners, each, minlength=len(stays)).astype(np.int64)

    _apply_limits(sources, {origin.source: origin.limit for origin in origins}, fates, left)
    _hold_out_some(marks, fates)
    times = _times(marks, weights, fates)
    if paragraphs is not None:
        fates[(fates >= Fate.TRAIN) & (left(fates >= Fate.TRAIN) == 0)] = Fate.NOTHING_LEFT
        _hold_out_some(marks, fates)
    return _by_part(parts, fates[owners], times[owners], paragraphs, characters)


def _by_part(
    parts: Sequence[Part], fates: np.ndarray, times: np.ndarray, paragraphs: Paragraphs | None, characters: np.ndarray
) -> list[Choice]:
    """The choice for each part, from what is known of all pieces."""
    cuts = np.cumsum([part.pieces for part in parts])[:-1]
    staying: list[np.ndarray] | list[None] = [None] * len(parts)
    if paragraphs is not None:
        whole = paragraphs.staying_of_pieces(fates >= Fate.TRAIN)
        characters = paragraphs.characters(whole)
        staying = np.split(whole, np.cumsum([len(part.paragraphs) for part in parts])[:-1])
    each = (np.split(values, cuts) for values in (fates, characters, times))
    return [
        Choice(codes, left, stays, None if (turns == 1).all() else turns)
        for codes, left, turns, stays in zip(*each, staying, strict=True)
    ]


def counts(readings: Sequence[Reading], choices: Sequence[Choice]) -> dict[str, int]:
    """Documents read, kept, held out, and dropped by reason."""
    parts = [part for reading in readings for part in reading.parts]
    nothing = np.zeros(len(Fate), np.int64)
    each = (
        np.bincount(choice.fates[part.begins], minlength=len(Fate)) for part, choice in zip(parts, choices, strict=True)
    )
    found = sum(each, nothing).tolist()
    dropped: Counter[str] = Counter({reason: found[fate] for fate, reason in DROPPED.items()})
    changed: Counter[str] = Counter()
    for reading in readings:
        dropped.update(reading.dropped)
        changed.update(reading.changed)
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


def _apply_limits(
    sources: np.ndarray, limits: dict[int, float], fates: np.ndarray, left: Callable[[np.ndarray], np.ndarray]
) -> None:
    """Mark what lies beyond the limit of its source, which counts what is left of the documents that stay; a document
    that begins before the limit stays whole.

    Args:
        sources: int64 [documents], ascending.
        left: of what is left of each document.
    """
    for source, limit in limits.items():
        if limit == float("inf"):
            continue
        # What later sources repeat does not change what is left here.
        stays = (fates >= Fate.TRAIN) & (sources <= source)
        candidates = np.flatnonzero(stays & (sources == source))
        sizes = left(stays)[candidates]
        fates[candidates[np.cumsum(sizes) - sizes >= limit]] = Fate.BEYOND_LIMIT


def _left_out(part: Part, choice: Choice) -> int:
    """Paragraphs or lines of documents that stay which are not the first of their text."""
    if choice.paragraphs is None:
        return 0
    inside = np.repeat(choice.stays, np.diff(part.paragraph_bounds))
    return int((inside & ~choice.paragraphs & (part.paragraphs > BLANK)).sum())


def _times(marks: np.ndarray, weights: np.ndarray, fates: np.ndarray) -> np.ndarray:
    """int64 [documents]: how often each is gone through; train documents of no turn get their fate."""
    whole = weights.astype(np.int64)
    # The half of the fingerprint that does not decide what is held out, so that the two choices are independent.
    times = whole + (marks[:, 1] / 2.0**64 < weights - whole)
    fates[(fates == Fate.TRAIN) & (times == 0)] = Fate.BEYOND_WEIGHT
    return times


def _hold_out_some(marks: np.ndarray, fates: np.ndarray) -> None:
    """A small corpus may miss the fraction by chance, but without two held-out documents no run could be judged. Equal
    texts go together."""
    kept = np.flatnonzero(fates >= Fate.TRAIN)
    texts, copies = np.unique(marks[kept], axis=0, return_inverse=True)
    if len(texts) >= 4:
        fates[kept[copies.ravel() < 2]] = Fate.VALIDATION
