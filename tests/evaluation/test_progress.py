"""The line of a finished fine-tuning run in a log."""

import re

import pytest

from sesame.evaluation.progress import Progress
from sesame.evaluation.results.result import Result


def test_a_finished_run_is_one_line_with_the_time_of_day(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress([1, 2]) as progress:
        progress.begin("RTE, pretrained, seed 1")
        progress.end(Result("RTE", "pretrained", 1, {"accuracy": 0.5}, 1, 3.0), "3 s")
    expected = r"\d\d:\d\d:\d\d \[1/2\] RTE, pretrained, seed 1: accuracy 50\.0 \(3 s; about 0 s left\)\n"
    assert re.fullmatch(expected, capsys.readouterr().out)
