"""The record of a run that has trained and scored its seeds."""

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.speedrun.facts import dataset_digest, words_per_token
from benchmarks.speedrun.held_out import HeldOut
from benchmarks.speedrun.options import LIST, QUICK, SUITES
from benchmarks.speedrun.record import Record, Score, SeedRow
from benchmarks.speedrun.scoring import suites_digest
from benchmarks.speedrun.trainers import Trained

if TYPE_CHECKING:
    from benchmarks.speedrun.run import Run

COPIED = ("steps", "minutes", "tokens", "flops", "validation_loss", "weights_sha256")
"""Fields of ``Trained`` that a record has."""


def record_of(
    run: "Run",
    datasets: Mapping[str, Path],
    trained: Mapping[int, Trained],
    chosen: dict[str, float],
    measured: Mapping[int, HeldOut],
    scores: dict[str, Score],
    suites: Path,
) -> Record:
    """Return the record of ``run``.

    Args:
        trained, measured: by seed.
        chosen: validation loss of each value that was tried.
        suites: folder of those that gave the scores.
    """
    words = words_per_token(next(iter(datasets.values())), run.documents.words)
    first = next(iter(trained.values()))
    rows = tuple(
        SeedRow(
            seed=seed,
            words=round(each.tokens * words),
            nats_per_word=measured[seed].nats_per_word,
            **{name: getattr(each, name) for name in COPIED},
        )
        for seed, each in trained.items()
    )
    return Record(
        recipe=run.name,
        kind=run.recipe.kind,
        about=run.recipe.about,
        recipe_sha256=run.recipe.digest,
        track=run.track_name,
        minutes=run.minutes,
        date=date.today().isoformat(),
        text_sha256=run.documents.sha256,
        text_words=run.documents.words,
        held_out_sha256=next(iter(measured.values())).documents_sha256,
        suites_sha256=suites_digest(suites),
        datasets={name: dataset_digest(path) for name, path in datasets.items()},
        processor=first.processor,
        threads=first.threads,
        versions=dict(first.versions),
        code=" and ".join(dict.fromkeys(each.code for each in trained.values())),
        chosen=chosen,
        runs=rows,
        scores=scores,
        marks=_marks(run, suites),
    )


def _marks(run: "Run", suites: Path) -> tuple[str, ...]:
    """Return why the result is not a record of the track, but for its seeds."""
    reasons = {
        f"cut to {run.minutes:g} of {run.track.minutes:g} minutes": run.minutes != run.track.minutes,
        "own text": run.options.list != LIST,
        "own evaluation": suites not in (SUITES, QUICK),
    }
    return tuple(reason for reason, holds in reasons.items() if holds)
