"""Records that were never computed, for tests of what is made from them."""

from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.speedrun.record import Record, Score, SeedRow, with_means

Make = Callable[..., Record]


@pytest.fixture
def make_record() -> Make:
    """``make_record(scores={"BLiMP": (60.0, 61.0)}, nats=(5.0, 5.1), recipe="plain")``: a record of as many seeds as
    scores."""

    def make(scores: dict[str, tuple[float, ...]], nats: tuple[float, ...] = (), **changes: Any) -> Record:
        seeds = len(nats) or len(next(iter(scores.values())))
        runs = tuple(
            SeedRow(
                seed=seed, steps=100, minutes=29.0 + seed / 10, tokens=2e6, words=1e6, flops=1e14 * seed,
                validation_loss=3.5, nats_per_word=each, weights_sha256=f"{seed:064x}",
            )
            for seed, each in enumerate(nats or seeds * (5.0,), 1)
        )  # fmt: skip
        values: dict[str, Any] = {
            "recipe": "plain", "kind": "sesame", "about": "a test", "recipe_sha256": "r", "track": "cpu-30m",
            "minutes": 30.0, "date": "2026-01-02", "text_sha256": "t", "text_words": 10, "held_out_sha256": "h",
            "suites_sha256": "s",
            "datasets": {"text": "d"}, "processor": "Chip", "threads": 2, "versions": {"torch": "2"}, "code": "c",
            "runs": runs, "scores": with_means({name: Score(by_seed=each) for name, each in scores.items()}),
        }  # fmt: skip
        return Record(**{**values, **changes})

    return make
