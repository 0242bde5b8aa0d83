"""Scores by category of the dev rows (BLiMP's paradigms, AX-b's phenomena), and the ties of minimal pairs."""

from collections.abc import Sequence

import numpy as np

from sesame.evaluation.finetuning.answers import answers
from sesame.evaluation.finetuning.encoding import TaskData
from sesame.evaluation.finetuning.text_answers import invalid
from sesame.evaluation.results.result import Result
from sesame.evaluation.scores import score
from sesame.evaluation.tasks.task import score_name

Scores = dict[str, dict[str, dict[str, float]]]
"""Title of the metric -> category -> model -> mean over seeds, times 100; NaN where undefined."""


def category_scores(data: TaskData, results: Sequence[Result]) -> Scores:
    """Return the first metric of every dev set that has categories, by category."""
    found: Scores = {}
    for prefix, dev in data.dev.items():
        if dev.categories is None:
            continue
        metric = data.task.metrics_of(prefix)[0]
        categories = sorted({name for each in dev.categories for name in each})
        rows = {name: np.array([name in each for each in dev.categories]) for name in categories}
        groups = {name: None if dev.groups is None else dev.groups[some] for name, some in rows.items()}
        by_model: dict[str, list[np.ndarray]] = {}
        for result in results:
            if result.task == data.task.name and result.outputs:
                predictions = answers(data.task, dev, result.outputs[prefix])
                by_model.setdefault(result.model, []).append(predictions)
        found[score_name(prefix, metric)] = {
            name: {
                model: 100
                * float(np.mean([score(metric, dev.labels[some], each[some], groups[name]) for each in predictions]))
                for model, predictions in by_model.items()
            }
            for name, some in rows.items()
        }
    return found


def invalid_notes(data: TaskData, results: Sequence[Result]) -> list[str]:
    """Say how many texts of a decoder are none of the task's words; they count as wrong."""
    notes = {}
    for result in results:
        for prefix, outputs in result.outputs.items():
            count = invalid(data.task, outputs) if result.task == data.task.name else 0
            if count:
                who = f"{result.model}, seed {result.seed}"
                rows = f"{count} of {data.dev[prefix].rows} answers to {prefix or 'dev'}"
                notes[f"{who}: {rows} are none of the task's words and count as wrong"] = None
    return list(notes)


def tie_notes(data: TaskData, results: Sequence[Result]) -> list[str]:
    """Say how many minimal pairs are ties, which count as half right."""
    if data.task.kind != "minimal_pairs":
        return []
    notes = {}
    for result in results:
        for prefix, outputs in result.outputs.items():
            if result.task == data.task.name:
                ties = int((answers(data.task, data.dev[prefix], outputs) == 0.5).sum())
                notes[f"{result.model}: {ties} of {data.dev[prefix].rows} pairs are ties, counted as half right"] = None
    return list(notes)
