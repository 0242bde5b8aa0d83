"""Dev rows on which two models disagree, with their texts.

S seeds, R rows.
"""

import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sesame.configs.errors import TaskError
from sesame.configs.storage import atomic_file
from sesame.evaluation.finetuning.encoding import TaskData
from sesame.evaluation.reading.tables import read_table

FOLDER = "dev_rows"
MOST = 3
"""Rows that are shown of each dev set, for each of the two models."""
Texts = list[list[str]]
"""Of each row: the texts of its sequence; of a row with candidates, those of each candidate, one after the other."""


class Example(NamedTuple):
    """A row that one model answers better than another."""

    row: str
    """Its name in the file, or its number."""
    texts: list[str]
    label: str
    answers: tuple[str, str]
    """Of the two models: each answer with the number of seeds that gave it, or the mean score."""


def dev_texts(data: TaskData, data_dir: Path) -> dict[str, Texts]:
    """Return the texts of the rows of each dev set, in their order; none of rows whose name others have, too."""
    found: dict[str, Texts] = {}
    for prefix, dev in data.dev.items():
        examples = read_table(data_dir, data.task.dev[prefix], data.task)
        counts, by_row = Counter(examples.indices), {}
        for name, (start, end) in zip(examples.indices, pairwise(examples.starts), strict=True):
            if counts[name] == 1:
                by_row[name] = [text for each in examples.texts[start:end] for text in each]
        found[prefix] = [by_row.get(name, []) for name in dev.indices]
    return found


def write_texts(output: Path, data: TaskData, texts: Mapping[str, Texts]) -> None:
    """Keep the texts and names of the dev rows, from which ``sesame compare`` shows examples."""
    folder = output / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    values = {
        prefix: {"rows": data.dev[prefix].indices, "texts": each, "labels": list(data.task.labels)}
        for prefix, each in texts.items()
    }
    content = json.dumps(values, ensure_ascii=False).encode()
    with atomic_file(_path(output, data.title)) as file:
        file.write(gzip.compress(content, mtime=0))


def read_texts(output: Path, title: str) -> dict[str, dict[str, list]]:
    """Return what :func:`write_texts` has kept, nothing if it is not there.

    Raises:
        TaskError: the file is damaged.
    """
    path = _path(output, title)
    try:
        values = json.loads(gzip.decompress(path.read_bytes()))
        return {
            prefix: {key: list(each[key]) for key in ("rows", "texts", "labels")} for prefix, each in values.items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, zlib.error):
        raise TaskError(f"{path}: is damaged; run `sesame evaluate` there again") from None


def _path(output: Path, title: str) -> Path:
    # "QNLI (dev split 80/20)" is not the name of a file.
    return output / FOLDER / f"{re.sub(r'[^A-Za-z0-9.-]+', '_', title).strip('_')}.json.gz"


def disagreements(
    labels_R: np.ndarray,
    first_SR: np.ndarray,
    second_SR: np.ndarray,
    classes: Sequence[str],
    rows: Sequence[str],
    texts: Sequence[Sequence[str]],
    most: int = MOST,
) -> tuple[list[Example], list[Example]]:
    """Return the rows that the first model answers better than the second, and the other way round.

    For classes, better is a larger share of seeds with the right answer; for scores, a smaller error of the mean. The
    rows with the largest difference are first.

    Args:
        classes: names of labels and predictions; empty: they are shown as they are.
        rows: names of the rows.
        texts: of each row; empty if they are not known.
    """
    is_score = labels_R.dtype.kind == "f" or first_SR.dtype.kind == "f"
    if is_score:
        errors = [np.abs(each.mean(0) - labels_R) for each in (first_SR, second_SR)]
        better_R = errors[1] - errors[0]
    else:
        better_R = (first_SR == labels_R).mean(0) - (second_SR == labels_R).mean(0)

    def example(row: int) -> Example:
        answers = tuple(_answer(each[:, row], classes, is_score=is_score) for each in (first_SR, second_SR))
        shown = list(texts[row]) if row < len(texts) else []
        label = f"{labels_R[row]:.2f}" if is_score else _name(labels_R[row], classes)
        return Example(rows[row], shown, label, (answers[0], answers[1]))

    sides = []
    for sign in (1, -1):
        order = np.argsort(-sign * better_R, kind="stable")[:most]
        sides.append([example(int(row)) for row in order if sign * better_R[row] > 0])
    return sides[0], sides[1]


def _answer(values_S: np.ndarray, classes: Sequence[str], *, is_score: bool) -> str:
    if is_score:
        return f"{values_S.mean():.2f}"
    names, counts = np.unique(values_S, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return ", ".join(f"{_name(names[each], classes)} ({counts[each]} of {len(values_S)})" for each in order)


def _name(value: object, classes: Sequence[str]) -> str:
    return classes[int(value)] if classes and not isinstance(value, str) else str(value)  # pyright: ignore[reportArgumentType]
