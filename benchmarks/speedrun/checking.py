"""Compute a record again, by another person or on another machine, and compare."""

from pathlib import Path
from typing import NamedTuple

from benchmarks.speedrun.record import Record
from benchmarks.speedrun.run import Run
from benchmarks.speedrun.scoring import suites_digest
from benchmarks.speedrun.tracks import TRACKS
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

    The datasets must be the same, and each mean score within the spread over seeds. On the same kind of processor with
    the same versions of the libraries the weights must be the same bytes as well; not on a GPU, whose sums have no
    order.
    """
    is_same = record.datasets == again.datasets
    lines = [f"datasets: {'the same' if is_same else 'DIFFERENT'}"]
    if not is_same:
        lines.append("something else was trained, so its scores say nothing about the record")
        return Comparison(tuple(lines), False)
    weights = [(one.weights_sha256, two.weights_sha256) for one, two in zip(record.runs, again.runs, strict=True)]
    equal = sum(one == two for one, two in weights)
    lines.append(f"weights: {equal} of {len(weights)} seeds have the same bytes")
    confirmed = True
    if TRACKS[record.track].device == "cpu" and _machine(record) == _machine(again):
        lines.append("processor, threads and versions are the record's, so bytes must be the same")
        confirmed = equal == len(weights)
    else:
        lines.append(f"computed on {again.processor}, the record on {record.processor}")
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


def require_same(record: Record, run: Run) -> None:
    """Raise ConfigError if a run would train or score something else than a record; hours before it has."""
    now = {
        "recipe": run.recipe.digest,
        "text": run.documents.sha256,
        "suites": suites_digest(run.options.suites),
    }
    changed = [name for name, digest in now.items() if digest != getattr(record, f"{name}_sha256")]
    if changed:
        named = " and ".join(changed)
        raise ConfigError(f"{record.title}: {named} changed since then; check out {record.code}, which computed it")


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
