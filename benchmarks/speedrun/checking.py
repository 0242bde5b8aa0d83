"""Compute a record again, by another person or on another machine, and compare."""

from pathlib import Path
from typing import NamedTuple

from benchmarks.speedrun.record import Record
from sesame.configs.errors import ConfigError

CLOSE = 0.5
"""Points that a mean may differ by in any case: a score of few rows has no smaller steps."""


class Comparison(NamedTuple):
    """What a record and its repetition have in common."""

    lines: tuple[str, ...]
    """For people."""
    is_confirmed: bool


def compare(record: Record, again: Record) -> Comparison:
    """Compare a record with its repetition.

    The text, the suites and the datasets must be the same. On the same kind of processor with the same versions of the
    libraries the weights must be the same bytes; elsewhere each mean score must be within the spread over seeds.
    """
    lines, confirmed = [], True
    for name in ("recipe_sha256", "text_sha256", "suites_sha256", "datasets"):
        is_same = getattr(record, name) == getattr(again, name)
        confirmed &= is_same
        lines.append(f"{name.removesuffix('_sha256')}: {'the same' if is_same else 'DIFFERENT'}")
    if not confirmed:
        lines.append("something else was trained or asked, so its scores say nothing about the record")
        return Comparison(tuple(lines), False)
    weights = [(one.weights_sha256, two.weights_sha256) for one, two in zip(record.runs, again.runs, strict=True)]
    equal = sum(one == two for one, two in weights)
    lines.append(f"weights: {equal} of {len(weights)} seeds have the same bytes")
    must_be_equal = _machine(record) == _machine(again)
    if must_be_equal:
        lines.append("processor, threads and versions are the record's, so bytes must be the same")
        return Comparison(tuple(lines), equal == len(weights))
    lines.append(f"computed on {again.processor}, the record on {record.processor}: scores are compared")
    for task, score in record.scores.items():
        if task not in again.scores:
            lines.append(f"{task}: MISSING")
            confirmed = False
            continue
        other = again.scores[task]
        allowed = max(score.spread, other.spread, CLOSE)
        is_within = abs(score.mean - other.mean) <= allowed
        confirmed &= is_within
        word = "within" if is_within else "BEYOND"
        lines.append(f"{task}: {score.mean:.1f}, again {other.mean:.1f}: {word} the spread of {allowed:.1f}")
    return Comparison(tuple(lines), confirmed)


def find(records: list[Record], recipe: str, track: str, path: Path) -> Record:
    """Return the last record of a recipe on a track.

    Raises:
        ConfigError: there is none.
    """
    fitting = [record for record in records if (record.recipe, record.track) == (recipe, track)]
    if not fitting:
        known = ", ".join(sorted({f"{record.recipe} on {record.track}" for record in records})) or "nothing"
        raise ConfigError(f"{path}: has no record of {recipe} on {track}; it has {known}")
    return fitting[-1]


def _machine(record: Record) -> tuple[object, ...]:
    return record.processor, record.threads, record.versions
