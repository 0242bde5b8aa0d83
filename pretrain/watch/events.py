"""``events.jsonl`` in a run's folder: what happened to the run, one JSON object a line.

| key | what |
|---|---|
| step | optimizer step, from 1 |
| time | seconds since 1970 |
| kind | non_finite_loss, non_finite_gradient, loss_spike, gradient_spike, slow_rank |
| rank | process whose micro-batch it was (of tensor-parallel processes the first); null if it is not known |
| rows | row numbers in the train split: of that micro-batch, or of the whole step |
| value | the loss, the norm, or how many times the median time; null if it is not finite |
| action | report, stop, skip, roll_back |
| message | one sentence |
| samples | of a roll-back: positions, counted over the whole run, that are skipped: [first, one past the last] |
| checkpoint_step | of a roll-back: step of the checkpoint that the run continues from |
"""

import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from sesame.configs.json_lines import Row, finite_or_none, read_rows
from sesame.configs.storage import append_line, write_text
from sesame.pretrain.data.skipped import Samples

FILE = "events.jsonl"
Kind = Literal["non_finite_loss", "non_finite_gradient", "loss_spike", "gradient_spike", "slow_rank"]
Action = Literal["report", "stop", "skip", "roll_back"]


class Event(NamedTuple):
    """One line of ``events.jsonl``."""

    step: int
    kind: Kind
    action: Action
    message: str
    value: float = math.nan
    rank: int | None = None
    rows: Sequence[int] | np.ndarray = ()
    samples: Samples | None = None
    checkpoint_step: int | None = None

    def line(self, now: float) -> str:
        """Return the JSON of the event at ``now``, in seconds since 1970."""
        values: dict[str, Any] = {
            "step": self.step,
            "time": round(now, 3),
            "kind": self.kind,
            "rank": self.rank,
            "rows": [int(row) for row in self.rows],
            "value": finite_or_none(self.value),
            "action": self.action,
            "message": self.message,
        }
        if self.samples is not None:
            values |= {"samples": list(self.samples), "checkpoint_step": self.checkpoint_step}
        return json.dumps(values)


class EventLog:
    """Writes the events of a run in its first process; in every other process it only holds them."""

    def __init__(self, output: Path, *, is_rank_zero: bool, clock: Callable[[], float] = time.time):
        self.path, self._is_rank_zero, self._clock = output / FILE, is_rank_zero, clock

    def rewind(self, step: int) -> None:
        """Remove the events of steps after ``step``, which will be computed again, but for roll-backs that still count:
        those to a checkpoint up to ``step``, and those before them."""
        if self._is_rank_zero and self.path.exists():
            write_text(self.path, "".join(f"{json.dumps(row)}\n" for row in _kept_rows(self.path, step)))

    def write(self, event: Event) -> None:
        """Append an event."""
        if self._is_rank_zero:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            append_line(self.path, event.line(self._clock()))


def skipped_samples(output: Path, step: int) -> list[Samples]:
    """Return what the roll-backs of the run in ``output`` skip, if it continues from a checkpoint of ``step``."""
    rows = _kept_rows(output / FILE, step)
    return [Samples(*row["samples"]) for row in rows if row["action"] == "roll_back"]


def roll_backs(output: Path) -> list[Row]:
    """Return all roll-backs of the run in ``output``, in their order."""
    return [row for row in read_rows(output / FILE) if _is_roll_back(row) and _is_sound(row)]


def _kept_rows(path: Path, step: int) -> list[Row]:
    """Return the events that still count for a run that continues from ``step``, without damaged ones."""
    rows = [row for row in read_rows(path) if _is_sound(row)]
    # The run may have gone back beyond a roll-back, to an older checkpoint; what it skipped stayed skipped.
    reached = (number for number, row in enumerate(rows) if _is_roll_back(row) and row["checkpoint_step"] <= step)
    in_force = max(reached, default=-1)
    return [
        row for number, row in enumerate(rows) if (number <= in_force if _is_roll_back(row) else row["step"] <= step)
    ]


def _is_roll_back(row: Row) -> bool:
    return row.get("action") == "roll_back"


def _is_sound(row: Row) -> bool:
    if not _is_roll_back(row):
        return "action" in row and _is_step(row.get("step"))
    samples = row.get("samples")
    return (
        _is_step(row.get("checkpoint_step")) and isinstance(samples, list) and len(samples) == 2 and _is_range(*samples)
    )


def _is_step(value: object) -> bool:
    return type(value) is int and value > 0


def _is_range(first: object, last: object) -> bool:
    return type(first) is int and type(last) is int and 0 <= first < last
