"""Files of test predictions in the servers' formats, and the archive of a benchmark whose files are all there.

predictions/RTE.tsv    of one model, replaced as a whole
GLUE.zip               flat; only if no file is missing and ``sesame check-submission`` finds nothing
"""

import json
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sesame.configs.storage import atomic_directory, atomic_file
from sesame.evaluation.results.check import faults_within
from sesame.evaluation.tasks.suites import SUITES
from sesame.evaluation.tasks.task import Table, Task

FOLDER = "predictions"


class Predictions(NamedTuple):
    """Predictions for one test set."""

    task: Task
    table: Table
    indices: Sequence[str]
    values: np.ndarray
    """Classes or candidates int64 [rows], texts, or scores float [rows], which are clipped to the task's range."""


def write_predictions(output: Path, sets: Mapping[str, Predictions]) -> list[str]:
    """Replace the predictions in ``output``, which all are of one model, and the archives of complete benchmarks.

    Args:
        sets: by name of the file of predictions; empty: what is there is removed.

    Returns:
        Sentences for the report.
    """
    folder = output / FOLDER
    if not sets:
        shutil.rmtree(folder, ignore_errors=True)
        _archives(output, {})
        return []
    files = {name: content(each).encode() for name, each in sorted(sets.items())}
    with atomic_directory(folder, replace=True) as partial:
        for name, text in files.items():
            (partial / name).write_bytes(text)
    return [f"In `{FOLDER}/`: {', '.join(sorted(files))}.", *_archives(output, files)]


def content(predictions: Predictions) -> str:
    """Return the text of a file of predictions."""
    values = _values(predictions)
    pairs = list(zip(predictions.indices, values, strict=True))
    if not predictions.table.is_json:
        return "\n".join(["index\tprediction", *(f"{index}\t{value}" for index, value in pairs), ""])
    if predictions.table.is_object:
        return json.dumps(dict(pairs), ensure_ascii=False, indent=2) + "\n"
    if predictions.table.is_nested:
        records = _nested(pairs, str(predictions.table.each))
    else:
        name = predictions.table.index
        # Rows that are counted, or named by a template, have no column of their own.
        column = "index" if name is None or "{" in str(name) else str(name).rpartition(".")[2]
        records = [{column: _number(index), predictions.table.answer_key: value} for index, value in pairs]
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def _values(predictions: Predictions) -> list[Any]:
    task = predictions.task
    if task.has_scores:
        return [f"{score:.3f}" for score in np.clip(predictions.values, *task.score_range)]
    if task.has_texts:
        return [str(value) for value in predictions.values]
    if task.kind == "choose" or predictions.table.is_nested:
        return [int(value) for value in predictions.values]
    return [task.labels[value] for value in predictions.values]


def _nested(pairs: list[tuple[str, Any]], each: str) -> list[dict[str, Any]]:
    """Records in the shape of the test file: "0/1/2" is answer 2 of question 1 of passage 0."""
    levels = each.split(".*.")
    top: list[dict[str, Any]] = []
    for index, value in pairs:
        entries = top
        for depth, number in enumerate(index.split("/")):
            if not entries or entries[-1]["idx"] != _number(number):
                entries.append({"idx": _number(number)})
            if depth < len(levels):
                entry = entries[-1]
                *outer, last = levels[depth].split(".")
                for name in outer:
                    entry = entry.setdefault(name, {})
                entries = entry.setdefault(last, [])
            else:
                entries[-1]["label"] = value
    return top


def _number(index: str) -> int | str:
    return int(index) if index.isascii() and index.isdigit() else index


def _archives(output: Path, files: Mapping[str, bytes]) -> list[str]:
    """Write the archive of each benchmark whose files are all there and have no fault; remove any other archive."""
    lines = []
    for suite in SUITES.values():
        archive = output / f"{suite.name}.zip"
        own = {name: files[name] for name in suite.files if name in files}
        missing = [name for name in suite.required if name not in own]
        # Also of an incomplete suite: its files may be sent together with others.
        faults = faults_within(own, suite)
        if missing:
            faults.append(f"{suite.server} also requires {', '.join(missing)}")
        if not faults:
            _write_archive(archive, own)
            lines.append(f"`{archive.name}` is complete, for {suite.server}.")
            continue
        archive.unlink(missing_ok=True)
        if own:
            lines.append(f"No {archive.name}: {'; '.join(faults)}.")
    return lines


def _write_archive(path: Path, files: Mapping[str, bytes]) -> None:
    with atomic_file(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in files.items():
            # A date of its own would make equal predictions different archives.
            zipped.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
