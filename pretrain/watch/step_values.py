"""Loss and gradient norm of every step, exactly as they were computed: ``steps.jsonl`` in a run's folder.

One line for each report: ``step``, the last of its steps, and for all of them in order ``losses``, ``gradient_norms``
and ``learning_rates``. Python's JSON reads the same bits that it wrote; null stands for a number that is not finite.
"""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from sesame.configs.json_lines import Row, finite_or_none, keep_rows, read_rows
from sesame.configs.storage import append_line

FILE = "steps.jsonl"
COLUMNS = ("losses", "gradient_norms", "learning_rates")


class StepValues(NamedTuple):
    """What is recorded of one step."""

    step: int
    """From 1."""
    loss: float
    """Weighted sum of the objectives, mean over the global batch."""
    gradient_norm: float
    """Before clipping."""
    learning_rate: float


class StepFile:
    """Collects the values of steps and writes them, in the first process."""

    def __init__(self, output: Path, *, is_rank_zero: bool):
        self.path, self._is_rank_zero = output / FILE, is_rank_zero
        self._pending: list[StepValues] = []

    def add(self, values: StepValues) -> None:
        """Add a step; it is written by ``write``."""
        self._pending.append(values)

    def write(self) -> None:
        """Append a line with the steps since the last one."""
        steps, self._pending = self._pending, []
        if not steps or not self._is_rank_zero:
            return
        line = {
            "step": steps[-1].step,
            "losses": [finite_or_none(each.loss) for each in steps],
            "gradient_norms": [finite_or_none(each.gradient_norm) for each in steps],
            "learning_rates": [each.learning_rate for each in steps],
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        append_line(self.path, json.dumps(line))

    def rewind(self, step: int) -> None:
        """Remove the steps after ``step``, which will be computed again."""
        self._pending = []
        if self._is_rank_zero:
            keep_rows(self.path, lambda row: _is_whole(row) and row["step"] <= step)


def read(output: Path) -> dict[int, StepValues]:
    """Return the recorded values by step; damaged lines are left out."""
    values: dict[int, StepValues] = {}
    for row in filter(_is_whole, read_rows(output / FILE)):
        columns = [row[name] for name in COLUMNS]
        first = row["step"] - len(columns[0]) + 1
        for number, numbers in enumerate(zip(*columns, strict=True)):
            floats = [math.nan if each is None else float(each) for each in numbers]
            values[first + number] = StepValues(first + number, *floats)
    return values


def _is_whole(row: Row) -> bool:
    """Return whether a row has the values of its steps."""
    columns: list[Any] = [row.get(name) for name in COLUMNS]
    are_numbers = all(
        isinstance(column, list) and all(each is None or type(each) in (int, float) for each in column)
        for column in columns
    )
    return type(row.get("step")) is int and are_numbers and len(set(map(len, columns))) == 1
