"""Selection over the whole corpus: which documents are dropped, trained on or used for validation."""

from collections import Counter
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from sesame.data_pipeline.cleaning.near_duplicates import first_of_near_duplicates
from sesame.data_pipeline.cleaning.parts import Part, Reading
from sesame.data_pipeline.cleaning.pieces import BLANK
from sesame.data_pipeline.cleaning.repetition import Paragraphs


class Outcome(IntEnum):
    """Whether a cleaned document is used, and if not, why."""

    DUPLICATE = 0
    NEAR_DUPLICATE = 1
    BEYOND_LIMIT = 2
    BEYOND_WEIGHT = 3
    NOTHING_LEFT = 4
    TRAIN = 5
    VALIDATION = 6


DROPPED = {
    Outcome.DUPLICATE: "duplicate",
    Outcome.NEAR_DUPLICATE: "near duplicate",
    Outcome.BEYOND_LIMIT: "beyond the limit",
    Outcome.BEYOND_WEIGHT: "beyond the weight",
    Outcome.NOTHING_LEFT: "all of it repeated",
}
"""Reasons under which the manifest counts dropped documents."""


class Choice(NamedTuple):
    """The outcomes of the pieces of one part, equal for all pieces of a document."""

    outcomes: np.ndarray
    """int8 [pieces]: the :class:`Outcome` of its document."""
    characters: np.ndarray
    """int64 [pieces]: characters of the paragraphs that stay, if the document stays."""
    paragraphs: np.ndarray | None = None
    """bool [paragraphs]: which ones stay; None for all."""
    times: np.ndarray | None = None
    """int64 [pieces]: how many times a train document is used; None for once each."""

    def keep(self, outcome: Outcome) -> np.ndarray:
        """Return bool [pieces]: whether its document has this outcome."""
        return self.outcomes == outcome

    @property
    def stays(self) -> np.ndarray:
        """bool [pieces]: used for training or validation."""
        return self.outcomes >= Outcome.TRAIN

    def only(self, outcome: Outcome, some: np.ndarray) -> "Choice":
        """Return a choice of only ``some`` (bool) of the pieces with this outcome."""
        outcomes = np.full_like(self.outcomes, Outcome.DUPLICATE)
        outcomes[np.flatnonzero(self.keep(outcome))[some]] = outcome
        return self._replace(outcomes=outcomes)

    def repetitions(self, outcome: Outcome) -> np.ndarray:
        """Return int64 [pieces with this outcome]: how many times the document is used."""
        kept = self.keep(outcome)
        return np.ones(kept.sum(), np.int64) if self.times is None else self.times[kept]


class Origin(NamedTuple):
    """The source of a part, with its settings for selection."""

    source: int = 0
    """Index of the source. The limit is for all its parts together."""
    limit: float = float("inf")
    """In characters."""
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
    """Select documents in the order of the corpus, so that the first of equal texts stays.

    The hash of its text decides whether a document is for validation, so that adding or removing others does not
    change it.
    """
    if not parts:
        return []
    begins = np.concatenate([part.begins for part in parts])
    document_of_piece = np.cumsum(begins) - 1
    pieces = [part.pieces for part in parts]
    hashes = np.concatenate([part.fingerprints for part in parts])[begins]
    sources = np.repeat([origin.source for origin in origins], pieces)[begins]
    weights = np.repeat([origin.weight for origin in origins], pieces)[begins]
    bands = np.concatenate([part.bands for part in parts])[begins] if drop_near_duplicates else None
    outcomes = _outcomes_of_texts(hashes, bands, drop_duplicates, validation_fraction)
    paragraphs = Paragraphs.of(parts, document_of_piece) if drop_paragraphs else None
    characters = np.concatenate([part.characters for part in parts])

    def kept_characters(stays: np.ndarray) -> np.ndarray:
        """int64 [documents]: characters that stay of each document, if the documents ``stays`` (bool) do."""
        of_piece = characters if paragraphs is None else paragraphs.characters(paragraphs.kept_of_documents(stays))
        return np.bincount(document_of_piece, of_piece, minlength=len(stays)).astype(np.int64)

    _apply_limits(sources, {origin.source: origin.limit for origin in origins}, outcomes, kept_characters)
    _ensure_validation(hashes, outcomes)
    times = _times(hashes, weights, outcomes)
    if paragraphs is not None:
        stays = outcomes >= Outcome.TRAIN
        outcomes[stays & (kept_characters(stays) == 0)] = Outcome.NOTHING_LEFT
        _ensure_validation(hashes, outcomes)
    return _by_part(parts, outcomes[document_of_piece], times[document_of_piece], paragraphs, characters)


def _outcomes_of_texts(
    hashes: np.ndarray, bands: np.ndarray | None, drop_duplicates: bool, validation_fraction: float
) -> np.ndarray:
    """int8 [documents]: outcomes by the fingerprint and the MinHash bands (None to keep near duplicates) only."""
    outcomes = np.full(len(hashes), Outcome.TRAIN, np.int8)
    outcomes[hashes[:, 0] / 2.0**64 < validation_fraction] = Outcome.VALIDATION
    if bands is not None:
        outcomes[~first_of_near_duplicates([bands])[0]] = Outcome.NEAR_DUPLICATE
    if drop_duplicates:
        outcomes[~_first_of_equal(hashes)] = Outcome.DUPLICATE
    return outcomes


def _by_part(
    parts: Sequence[Part],
    outcomes: np.ndarray,
    times: np.ndarray,
    paragraphs: Paragraphs | None,
    characters: np.ndarray,
) -> list[Choice]:
    """Split arrays over all pieces into one choice for each part."""
    bounds = np.cumsum([part.pieces for part in parts])[:-1]
    kept_by_part: list[np.ndarray] | list[None] = [None] * len(parts)
    if paragraphs is not None:
        kept = paragraphs.kept_of_pieces(outcomes >= Outcome.TRAIN)
        characters = paragraphs.characters(kept)
        kept_by_part = np.split(kept, np.cumsum([len(part.paragraphs) for part in parts])[:-1])
    by_part = (np.split(values, bounds) for values in (outcomes, characters, times))
    return [
        Choice(part_outcomes, part_characters, kept, None if (part_times == 1).all() else part_times)
        for part_outcomes, part_characters, part_times, kept in zip(*by_part, kept_by_part, strict=True)
    ]


def counts(readings: Sequence[Reading], choices: Sequence[Choice]) -> dict[str, int]:
    """Count the documents read, kept for training, held out, and dropped by reason."""
    parts = [part for reading in readings for part in reading.parts]
    total = np.zeros(len(Outcome), np.int64)
    for part, choice in zip(parts, choices, strict=True):
        total += np.bincount(choice.outcomes[part.begins], minlength=len(Outcome))
    documents = total.tolist()
    dropped: Counter[str] = Counter({reason: documents[outcome] for outcome, reason in DROPPED.items()})
    changed: Counter[str] = Counter()
    for reading in readings:
        dropped.update(reading.dropped)
        changed.update(reading.changed)
    changed["repeated pieces left out"] = sum(map(_repeated_paragraphs, parts, choices))
    return {
        "read": sum(reading.documents for reading in readings),
        "kept for training": documents[Outcome.TRAIN],
        "held out": documents[Outcome.VALIDATION],
        **{f"dropped: {reason}": count for reason, count in sorted(dropped.items()) if count},
        **{name: count for name, count in sorted(changed.items()) if count},
    }


def _first_of_equal(hashes: np.ndarray) -> np.ndarray:
    """bool [documents]: no earlier document has the same fingerprint.

    Args:
        hashes: uint64 [documents, 2].
    """
    order = np.lexsort((hashes[:, 1], hashes[:, 0]))
    first = np.zeros(len(hashes), bool)
    first[order] = np.any(np.diff(hashes[order], axis=0, prepend=~hashes[order[:1]]) != 0, axis=1)
    return first


def _apply_limits(
    sources: np.ndarray,
    limits: dict[int, float],
    outcomes: np.ndarray,
    kept_characters: Callable[[np.ndarray], np.ndarray],
) -> None:
    """Drop documents beyond the limit of their source; one that begins before the limit stays whole.

    Args:
        sources: int64 [documents], ascending.
        kept_characters: characters that stay of each document, if some documents stay; the limit counts these.
    """
    for source, limit in limits.items():
        if limit == float("inf"):
            continue
        # Later sources do not change what stays of this one.
        stays = (outcomes >= Outcome.TRAIN) & (sources <= source)
        candidates = np.flatnonzero(stays & (sources == source))
        sizes = kept_characters(stays)[candidates]
        outcomes[candidates[np.cumsum(sizes) - sizes >= limit]] = Outcome.BEYOND_LIMIT


def _repeated_paragraphs(part: Part, choice: Choice) -> int:
    """Number of paragraphs or lines dropped as repetitions from documents that stay."""
    if choice.paragraphs is None:
        return 0
    inside = np.repeat(choice.stays, np.diff(part.paragraph_bounds))
    return int((inside & ~choice.paragraphs & (part.paragraphs > BLANK)).sum())


def _times(hashes: np.ndarray, weights: np.ndarray, outcomes: np.ndarray) -> np.ndarray:
    """int64 [documents]: how many times each is used; train documents with 0 are set to BEYOND_WEIGHT."""
    whole = weights.astype(np.int64)
    # The first half of the fingerprint decides about validation, so that the two choices are independent.
    times = whole + (hashes[:, 1] / 2.0**64 < weights - whole)
    outcomes[(outcomes == Outcome.TRAIN) & (times == 0)] = Outcome.BEYOND_WEIGHT
    return times


def _ensure_validation(hashes: np.ndarray, outcomes: np.ndarray) -> None:
    """Move the two texts with the lowest hashes to validation, which may be empty by chance in a small corpus.

    Documents with equal texts move together.
    """
    kept = np.flatnonzero(outcomes >= Outcome.TRAIN)
    texts, copies = np.unique(hashes[kept], axis=0, return_inverse=True)
    if len(texts) >= 4:
        outcomes[kept[copies.ravel() < 2]] = Outcome.VALIDATION
