"""What a report is made of."""

import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch

from sesame.evaluation.config import EvaluationConfig
from sesame.evaluation.finetuning.answers import answers
from sesame.evaluation.finetuning.encoding import TaskData
from sesame.evaluation.report.categories import Scores, category_scores, invalid_notes, tie_notes
from sesame.evaluation.report.examples import Example, Texts, disagreements
from sesame.evaluation.report.summary import Summary
from sesame.evaluation.results.result import Result
from sesame.evaluation.search import Searched

NEARLY_CONSTANT = 0.01
"""Of the range of the labels: the standard deviation of predictions below which a regression is noted as constant. Its
correlation does not show it, because that does not depend on the scale."""
NAMES = {"pretrained": "pretrained", "random": "random-init baseline"}


@dataclass(frozen=True)
class RunInfo:
    """The checkpoint that was evaluated, when and where."""

    checkpoint: str
    step: int
    fingerprint: str
    """SHA-256 of the architecture, the backbone's weights and the tokenizer."""
    started: datetime
    device: str
    """Such as "the CPU with 2 threads" or the name of the GPU."""
    results_device: tuple[str, ...] = ()
    """What ``Result.device`` is where a result is of this device; empty: it is not known."""


@dataclass(frozen=True)
class Repeat:
    """What is needed to repeat the evaluation."""

    command: str = ""
    """Of the command line; empty: it was started by a program."""
    files: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 by path below the data directory."""
    settings: str = ""
    """Text of the file of all settings."""


@dataclass(frozen=True)
class Content:
    """Everything that a report shows."""

    config: EvaluationConfig
    tasks: Sequence[TaskData]
    results: Sequence[Result]
    skipped: Mapping[str, str]
    """Reason by name of each skipped task."""
    run: RunInfo
    summary: Summary
    heads: Mapping[str, str]
    """Pooling and layers of the head, by title."""
    predictions: Sequence[str] = field(default_factory=list)
    """Sentences about the files of test predictions."""
    searches: Mapping[str, Searched] = field(default_factory=dict)
    """By name of the task."""
    repeat: Repeat = Repeat()
    texts: Mapping[str, Mapping[str, Texts]] = field(default_factory=dict)
    """By title of the task, by dev set."""

    @cached_property
    def categories(self) -> dict[str, Scores]:
        """Scores by category of the dev rows, by title of the task."""
        return {data.title: category_scores(data, self.results) for data in self.tasks}

    def disagreements(self, data: TaskData) -> dict[str, tuple[list[Example], list[Example]]]:
        """Rows that one of the models answers better than the other, by dev set; empty without a baseline."""
        if data.task.kind == "minimal_pairs":
            return {}
        found = {}
        for prefix, dev in data.dev.items():
            both = [
                [
                    answers(data.task, dev, each.outputs[prefix])
                    for each in self.results
                    if (each.task, each.model) == (data.task.name, model) and each.outputs
                ]
                for model in NAMES
            ]
            if all(both):
                texts = self.texts.get(data.title, {}).get(prefix, [])
                first, second = (np.stack(each) for each in both)
                found[prefix] = disagreements(dev.labels, first, second, data.task.labels, dev.indices, texts)
        return found

    def notes(self, data: TaskData) -> list[str]:
        """Remarks about a task: its files, runs that diverged, and constant predictions."""
        results = [result for result in self.results if result.task == data.task.name]
        notes = [f"{each.model}, seed {each.seed}: {each.error}" for each in results if each.error]
        found: dict[tuple[str, str], list[int]] = {}
        for each in results:
            for prefix, outputs in each.outputs.items():
                if note := _constant(data, prefix, answers(data.task, data.dev[prefix], outputs)):
                    found.setdefault((each.model, note), []).append(each.seed)
        notes += [f"{model}, seed {', '.join(map(str, seeds))}: {note}" for (model, note), seeds in found.items()]
        notes += _other_devices(results, self.run)
        return [*data.notes, *notes, *tie_notes(data, self.results), *invalid_notes(data, self.results)]


def _other_devices(results: Sequence[Result], run: RunInfo) -> list[str]:
    """Say which results are of another device than the report's: those that were there already."""
    known = ("", *run.results_device)
    counts = Counter(each.device for each in results if run.results_device and each.device not in known)
    return [f"{count} of {len(results)} results are of another device: {name}" for name, count in counts.items()]


def _constant(data: TaskData, prefix: str, predictions: np.ndarray) -> str:
    """Say that all predictions of a dev set are equal, or of a regression nearly so; empty if they are not."""
    labels, rows = data.dev[prefix].labels, f"for every row of {prefix or 'dev'}"
    if len(predictions) < 2 or data.task.kind == "minimal_pairs":
        return ""
    values = np.unique(predictions)
    if len(values) == 1:
        value = f"{values[0]:.3f}" if data.task.has_scores else _label(data, values[0])
        return f"the same prediction {rows}: '{value}'"
    # Cosines of a similarity are not on the scale of the labels.
    if data.task.kind == "regress" and float(predictions.std()) < NEARLY_CONSTANT * float(np.ptp(labels)):
        share = f"{100 * NEARLY_CONSTANT:.0f} % of the range of the labels"
        return f"nearly the same prediction {rows}: {predictions.mean():.3f}, standard deviation below {share}"
    return ""


def _label(data: TaskData, label: Any) -> str:
    if data.task.has_texts:
        return str(label)
    return data.task.labels[label] if data.task.labels else f"candidate {label}"


def versions() -> dict[str, str]:
    """Versions of what the scores were computed with."""
    try:
        own = version("sesame")
    except PackageNotFoundError:
        own = "not installed"
    return {"sesame": own, "python": platform.python_version(), "torch": torch.__version__}
