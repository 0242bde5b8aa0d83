"""Results of single seeds -> medians, spreads and means, in points of 100."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.encoding import TaskData
from evaluation.results import Result
from evaluation.scores import METRICS


@dataclass(frozen=True)
class Statistic:
    """One figure over several seeds."""

    values: tuple[float, ...]
    """Points of 100 by seed, in the suite's order; NaN where undefined."""

    @property
    def defined(self) -> list[float]:
        return [value for value in self.values if not math.isnan(value)]

    @property
    def median(self) -> float:
        """NaN if no seed has a value."""
        return float(np.median(self.defined)) if self.defined else math.nan

    @property
    def spread(self) -> float:
        """Largest minus smallest."""
        return max(self.defined) - min(self.defined) if self.defined else math.nan

    def __str__(self) -> str:
        if not self.defined:
            return "undefined"
        missing = len(self.values) - len(self.defined)
        note = f", {missing} of {len(self.values)} undefined" if missing else ""
        return f"{self.median:.1f} ({self.spread:.1f}{note})"

    def to_json(self) -> dict[str, object]:
        values = [None if math.isnan(value) else round(value, 4) for value in self.values]
        if not self.defined:
            return {"median": None, "spread": None, "by_seed": values}
        return {"median": round(self.median, 4), "spread": round(self.spread, 4), "by_seed": values}


@dataclass(frozen=True)
class Line:
    """One row of the report: a task, one metric of it, or the mean over tasks."""

    title: str
    models: dict[str, Statistic]
    """By model: "pretrained", and "random" where that was run."""
    most_frequent: float = math.nan
    """Points of answering the most frequent training label always; NaN where that has no score."""

    @property
    def difference(self) -> float:
        """Median of the pretrained model minus that of its random-init baseline; NaN without one."""
        if "random" not in self.models:
            return math.nan
        return self.models["pretrained"].median - self.models["random"].median

    @property
    def beyond_spread(self) -> bool:
        """Is the difference larger than the spread of either model over seeds?"""
        return self.difference > max(statistic.spread for statistic in self.models.values())

    def to_json(self) -> dict[str, object]:
        values: dict[str, object] = {model: statistic.to_json() for model, statistic in self.models.items()}
        values["most_frequent_label"] = None if math.isnan(self.most_frequent) else round(self.most_frequent, 4)
        if "random" in self.models:
            values["difference"] = None if math.isnan(self.difference) else round(self.difference, 4)
            values["difference_beyond_spread"] = self.beyond_spread
        return values


@dataclass(frozen=True)
class Summary:
    """Every figure of a report."""

    tasks: dict[str, Line]
    """By title of the task: its score, the mean of its metrics."""
    metrics: dict[str, dict[str, Line]]
    """By title of the task, by metric."""
    mean: Line
    """Over tasks, each counting once; first taken within each seed."""
    mean_over: list[str]
    """Titles of the tasks that the mean is taken over."""

    @property
    def models(self) -> list[str]:
        """ "pretrained", and "random" where that baseline was run."""
        return list(next(iter(self.tasks.values())).models)


def summarise(tasks: Sequence[TaskData], results: Sequence[Result], mean_over: Sequence[str]) -> Summary:
    """Put ``results`` together; ``mean_over`` names tasks, or is empty for all of ``tasks``."""
    scores, metrics = {}, {}
    for data in tasks:
        own = [result for result in results if result.task == data.task.name]
        constant = _most_frequent(data)
        scores[data.title] = Line(
            data.title, _by_model(own, lambda result: result.score), 100 * float(np.mean(list(constant.values())))
        )
        metrics[data.title] = {
            name: Line(name, _by_model(own, lambda result, name=name: result.scores[name]), 100 * constant[name])
            for name in data.task.score_names
        }
    counted = [data.title for data in tasks if not mean_over or data.task.name in mean_over]
    return Summary(scores, metrics, _mean([scores[title] for title in counted]), counted)


def _by_model(results: Sequence[Result], value) -> dict[str, Statistic]:
    models = dict.fromkeys(result.model for result in results)
    return {
        model: Statistic(tuple(100 * value(result) for result in results if result.model == model)) for model in models
    }


def _mean(lines: Sequence[Line]) -> Line:
    title = f"mean of {len(lines)}"
    if not lines:
        return Line(title, {})
    models = {
        model: Statistic(tuple(np.mean([line.models[model].values for line in lines], axis=0).tolist()))
        for model in lines[0].models
    }
    return Line(title, models, float(np.mean([line.most_frequent for line in lines])))


def _most_frequent(data: TaskData) -> dict[str, float]:
    """Scores of a constant answer; NaN for a regression, whose metrics compare orders."""
    if not data.task.labels:
        return dict.fromkeys(data.task.score_names, math.nan)
    label = int(np.bincount(data.train.labels).argmax())
    return {
        f"{suffix} {metric}".strip(): METRICS[metric](dev.labels, np.full_like(dev.labels, label))
        for suffix, dev in data.dev.items()
        for metric in data.task.metrics
    }
