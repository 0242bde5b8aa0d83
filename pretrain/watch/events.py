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

from sesame.configs.storage import append_line, keep_lines
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
            "value": self.value if math.isfinite(self.value) else None,
            "action": self.action,
            "message": self.message,
        }
        if self.samples is not None:
            values |= {"samples": list(self.samples), "checkpoint_step": self.checkpoint_step}
        return json.dumps(values)


class EventLog:
    """Writes the events of a run in its first process; in every other process it only holds them."""

    def __init__(self, output: Path, first_step: int, *, is_rank_zero: bool, clock: Callable[[], float] = time.time):
        """
        Args:
            first_step: step at which the run starts or resumes; later events are removed, for they will happen again.
                Roll-backs to a checkpoint up to that step stay: what they skip stays skipped.
        """
        self.path, self._is_rank_zero, self._clock = output / FILE, is_rank_zero, clock
        if is_rank_zero:
            keep_lines(self.path, lambda line: _is_kept(line, first_step))

    def write(self, event: Event) -> None:
        """Append an event."""
        if self._is_rank_zero:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            append_line(self.path, event.line(self._clock()))


def skipped_samples(output: Path, first_step: int) -> list[Samples]:
    """Return what the roll-backs of the run in ``output`` skip, if it starts or resumes at ``first_step``."""
    file = output / FILE
    lines = file.read_bytes().split(b"\n") if file.exists() else []
    rows = [json.loads(line) for line in lines if _is_kept(line, first_step)]
    return [Samples(*row["samples"]) for row in rows if row["action"] == "roll_back"]


def _is_kept(line: bytes, first_step: int) -> bool:
    """Return whether a line is an event that still counts for a run that starts or resumes at ``first_step``."""
    try:
        row = json.loads(line)
        if row["action"] == "roll_back":
            return first_step > 0 and row["checkpoint_step"] <= first_step and _is_range(*row["samples"])
        return 0 < row["step"] <= first_step
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def _is_range(first: int, last: int) -> bool:
    return type(first) is type(last) is int and 0 <= first < last
