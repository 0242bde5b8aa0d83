"""The table of what was tried: what compares with what, and when a difference is believed."""

from collections.abc import Callable

import pytest

from benchmarks.speedrun.record import Record
from benchmarks.speedrun.trials import table

Make = Callable[..., Record]


def rows(trials: list[Record]) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table(trials).splitlines()[2:]]


def test_a_recipe_is_compared_with_the_baseline_of_the_same_minutes(make_record: Make) -> None:
    cut = {"minutes": 3.0, "marks": ("cut to 3 of 30 minutes",)}
    trials = [
        make_record({"BLiMP": (60.0, 61.0, 62.0)}, (5.0, 5.1, 5.05), recipe="muon"),
        make_record({"BLiMP": (64.0, 64.5, 66.0)}, (4.8, 4.9, 4.7), recipe="causal", about="one in 16"),
        make_record({"BLiMP": (60.0,)}, (6.5,), recipe="causal", **cut),
        make_record({"BLiMP": (58.0,)}, (6.0,), recipe="muon", **cut),
    ]
    short, shorter, first, second = rows(trials)
    assert [row[2] for row in (short, shorter, first, second)] == ["muon", "causal", "causal", "muon"]
    assert shorter[7:] == [
        "6.500",
        "-0.500",
        "too few seeds",
        "60.0",
        "+2.0",
        "cut to 3 of 30 minutes; 1 seed",
    ]
    assert first[1:8] == ["29.3", "causal", "one in 16", "3", "100", "1.0 M", "4.800 (0.200)"]
    assert first[8:] == ["+0.250", "better", "64.8 (2.0)", "+3.8", ""]
    assert second[8:] == ["", "baseline", "61.0 (2.0)", "", ""]


@pytest.mark.parametrize(
    ("nats", "word"),
    [
        ((4.9, 4.91, 4.92), "within the spread"),
        ((4.6, 4.65, 4.7), "better"),
        ((5.5, 5.4, 5.6), "worse"),
        ((4.4, 4.9, 5.1), "within the spread"),
        ((4.0, 4.0), "too few seeds"),
    ],
)
def test_a_difference_is_believed_beyond_both_ranges(make_record: Make, nats: tuple[float, ...], word: str) -> None:
    trials = [make_record({"BLiMP": (1.0,)}, (4.9, 5.0, 5.1), recipe="muon"), make_record({}, nats, recipe="other")]
    (other,) = (row for row in rows(trials) if row[2] == "other")
    assert other[9:12] == [word, "", ""], "without scores of BLiMP there is no gain of them"


def test_fewer_minutes_than_the_budget_are_no_verdict(make_record: Make) -> None:
    trials = [make_record({}, (5.0, 5.0, 5.0), recipe=recipe) for recipe in ("muon", "other")]
    runs = tuple(run.model_copy(update={"minutes": 20.0}) for run in trials[1].runs)
    (other,) = (row for row in rows([trials[0], trials[1].model_copy(update={"runs": runs})]) if row[2] == "other")
    assert other[9] == "other minutes"


@pytest.mark.parametrize("change", [{"held_out_sha256": "x"}, {"processor": "Other"}, {"track": "cpu-4h"}])
def test_other_conditions_do_not_compare(make_record: Make, change: dict[str, str]) -> None:
    trials = [make_record({}, (5.0,), recipe="muon"), make_record({}, (4.0,), recipe="other", **change)]
    (other,) = (row for row in rows(trials) if row[2] == "other")
    assert other[8:10] == ["", ""]


def test_the_last_trial_of_a_recipe_counts(make_record: Make) -> None:
    trials = [make_record({}, (nats,), recipe="muon", date=date) for nats, date in ((5.0, "1"), (4.0, "2"))]
    assert [row[7] for row in rows(trials)] == ["4.000"]
