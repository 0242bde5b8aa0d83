"""Medians, spreads and means; undefined scores stay undefined, and each task counts once."""

import math

import numpy as np
import pytest

from sesame.evaluation.encoding import EncodedExamples, TaskData
from sesame.evaluation.results import Result
from sesame.evaluation.summary import Statistic, summarise
from sesame.evaluation.tasks import TASKS


def _data(name: str) -> TaskData:
    labels = np.array([1, 1, 0, 1] if TASKS[name].labels else [0.0, 1.0, 2.0, 5.0])
    examples = EncodedExamples([np.array([2, 3])] * 4, np.full(4, 2), labels, ["0"] * 4)
    return TaskData(TASKS[name], name, examples, dict.fromkeys(TASKS[name].dev, examples), {})


def _results(name: str, scores: dict[str, list[tuple[float, ...]]]) -> list[Result]:
    names = TASKS[name].score_names
    return [
        Result(name, model, seed, dict(zip(names, values, strict=True)), 1, 1.0, {})
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
    assert summary.mean.beyond_spread and summary.tasks["CoLA"].beyond_spread
    assert summary.tasks["MRPC"].most_frequent == pytest.approx((75 + 100 * 6 / 7) / 2)


def test_the_mean_can_be_over_fewer_tasks() -> None:
    results = _results("CoLA", {"pretrained": [(0.2,)]}) + _results("RTE", {"pretrained": [(0.6,)]})
    summary = summarise([_data("CoLA"), _data("RTE")], results, ["RTE", "WNLI"])
    assert summary.mean_over == ["RTE"] and summary.mean.models["pretrained"].median == pytest.approx(60)
    assert math.isnan(summary.mean.difference) and not summary.mean.beyond_spread


def test_an_undefined_score_makes_its_task_and_the_mean_undefined() -> None:
    scores = {"pretrained": [(math.nan, math.nan)] * 2}
    summary = summarise([_data("STS-B")], _results("STS-B", scores), [])
    row = summary.tasks["STS-B"]
    assert str(row.models["pretrained"]) == "undefined" and math.isnan(summary.mean.models["pretrained"].median)
    assert row.models["pretrained"].to_json() == {"median": None, "spread": None, "by_seed": [None, None]}
    assert str(Statistic((50.0, math.nan, 52.0))) == "51.0 (2.0, 1 of 3 undefined)"


def test_a_result_is_restored_from_json() -> None:
    [result] = _results("STS-B", {"pretrained": [(math.nan, 0.25)]})
    again = Result.from_json(result.to_json("key"))
    assert math.isnan(again.scores["pearson"]) and again.scores["spearman"] == 0.25
    assert (again.task, again.model, again.seed) == ("STS-B", "pretrained", 0)
