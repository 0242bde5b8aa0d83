"""``sesame compare``: the difference of two checkpoints on the tasks of both reports, and whether it is shown."""

import json
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sesame.configs.errors import TaskError
from sesame.evaluation.report.markdown import table
from sesame.evaluation.report.statistics import POWER, DevPredictions, compare, holm
from sesame.evaluation.report.tables import comparison_cells

AGAIN = "run `sesame evaluate` there again"


def compare_reports(first: Path, second: Path) -> str:
    """Return a table of the tasks in two reports: the first checkpoint's mean score minus the second's.

    Args:
        first: folder of a report, or its ``report.json``.
        second: the same.

    Raises:
        TaskError: a report or one of its results cannot be read, or both have no task in common.
    """
    reports = [_Report(path) for path in (first, second)]
    shared = [title for title in reports[0].tasks if title in reports[1].tasks]
    if not shared:
        raise TaskError(f"{first} and {second}: have no task in common; evaluate both with the same suite")
    comparisons = {title: compare(list(_sets(title, *reports))) for title in shared}
    corrected = holm({title: each.p_value for title, each in comparisons.items()})
    rows = [["task", "difference", "95 % interval", "p (Holm)", "smallest detectable", "the first is"]]
    rows += [[title, *comparison_cells(each, corrected[title])] for title, each in comparisons.items()]
    only = [f"only in {report.folder}: {', '.join(left)}" for report in reports if (left := report.without(shared))]
    notes = [f"Smallest detectable: with a probability of {100 * POWER:.0f} %.", *only]
    return "\n".join([*table(rows), "", *notes])


class _Report:
    """The tasks of one report, and the predictions of its pretrained model."""

    def __init__(self, path: Path):
        self.folder = path.parent if path.name == "report.json" else path
        file = self.folder / "report.json"
        try:
            self.tasks: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))["tasks"]
            self.names = {title: (list(task["results"]), dict(task["counted"])) for title, task in self.tasks.items()}
        except FileNotFoundError:
            raise TaskError(f"{file}: no such file; give the output folder of `sesame evaluate`") from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise TaskError(f"{file}: is damaged, or of an earlier version; {AGAIN}") from None

    def without(self, titles: Sequence[str]) -> list[str]:
        return [title for title in self.tasks if title not in titles]

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
            except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
                raise TaskError(f"{path}: is missing or damaged; {AGAIN}") from None
        if not found:
            raise TaskError(f"{self.folder}: has no result for {title}; {AGAIN}")
        return found


def _sets(title: str, first: _Report, second: _Report) -> Iterator[DevPredictions]:
    """Both models' predictions for each dev set that counts in the task's score."""
    arrays = first.arrays(title), second.arrays(title)
    for prefix, metrics in first.names[title][1].items():
        labels = arrays[0][0][f"labels {prefix}"]
        for each in (*arrays[0], *arrays[1]):
            if not np.array_equal(each.get(f"labels {prefix}", np.array([])), labels):
                raise TaskError(
                    f"{first.folder} and {second.folder}: {title} has other dev rows; evaluate both on the same files"
                )
        one, other = (np.stack([each[f"predictions {prefix}"] for each in some]) for some in arrays)
        yield DevPredictions(labels, one, other, tuple(metrics), arrays[0][0].get(f"groups {prefix}"))
