"""The display of jobs: lines in a log, and the time that is left with several workers."""

import re
import time
from types import SimpleNamespace

import pytest

from sesame.evaluation.progress import Progress
from sesame.evaluation.results.result import Result

DONE = Result("RTE", "pretrained", 1, {"accuracy": 0.5}, 1, 3.0)


def test_a_finished_run_is_one_line_with_the_time_of_day(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(["RTE, pretrained, seed 1", "RTE, pretrained, seed 2"], [1, 2]) as progress:
        progress.begin(0, SimpleNamespace(number=0))
        progress.end(0, DONE, "3 s", worker=0)
    expected = r"\d\d:\d\d:\d\d \[1/2\] RTE, pretrained, seed 1: accuracy 50\.0 \(3 s; about 0 s left\)\n"
    assert re.fullmatch(expected, capsys.readouterr().out)


def test_the_time_left_counts_workers_and_finished_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two workers take ten jobs of cost 3, of which the first takes 6 seconds."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    progress = Progress([str(number) for number in range(10)], [3.0] * 10, workers=2)
    assert progress.left == ""
    progress.rate = 1.0
    assert progress.left == "about 15 s"
    progress.begin(0, SimpleNamespace(number=0))
    progress.begin(1, SimpleNamespace(number=1))
    progress.end(9, DONE, "already computed")
    now[0] += 6
    progress.advance(1, 2, 3)
    progress.end(0, DONE, "6 s", worker=0)
    # Seven jobs and a third of one are left, at two seconds for each unit of cost, for two workers.
    assert progress.left == "about 22 s"
    progress.fail(1, "the worker process has ended: it died")
    assert progress.left == "about 24 s"


def test_a_log_says_every_few_minutes_how_far_long_jobs_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with Progress(["BLiMP, pretrained", "RTE, pretrained, seed 1"], [3.0, 1.0], workers=2) as progress:
        progress.rate = 400.0
        for number in range(2):
            progress.begin(number, SimpleNamespace(number=number))
        for step in range(1, 60):
            now[0] += 10
            progress.advance(step % 2, step, 100)
    lines = [line.split(" ", 1)[1] for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "BLiMP, pretrained: 18 %; RTE, pretrained, seed 1: 17 % (about 16 min left for all)",
        "BLiMP, pretrained: 36 %; RTE, pretrained, seed 1: 35 % (about 13 min left for all)",
        "BLiMP, pretrained: 54 %; RTE, pretrained, seed 1: 53 % (about 9.2 min left for all)",
    ]
