"""What ends a run: its optimizer steps, or its minutes of training where they are limited, whichever comes first."""

import math
import time
from collections.abc import Callable

from pydantic import Field

from configs import Section
from configs.kinds import Free
from pretrain.checkpoints.checkpoint import Record

Clock = Callable[[], float]
"""Seconds since some moment."""


class StopConfig(Section):
    """What may end a run before its last step."""

    minutes: Free[float | None] = Field(default=None, gt=0, allow_inf_nan=False)
    """Minutes of training; ``steps`` is then an upper limit, and the learning rate is planned for as many steps as the
    minutes will allow. Steps, validation and checkpoints count, the start of the program does not; a resumed run
    counts on, without the writing of the checkpoint that it goes on from."""


class Limits:
    """How much of a run's limits is used up, the same in every process."""

    def __init__(
        self,
        steps: int,
        config: StopConfig,
        record: Record | None = None,
        *,
        clock: Clock = time.monotonic,
        agree: Callable[[float], float] = lambda value: value,
    ):
        """
        Args:
            record: of the checkpoint that is resumed from; the minutes of before count.
            agree: a collective: the first process's value. It is called only where minutes are limited.
        """
        self.steps, self.minutes = steps, config.minutes
        self.seconds = record.seconds if record and self.minutes is not None else 0.0
        """Of training, when the clock was last read."""
        step = record.step if record else 0
        self.first_timed_step = record.first_timed_step if record and self.seconds else step
        """Where counting began: not at 0 if the first part of the run had no limit of minutes."""
        self._clock, self._agree = clock, agree
        self._begin = clock() - self.seconds

    def start(self) -> None:
        """Let the clock run from now on."""
        self._begin = self._clock() - self.seconds

    def over(self, step: int) -> bool:
        """Read the clock and return whether the run ends after ``step`` optimizer steps; a collective."""
        if self.minutes is not None:
            self.seconds = self._agree(self._clock() - self._begin)
        return step >= self.steps or self._used >= 1

    def expected_steps(self, step: int) -> float:
        """Return after how many optimizer steps the minutes will end at the pace so far; infinity without a limit."""
        timed = max(1, step - self.first_timed_step)
        return self.first_timed_step + timed / self._used if self._used else math.inf

    def describe(self, step: int) -> str:
        """What a run that begins or goes on at ``step`` has before it, for people."""
        limit = "" if self.minutes is None else f", at most {self.minutes:g} minutes"
        if step == 0:
            return f"{self.steps} steps{limit}"
        used = f" ({self.seconds / 60:.1f} used)" if self.minutes is not None else ""
        return f"resuming at step {step} of {self.steps}{limit}{used}"

    @property
    def _used(self) -> float:
        """Share of the minutes."""
        return self.seconds / (60 * self.minutes) if self.minutes is not None else 0.0
