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

    def __init__(self, output: Path, *, is_rank_zero: bool, clock: Callable[[], float] = time.time):
        self.path, self._is_rank_zero, self._clock = output / FILE, is_rank_zero, clock

    def rewind(self, step: int) -> None:
        """Remove the events of steps after ``step``, which will be computed again, but for roll-backs that still count:
        those to a checkpoint up to ``step``, and those before them."""
        if self._is_rank_zero:
            keep_lines(self.path, set(_kept_lines(self.path, step)).__contains__)

    def write(self, event: Event) -> None:
        """Append an event."""
        if self._is_rank_zero:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            append_line(self.path, event.line(self._clock()))


def skipped_samples(output: Path, step: int) -> list[Samples]:
    """Return what the roll-backs of the run in ``output`` skip, if it continues from a checkpoint of ``step``."""
    rows = [json.loads(line) for line in _kept_lines(output / FILE, step)]
    return [Samples(*row["samples"]) for row in rows if row["action"] == "roll_back"]


def _kept_lines(path: Path, step: int) -> list[bytes]:
    """Return the lines that still count for a run that continues from ``step``."""
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    known = [_Line.of(line) for line in lines]
    # The run may have gone back beyond a roll-back, to an older checkpoint; what it skipped stayed skipped.
    in_force = max((number for number, each in enumerate(known) if each.checkpoint_step <= step), default=-1)
    return [
        line
        for number, (line, each) in enumerate(zip(lines, known, strict=True))
        if each.step <= step or (each.is_roll_back and number <= in_force)
    ]


class _Line(NamedTuple):
    """What decides whether a line is kept; a damaged one has no step."""

    is_roll_back: bool = False
    step: float = math.inf
    """Of what is computed again after it; infinite for a roll-back."""
    checkpoint_step: float = math.inf
    """Of a roll-back."""

    @classmethod
    def of(cls, line: bytes) -> "_Line":
        try:
            row = json.loads(line)
            is_roll_back = row["action"] == "roll_back"
            step = row["checkpoint_step"] if is_roll_back else row["step"]
            is_sound = type(step) is int and step > 0 and (not is_roll_back or _is_range(*row["samples"]))
        except (ValueError, KeyError, TypeError, RecursionError):
            return cls()
        if not is_sound:
            return cls()
        return cls(True, checkpoint_step=step) if is_roll_back else cls(step=step)


def _is_range(first: int, last: int) -> bool:
    return type(first) is type(last) is int and 0 <= first < last
