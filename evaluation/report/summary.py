"""Medians, spreads, comparisons and means over seeds and tasks, from the results of jobs. All scores are times 100."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from sesame.evaluation.finetuning.answers import answers
from sesame.evaluation.finetuning.encoding import TaskData
from sesame.evaluation.report.rows import ReportRow, Statistic, Verdict
from sesame.evaluation.report.statistics import (
    Comparison,
    DevPredictions,
    difference_of,
    estimate_of,
    holm,
    mean_of,
    resample,
)
from sesame.evaluation.results.result import Result, depends_on_seed
from sesame.evaluation.scores import score
from sesame.evaluation.tasks.task import score_name


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
    leave_one_out: dict[str, ReportRow] = field(default_factory=dict)
    """By title of a task in the mean: the mean without it."""

    @property
    def models(self) -> list[str]:
        """ "pretrained", and "random" if the baseline was run."""
        return list(next(iter(self.tasks.values())).models)


def summarise(
    tasks: Sequence[TaskData],
    results: Sequence[Result],
    mean_over: Sequence[str],
    statistic: Literal["median", "mean"] = "median",
) -> Summary:
    """Summarize ``results``.

    Args:
        mean_over: names of the tasks in the mean; empty: all of ``tasks``, without those started from another task that
            are there plain as well.
        statistic: over seeds, that is shown first.
    """
    scores, metrics = {}, {}
    compared = {data.title: _compare(data, results) for data in tasks}
    corrected = holm({title: each.p_value for title, (each, _) in compared.items() if each is not None})
    for data in tasks:
        task_results = [result for result in results if result.task == data.task.name]
        constant, title = constant_scores(data), data.title
        comparison, estimates = compared[title]
        models = _by_model(task_results, lambda result, names=data.task.score_names: result.mean(names), statistic)
        scores[title] = ReportRow(
            title,
            {model: replace(each, estimate=estimates.get(model)) for model, each in models.items()},
            100 * float(np.mean([constant[name] for name in data.task.score_names])),
            Verdict(comparison, corrected[title]) if comparison is not None else None,
        )
        metrics[title] = {
            name: ReportRow(
                name,
                _by_model(task_results, lambda result, name=name: result.scores[name], statistic),
                100 * constant[name],
            )
            for name in constant
        }
    in_mean = [data.title for data in tasks if _is_in_mean(data, tasks, mean_over)]
    means = {left: _mean([scores[title] for title in in_mean if title != left]) for left in (None, *in_mean)}
    started = sum(data.task.starts_from is not None for data in tasks if data.title in in_mean)
    mean = means.pop(None)
    if started:
        mean = replace(mean, title=f"{mean.title} ({started} from another task)")
    return Summary(scores, metrics, mean, in_mean, {str(left): each for left, each in means.items() if each.models})


def _is_in_mean(data: TaskData, tasks: Sequence[TaskData], mean_over: Sequence[str]) -> bool:
    if mean_over:
        return data.task.name in mean_over
    return data.task.starts_from is None or data.task.plain_name not in [each.task.name for each in tasks]


def _by_model(
    results: Sequence[Result], value: Callable[[Result], float], statistic: Literal["median", "mean"]
) -> dict[str, Statistic]:
    models = dict.fromkeys(result.model for result in results)
    return {
        model: Statistic(tuple(100 * value(result) for result in results if result.model == model), statistic)
        for model in models
    }


def _compare(data: TaskData, results: Sequence[Result]) -> tuple[Comparison | None, dict[str, Comparison]]:
    """Compare the pretrained model with the baseline, None without one; and estimate the score of each model."""
    models = {
        model: [each for each in results if (each.task, each.model) == (data.task.name, model) and each.outputs]
        for model in ("pretrained", "random")
    }
    names = [model for model, some in models.items() if some]
    if not names:
        return None, {}

    def predictions(model: str, prefix: str) -> np.ndarray:
        return np.stack([answers(data.task, data.dev[prefix], each.outputs[prefix]) for each in models[model]])

    scores, units = resample(
        [
            DevPredictions(
                dev.labels,
                predictions(names[0], prefix),
                predictions(names[1], prefix) if len(names) > 1 else None,
                data.task.metrics_of(prefix),
                dev.groups,
            )
            for prefix, dev in data.counted_dev.items()
        ],
        seeded=[depends_on_seed(data, name) for name in names],
    )
    estimates = {name: estimate_of(each, units) for name, each in zip(names, scores, strict=True)}
    return difference_of(scores, units) if len(names) > 1 else None, estimates


def _mean(rows: Sequence[ReportRow]) -> ReportRow:
    title = f"mean of {len(rows)}"
    if not rows:
        return ReportRow(title, {})
    models = {}
    for model, first in rows[0].models.items():
        some = [row.models[model] for row in rows]
        values = tuple(np.mean([each.values for each in some], axis=0).tolist())
        estimates = [each.estimate for each in some if each.estimate is not None]
        estimate = mean_of(estimates) if len(estimates) == len(some) else None
        models[model] = Statistic(values, first.kind, estimate)
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
            name = score_name(prefix, metric)
            if data.task.kind == "minimal_pairs":
                scores[name] = 0.5
            elif not data.task.has_constant or data.train is None:
                scores[name] = math.nan
            else:
                label = int(np.bincount(data.train.labels).argmax())
                scores[name] = score(metric, dev.labels, np.full_like(dev.labels, label), dev.groups)
    return scores
