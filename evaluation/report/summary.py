"""Medians, spreads, comparisons and means over seeds and tasks, from the results of jobs. All scores are times 100."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sesame.evaluation.finetuning.encoding import TaskData
from sesame.evaluation.finetuning.finetune import answers
from sesame.evaluation.report.statistics import POWER, Comparison, DevPredictions, compare, holm, mean_of
from sesame.evaluation.results.result import Result
from sesame.evaluation.scores import score


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

    @property
    def std(self) -> float:
        """Standard deviation over seeds, with n - 1 in the denominator."""
        return float(np.std(self.defined, ddof=1)) if len(self.defined) > 1 else math.nan

    def __str__(self) -> str:
        if not self.defined:
            return "undefined"
        missing = len(self.values) - len(self.defined)
        note = f", {missing} of {len(self.values)} undefined" if missing else ""
        return f"{self.median:.1f} ({self.spread:.1f}{note})"

    def to_json(self) -> dict[str, object]:
        values = [number(value) for value in self.values]
        mean = float(np.mean(self.defined)) if self.defined else math.nan
        numbers = {"median": self.median, "spread": self.spread, "mean": mean, "std": self.std}
        return {**{name: number(value) for name, value in numbers.items()}, "by_seed": values}


@dataclass(frozen=True)
class Verdict:
    """A comparison of the pretrained model with the random-init baseline."""

    comparison: Comparison
    p_value: float
    """Corrected for the number of tasks (Holm)."""

    @property
    def text(self) -> str:
        return self.comparison.verdict(self.p_value)

    def to_json(self) -> dict[str, object]:
        low, high = self.comparison.interval
        return {
            "difference_of_means": number(100 * self.comparison.difference),
            "interval_95": [number(100 * low), number(100 * high)],
            "p_value": number(self.comparison.p_value),
            "p_value_holm": number(self.p_value),
            "smallest_detectable": number(100 * self.comparison.smallest_detectable),
            "power": POWER,
            "verdict": self.text,
        }


@dataclass(frozen=True)
class ReportRow:
    """Scores of a task, of one of its metrics, or the mean over tasks."""

    title: str
    models: dict[str, Statistic]
    """By model: "pretrained", and "random" if the baseline was run."""
    constant: float = math.nan
    """Score of always giving the same answer, the most frequent of the training rows; NaN for a regression."""
    verdict: Verdict | None = None
    """None for a metric, and without a baseline."""

    @property
    def difference(self) -> float:
        """Median of the pretrained model minus median of the random-init baseline; NaN without a baseline."""
        if "random" not in self.models:
            return math.nan
        return self.models["pretrained"].median - self.models["random"].median

    def to_json(self) -> dict[str, object]:
        values: dict[str, object] = {model: statistic.to_json() for model, statistic in self.models.items()}
        values["most_frequent_label"] = number(self.constant)
        if "random" in self.models:
            values["difference"] = number(self.difference)
        if self.verdict is not None:
            values["comparison"] = self.verdict.to_json()
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
    comparisons = {data.title: _comparison(data, results) for data in tasks}
    known = {title: each for title, each in comparisons.items() if each is not None}
    corrected = holm({title: each.p_value for title, each in known.items()})
    for data in tasks:
        task_results = [result for result in results if result.task == data.task.name]
        constant = constant_scores(data)
        title = data.title
        scores[title] = ReportRow(
            title,
            _by_model(task_results, lambda result, names=data.task.score_names: result.mean(names)),
            100 * float(np.mean([constant[name] for name in data.task.score_names])),
            Verdict(known[title], corrected[title]) if title in known else None,
        )
        metrics[title] = {
            name: ReportRow(
                name, _by_model(task_results, lambda result, name=name: result.scores[name]), 100 * constant[name]
            )
            for name in constant
        }
    in_mean = [data.title for data in tasks if not mean_over or data.task.name in mean_over]
    return Summary(scores, metrics, _mean([scores[title] for title in in_mean]), in_mean)


def _by_model(results: Sequence[Result], value: Callable[[Result], float]) -> dict[str, Statistic]:
    models = dict.fromkeys(result.model for result in results)
    return {
        model: Statistic(tuple(100 * value(result) for result in results if result.model == model)) for model in models
    }


def _comparison(data: TaskData, results: Sequence[Result]) -> Comparison | None:
    """Compare the pretrained model with the baseline; None without one, or without two results."""
    models = {
        model: [each for each in results if (each.task, each.model) == (data.task.name, model) and each.outputs]
        for model in ("pretrained", "random")
    }
    if not all(models.values()):
        return None

    def predictions(model: str, prefix: str) -> np.ndarray:
        return np.stack([answers(data.task, data.dev[prefix], each.outputs[prefix]) for each in models[model]])

    return compare(
        [
            DevPredictions(
                dev.labels,
                predictions("pretrained", prefix),
                predictions("random", prefix),
                data.task.metrics_of(prefix),
                dev.groups,
            )
            for prefix, dev in data.dev.items()
            if prefix in data.task.counted
        ]
    )


def _mean(rows: Sequence[ReportRow]) -> ReportRow:
    title = f"mean of {len(rows)}"
    if not rows:
        return ReportRow(title, {})
    models = {
        model: Statistic(tuple(np.mean([row.models[model].values for row in rows], axis=0).tolist()))
        for model in rows[0].models
    }
    verdict = None
    if all(row.verdict is not None for row in rows):
        comparison = mean_of([row.verdict.comparison for row in rows if row.verdict is not None])
        verdict = Verdict(comparison, comparison.p_value)
    return ReportRow(title, models, float(np.mean([row.constant for row in rows])), verdict)


def constant_scores(data: TaskData) -> dict[str, float]:
    """Scores of a constant prediction; NaN where it is undefined, as a correlation with a constant is."""
    scores = {}
    for prefix, dev in data.dev.items():
        for metric in data.task.metrics_of(prefix):
            name = f"{prefix} {metric}".strip()
            if data.task.kind == "minimal_pairs":
                scores[name] = 0.5
            elif not data.task.has_constant or data.train is None:
                scores[name] = math.nan
            else:
                label = int(np.bincount(data.train.labels).argmax())
                scores[name] = score(metric, dev.labels, np.full_like(dev.labels, label), dev.groups)
    return scores


def number(value: float) -> float | None:
    """Round for JSON; None where undefined."""
    return None if math.isnan(value) else round(value, 4)
