"""Medians, spreads and means over seeds and tasks, from the results of single runs. All scores are times 100."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sesame.evaluation.encoding import TaskData
from sesame.evaluation.results import Result
from sesame.evaluation.scores import METRICS


@dataclass(frozen=True)
class Statistic:
    """One score over several seeds."""

    values: tuple[float, ...]
    """By seed, in the order of ``suite.seeds``; NaN where undefined."""

    @property
    def defined(self) -> list[float]:
        return [value for value in self.values if not math.isnan(value)]

    @property
    def median(self) -> float:
        """NaN if the score is undefined for all seeds."""
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
class ReportRow:
    """Scores of a task, of one of its metrics, or the mean over tasks."""

    title: str
    models: dict[str, Statistic]
    """By model: "pretrained", and "random" if the baseline was run."""
    most_frequent: float = math.nan
    """Score of always predicting the most frequent training label; NaN for a regression."""

    @property
    def difference(self) -> float:
        """Median of the pretrained model minus median of the random-init baseline; NaN without a baseline."""
        if "random" not in self.models:
            return math.nan
        return self.models["pretrained"].median - self.models["random"].median

    @property
    def beyond_spread(self) -> bool:
        """Whether the difference is larger than the spread of either model over seeds."""
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
    """All scores of a report."""

    tasks: dict[str, ReportRow]
    """By title of the task: the mean of its metrics."""
    metrics: dict[str, dict[str, ReportRow]]
    """By title of the task, by metric."""
    mean: ReportRow
    """Mean over the tasks within each seed; a task with several metrics counts once."""
    mean_over: list[str]
    """Titles of the tasks in the mean."""

    @property
    def models(self) -> list[str]:
        """ "pretrained", and "random" if the baseline was run."""
        return list(next(iter(self.tasks.values())).models)


def summarise(tasks: Sequence[TaskData], results: Sequence[Result], mean_over: Sequence[str]) -> Summary:
    """Summarize ``results``; ``mean_over`` names the tasks in the mean, and is empty for all of ``tasks``."""
    scores, metrics = {}, {}
    for data in tasks:
        task_results = [result for result in results if result.task == data.task.name]
        constant = _most_frequent(data)
        scores[data.title] = ReportRow(
            data.title,
            _by_model(task_results, lambda result: result.score),
            100 * float(np.mean(list(constant.values()))),
        )
        metrics[data.title] = {
            name: ReportRow(
                name, _by_model(task_results, lambda result, name=name: result.scores[name]), 100 * constant[name]
            )
            for name in data.task.score_names
        }
    in_mean = [data.title for data in tasks if not mean_over or data.task.name in mean_over]
    return Summary(scores, metrics, _mean([scores[title] for title in in_mean]), in_mean)


def _by_model(results: Sequence[Result], value: Callable[[Result], float]) -> dict[str, Statistic]:
    models = dict.fromkeys(result.model for result in results)
    return {
        model: Statistic(tuple(100 * value(result) for result in results if result.model == model)) for model in models
    }


def _mean(rows: Sequence[ReportRow]) -> ReportRow:
    title = f"mean of {len(rows)}"
    if not rows:
        return ReportRow(title, {})
    models = {
        model: Statistic(tuple(np.mean([row.models[model].values for row in rows], axis=0).tolist()))
        for model in rows[0].models
    }
    return ReportRow(title, models, float(np.mean([row.most_frequent for row in rows])))


def _most_frequent(data: TaskData) -> dict[str, float]:
    """Scores of a constant prediction; NaN for a regression, because a correlation with a constant is undefined."""
    if data.task.is_regression:
        return dict.fromkeys(data.task.score_names, math.nan)
    label = int(np.bincount(data.train.labels).argmax())
    return {
        f"{prefix} {metric}".strip(): METRICS[metric](dev.labels, np.full_like(dev.labels, label))
        for prefix, dev in data.dev.items()
        for metric in data.task.metrics
    }
