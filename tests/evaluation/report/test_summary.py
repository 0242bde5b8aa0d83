"""Medians, spreads and means; undefined scores stay undefined, and each task counts once."""

import math
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sesame.evaluation.finetuning.encoded import EncodedExamples
from sesame.evaluation.finetuning.encoding import TaskData
from sesame.evaluation.report.content import Content, RunInfo
from sesame.evaluation.report.rows import Statistic
from sesame.evaluation.report.summary import summarise
from sesame.evaluation.results.result import Result
from sesame.evaluation.tasks import TASKS

RUN = RunInfo("made", 1, "0" * 64, datetime(2026, 1, 2, tzinfo=UTC), "NVIDIA B", ("NVIDIA B", "cuda"))


def _data(name: str) -> TaskData:
    labels = np.array([1, 1, 0, 1] if TASKS[name].labels else [0.0, 1.0, 2.0, 5.0])
    examples = EncodedExamples([np.array([2, 3])] * 4, np.full(4, 2), labels, ["0"] * 4)
    return TaskData(TASKS[name], name, examples, dict.fromkeys(TASKS[name].dev, examples), {})


def _results(name: str, scores: dict[str, list[tuple[float, ...]]]) -> list[Result]:
    names = TASKS[name].score_names
    return [
        Result(name, model, seed, dict(zip(names, values, strict=True)), 1, 1.0)
        for model, seeds in scores.items()
        for seed, values in enumerate(seeds)
    ]


def test_a_task_with_two_metrics_counts_once() -> None:
    results = _results("CoLA", {"pretrained": [(0.2,), (0.4,), (0.3,)], "random": [(0.0,), (0.1,), (0.05,)]})
    results += _results("MRPC", {"pretrained": [(0.7, 0.9)] * 3, "random": [(0.6, 0.8)] * 3})
    summary = summarise([_data("CoLA"), _data("MRPC")], results, [])
    assert summary.tasks["MRPC"].models["pretrained"].median == pytest.approx(80)
    assert summary.tasks["CoLA"].models["pretrained"].median == pytest.approx(30)
    assert summary.tasks["CoLA"].models["pretrained"].spread == pytest.approx(20)
    assert summary.mean.models["pretrained"].median == pytest.approx((30 + 80) / 2)
    assert summary.mean.models["pretrained"].spread == pytest.approx(10)
    assert summary.mean.difference == pytest.approx(55 - 37.5)
    assert summary.tasks["MRPC"].constant == pytest.approx((75 + 100 * 6 / 7) / 2)


def test_the_mean_can_be_over_fewer_tasks() -> None:
    results = _results("CoLA", {"pretrained": [(0.2,)]}) + _results("RTE", {"pretrained": [(0.6,)]})
    summary = summarise([_data("CoLA"), _data("RTE")], results, ["RTE", "WNLI"])
    assert summary.mean_over == ["RTE"] and summary.mean.models["pretrained"].median == pytest.approx(60)
    assert math.isnan(summary.mean.difference) and summary.mean.verdict is None


def test_an_undefined_score_makes_its_task_and_the_mean_undefined() -> None:
    scores = {"pretrained": [(math.nan, math.nan)] * 2}
    summary = summarise([_data("STS-B")], _results("STS-B", scores), [])
    row = summary.tasks["STS-B"]
    assert str(row.models["pretrained"]) == "undefined" and math.isnan(summary.mean.models["pretrained"].median)
    expected = {**dict.fromkeys(("median", "spread", "mean", "std")), "by_seed": [None, None]}
    assert row.models["pretrained"].to_json() == expected
    assert str(Statistic((50.0, math.nan, 52.0))) == "51.0 (2.0, 1 of 3 undefined)"


def test_the_comparison_is_in_the_row_of_a_task() -> None:
    """Both models' predictions for the same four rows, with five seeds each."""
    right, wrong = np.array([[0, 1], [0, 1], [1, 0], [0, 1]], np.float32), np.array([[1, 0]] * 4, np.float32)
    results = [
        replace(each, seed=seed, outputs={"": outputs})
        for seed in range(5)
        for outputs, values in ((right, {"pretrained": [(1.0,)]}), (wrong, {"random": [(0.25,)]}))
        for each in _results("RTE", values)
    ]
    summary = summarise([_data("RTE")], results, [])
    verdict = summary.tasks["RTE"].verdict
    assert verdict is not None and verdict.comparison.difference == pytest.approx(0.75)
    assert summary.tasks["RTE"].to_json()["comparison"] == verdict.to_json()
    assert summary.mean.verdict is not None and verdict.comparison.seeds == 5


def test_a_constant_prediction_and_a_diverged_run_are_notes() -> None:
    data = _data("RTE")
    ones = np.array([[0, 1]] * 4, np.float32)
    results = [
        *(replace(each, outputs={"": ones}) for each in _results("RTE", {"pretrained": [(0.75,), (0.75,)]})),
        Result("RTE", "random", 1, {"accuracy": math.nan}, 0, 0.0, error="the gradient norm is not finite"),
    ]
    summary = summarise([data], results, [])
    content: Any = SimpleNamespace(results=results, run=RUN)
    assert Content.notes(content, data) == [
        "random, seed 1: the gradient norm is not finite",
        "pretrained, seed 0, 1: the same prediction for every row of dev: 'entailment'",
    ]
    assert summary.tasks["RTE"].constant == 75


@pytest.mark.parametrize(("name", "std", "note"), [
    ("STS-B", 0.0, "the same prediction for every row of dev: '2.000'"),
    ("STS-B", 0.04, "nearly the same prediction for every row of dev: 2.000, standard deviation below 1 % of the range "
     "of the labels"),
    ("STS-B", 0.06, None),
    ("STS-B-cosine", 0.04, None),
])  # fmt: skip
def test_a_nearly_constant_regression_is_a_note(name: str, std: float, note: str | None) -> None:
    """Labels are from 0 to 5. A cosine has a scale of its own."""
    data = _data(name)
    values = 2 + std * np.array([-1.0, 1.0, -1.0, 1.0])
    outputs = np.repeat(values, 2 if name == "STS-B-cosine" else 1)[:, None].astype(np.float32)
    results = [replace(each, outputs={"": outputs}) for each in _results(name, {"pretrained": [(0.5, 0.5)] * 2})]
    content: Any = SimpleNamespace(results=results, run=RUN)
    assert Content.notes(content, data) == ([f"pretrained, seed 0, 1: {note}"] if note else [])


def test_results_of_another_device_are_a_note() -> None:
    """An earlier version wrote "cuda" for every GPU; a run that diverged has no device."""
    devices = ("NVIDIA B", "cuda", "", "cpu", "cpu", "NVIDIA A")
    scores: dict[str, list[tuple[float, ...]]] = {"pretrained": [(0.5,)] * len(devices)}
    found = zip(_results("RTE", scores), devices, strict=True)
    content: Any = SimpleNamespace(results=[replace(each, device=device) for each, device in found], run=RUN)
    assert Content.notes(content, _data("RTE")) == [
        "2 of 6 results are of another device: cpu",
        "1 of 6 results are of another device: NVIDIA A",
    ]
    content.run = replace(RUN, results_device=())
    assert Content.notes(content, _data("RTE")) == []
