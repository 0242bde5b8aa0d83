"""``sesame compare``: the difference of two checkpoints on the tasks of both reports, and whether it is shown."""

import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sesame.configs.errors import TaskError
from sesame.configs.strict_json import read_json_object
from sesame.evaluation.report.examples import Example, disagreements, read_texts
from sesame.evaluation.report.markdown import table
from sesame.evaluation.report.statistics import POWER, Comparison, DevPredictions, difference_of, holm, resample
from sesame.evaluation.report.tables import comparison_cells

AGAIN = "run `sesame evaluate` there again"
RowTexts = Mapping[str, dict[str, list]]
"""Names, texts and labels of a task's dev rows, by dev set."""
HEAD = ["task", "first", "second", "difference", "95 % interval", "p (Holm)", "smallest detectable", "the first is"]


@dataclass(frozen=True)
class TaskComparison:
    """Two checkpoints on one task."""

    comparison: Comparison
    p_value: float
    """Corrected for the number of tasks (Holm)."""
    scores: tuple[float, float]
    """Means over seeds, times 100."""
    examples: dict[str, tuple[list[Example], list[Example]]]
    """By dev set: rows that the first checkpoint answers better, and those that the second does."""


@dataclass(frozen=True)
class ComparedReports:
    """Two reports, the difference of whose checkpoints is first minus second."""

    names: tuple[str, str]
    folders: tuple[Path, Path]
    tasks: dict[str, TaskComparison]
    """By title."""
    notes: list[str]
    """Tasks that only one of them has, those whose rows may differ, and other settings of fine-tuning."""


def compare_reports(first: Path, second: Path) -> ComparedReports:
    """Compare the checkpoints of two reports on the tasks that both have.

    Args:
        first: folder of a report, or its ``report.json``.
        second: the same.

    Raises:
        TaskError: a report or one of its results cannot be read, both have no task in common, or one of a task's dev
            sets has other rows.
    """
    reports = _Report(first), _Report(second)
    shared = [title for title in reports[0].tasks if title in reports[1].tasks]
    if not shared:
        raise TaskError(f"{first} and {second}: have no task in common; evaluate both with the same suite")
    texts = {title: (reports[0].texts(title), reports[1].texts(title)) for title in shared}
    sets = {title: list(_sets(title, *reports, *texts[title])) for title in shared}
    resampled = {
        title: resample([each for _, each in some], seeded=[report.is_seeded(title) for report in reports])
        for title, some in sets.items()
    }
    comparisons = {title: difference_of(*each) for title, each in resampled.items()}
    corrected = holm({title: each.p_value for title, each in comparisons.items()})
    tasks = {}
    for title, comparison in comparisons.items():
        scores = [100 * float(each.whole_S.mean()) for each in resampled[title][0]]
        examples = _examples(texts[title][0], sets[title])
        tasks[title] = TaskComparison(comparison, corrected[title], (scores[0], scores[1]), examples)
    notes = [f"only in {report.folder}: {', '.join(left)}" for report in reports if (left := report.without(shared))]
    if unknown := [title for title in shared if not all(texts[title])]:
        notes.append(f"dev rows compared by their labels only, because a report has no texts: {', '.join(unknown)}")
    notes += _other_conditions(reports, shared)
    names, folders = ([getattr(report, key) for report in reports] for key in ("name", "folder"))
    return ComparedReports((names[0], names[1]), (folders[0], folders[1]), tasks, notes)


def _other_conditions(reports: Sequence["_Report"], titles: Sequence[str]) -> list[str]:
    """Name settings, training rows and heads that differ, for the checkpoints are not all that is compared then."""
    found: dict[str, list[str]] = {}
    for title in titles:
        first, second = (report.conditions(title) for report in reports)
        pairs = {key: (first[key], second[key]) for key in first.keys() & second.keys() if first[key] != second[key]}
        if pairs:
            text = ", ".join(f"{key} {one} and {two}" for key, (one, two) in sorted(pairs.items()))
            found.setdefault(text, []).append(title)
    return [f"fine-tuned differently: {text} ({', '.join(some)})" for text, some in found.items()]


def comparison_text(compared: ComparedReports) -> str:
    """Return a table of the tasks as Markdown."""
    notes = [f"Smallest detectable: with a probability of {100 * POWER:.0f} %.", *compared.notes]
    return "\n".join([*table([HEAD, *comparison_lines(compared)]), "", *notes])


def comparison_lines(compared: ComparedReports) -> list[list[str]]:
    """Rows of the table of the tasks, without the head."""
    return [
        [title, *(f"{score:.1f}" for score in each.scores), *comparison_cells(each.comparison, each.p_value)]
        for title, each in compared.tasks.items()
    ]


class _Report:
    """The tasks of one report, and the predictions of its pretrained model."""

    def __init__(self, path: Path):
        self.folder = path.parent if path.name == "report.json" else path
        file = self.folder / "report.json"
        values = read_json_object(file, TaskError, "give the output folder of `sesame evaluate`")
        try:
            self.tasks: dict[str, Any] = values["tasks"]
            self.name = f"{Path(str(values['checkpoint'])).name}, step {values['step']}"
            self.names = {title: (list(task["results"]), dict(task["counted"])) for title, task in self.tasks.items()}
            self._is_trained = {title: task["train_rows"] is not None for title, task in self.tasks.items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise TaskError(f"{file}: is damaged, or of an earlier version; {AGAIN}") from None

    def without(self, titles: Sequence[str]) -> list[str]:
        return [title for title in self.tasks if title not in titles]

    def is_seeded(self, title: str) -> bool:
        """Whether the pretrained model's predictions depend on the seed, which only training does."""
        return self._is_trained[title]

    def conditions(self, title: str) -> dict[str, Any]:
        """What the score depends on beside the checkpoint; an earlier version recorded less."""
        task = self.tasks[title]
        others = {key.replace("_", " "): task[key] for key in ("train_rows", "head") if key in task}
        return {**task.get("settings", {}), **others}

    def texts(self, title: str) -> RowTexts:
        """Texts and names of the dev rows; empty if they are not there."""
        return read_texts(self.folder, title)

    def arrays(self, title: str) -> list[dict[str, np.ndarray]]:
        """Labels, predictions and groups of each result of the pretrained model."""
        found = []
        for name in self.names[title][0]:
            path = self.folder / "results" / name
            try:
                values = json.loads(path.with_name(f"{name}.json").read_text(encoding="utf-8"))
                if values["model"] != "pretrained":
                    continue
                with np.load(path.with_name(f"{name}.npz"), allow_pickle=False) as file:
                    found.append({each: file[each] for each in file.files if not each.startswith("set ")})
            except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile, zlib.error):
                raise TaskError(f"{path}: is missing or damaged; {AGAIN}") from None
        if not found:
            raise TaskError(f"{self.folder}: has no result for {title}; {AGAIN}")
        return found


def _examples(
    texts: RowTexts, sets: Sequence[tuple[str, DevPredictions]]
) -> dict[str, tuple[list[Example], list[Example]]]:
    found = {}
    for prefix, each in sets:
        assert each.second is not None
        known = texts.get(prefix) or {"rows": [], "texts": [], "labels": []}
        fits = len(known["rows"]) == len(each.labels)
        rows = known["rows"] if fits else [str(number) for number in range(len(each.labels))]
        shown = known["texts"] if fits else []
        # Minimal pairs have no label; the first sentence is the right one.
        is_pair = each.metrics == ("pair_accuracy",)
        labels = np.ones(len(each.labels), np.float32) if is_pair else each.labels
        found[prefix] = disagreements(labels, each.first, each.second, known["labels"], rows, shown)
    return found


def _sets(
    title: str, first: _Report, second: _Report, first_texts: RowTexts, second_texts: RowTexts
) -> Iterator[tuple[str, DevPredictions]]:
    """Both models' predictions for each dev set that counts in the task's score, with its prefix."""
    arrays = first.arrays(title), second.arrays(title)
    for prefix, metrics in first.names[title][1].items():
        labels = arrays[0][0][f"labels {prefix}"]
        others = [each.get(f"labels {prefix}", np.array([])) for each in (*arrays[0], *arrays[1])]
        # Other rows may have equal labels: those of minimal pairs are all 0, those of a balanced file may alternate.
        texts = [each[prefix]["texts"] for each in (first_texts, second_texts) if prefix in each]
        has_other_texts = len(texts) == 2 and texts[0] != texts[1]
        if has_other_texts or not all(np.array_equal(each, labels) for each in others):
            raise TaskError(
                f"{first.folder} and {second.folder}: {title} has other dev rows; evaluate both on the same files"
            )
        one, other = (np.stack([each[f"predictions {prefix}"] for each in some]) for some in arrays)
        yield prefix, DevPredictions(labels, one, other, tuple(metrics), arrays[0][0].get(f"groups {prefix}"))
