"""When a run ends: after its optimizer steps, tokens, epochs or minutes of training, whichever comes first."""

import math
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from pydantic import Field

from sesame.configs import Section
from sesame.configs.kinds import Free
from sesame.configs.stopping import StopRequest
from sesame.pretrain.checkpoints.record import Record

Clock = Callable[[], float]
"""Returns seconds since a fixed moment, as ``time.monotonic`` does."""


UNLIMITED = 2**40
"""Steps of a run that only minutes limit."""


class StopConfig(Section):
    """Limits of a run beside its ``steps``."""

    tokens: Free[int | None] = Field(default=None, gt=0)
    """Tokens that are trained on, as rows times the mean length of the dataset's rows: exact over whole epochs."""
    epochs: Free[float | None] = Field(default=None, gt=0, allow_inf_nan=False)
    """Passes over the training rows, also a part of one; the last step is completed."""
    minutes: Free[float | None] = Field(default=None, gt=0, allow_inf_nan=False)
    """Minutes of training; ``steps`` is then an upper limit, and the learning rate is planned for as many steps as the
    minutes allow. Steps, validation and checkpoints count, the start of the program does not; a resumed run continues
    the count, without the time that writing its checkpoint took."""


class TrainingBudget:
    """Steps and minutes of a run, and how much of them is used; the same in every process."""

    def __init__(
        self,
        steps: int,
        config: StopConfig,
        record: Record | None = None,
        *,
        clock: Clock = time.monotonic,
        from_rank_zero: Callable[[float], float] = lambda value: value,
    ):
        """
        Args:
            record: of the checkpoint that is resumed from; its seconds count.
            from_rank_zero: a collective that returns the first process's value; called only if minutes are limited.
        """
        self.steps, self.minutes = steps, config.minutes
        self.seconds = record.seconds if record and self.minutes is not None else 0.0
        """Training time when the clock was last read."""
        step = record.step if record else 0
        self.first_timed_step = record.first_timed_step if record and self.seconds else step
        """Step from which on time is counted; later than 0 if the run had no limit of minutes at first."""
        self._clock, self._from_rank_zero = clock, from_rank_zero
        self._start_time = clock() - self.seconds

    def start(self) -> None:
        """Start the clock."""
        self._start_time = self._clock() - self.seconds

    def is_used_up(self, step: int) -> bool:
        """Read the clock and return whether the run ends after ``step`` optimizer steps; a collective."""
        if self.minutes is not None:
            self.seconds = self._from_rank_zero(self._clock() - self._start_time)
        return step >= self.steps or self._fraction_used >= 1

    def expected_steps(self, step: int) -> float:
        """Return how many optimizer steps the minutes allow at the pace so far; infinity without a limit."""
        timed = max(1, step - self.first_timed_step)
        return self.first_timed_step + timed / self._fraction_used if self._fraction_used else math.inf

    def fraction(self, step: int) -> float:
        """Return which part of the run's steps is taken at ``step``, by its limits and the time so far."""
        return min(1.0, step / min(self.steps, self.expected_steps(step)))

    @property
    def seconds_left(self) -> float:
        """Training time that the minutes allow when the clock was last read; infinity without a limit."""
        return max(0.0, 60 * self.minutes - self.seconds) if self.minutes is not None else math.inf

    def describe(self, step: int) -> str:
        """Return a message about a run that starts or resumes at ``step``."""
        limit = "" if self.minutes is None else f"at most {self.minutes:g} minutes"
        steps = f"{self.steps} steps" if self.steps < UNLIMITED else ""
        if step == 0:
            return ", ".join(filter(None, (steps, limit)))
        used = f" ({self.seconds / 60:.1f} used)" if self.minutes is not None else ""
        of_steps = f" of {self.steps}" if steps else ""
        return f"resuming at step {step}{of_steps}{', ' * bool(limit)}{limit}{used}"

    @property
    def _fraction_used(self) -> float:
        """Fraction of the minutes that is used."""
        return self.seconds / (60 * self.minutes) if self.minutes is not None else 0.0


class Answer(NamedTuple):
    """What all processes do after a step."""

    stops: bool
    saves: bool
    is_writing: bool
    """Whether one of them still writes a checkpoint."""


class StepAgreement:
    """What all processes do after a step: stop because a signal has reached one of them, save because it is time, or
    go on from a checkpoint that all of them have written.

    They are asked while the step is computed, so that it costs no waiting; the answer is of the step's start.
    """

    def __init__(
        self,
        request: StopRequest,
        save_every_minutes: float | None,
        ask_any: Callable[[Sequence[bool]], Callable[[], list[bool]]],
        *,
        clock: Clock = time.monotonic,
    ):
        """
        Args:
            save_every_minutes: by the clock of this process; None in all but the first.
            ask_any: a collective; see ``Mesh.ask_any``.
        """
        self.request = request
        self._seconds = 60 * save_every_minutes if save_every_minutes is not None else math.inf
        self._ask_any, self._clock = ask_any, clock
        self._answer: Callable[[], list[bool]] = lambda: [False, False, False]
        self.saved()

    def ask(self, *, is_writing: bool = False) -> None:
        """Start to ask all processes; ``is_writing`` is this one's."""
        is_time = self._clock() - self._last_saved >= self._seconds
        self._answer = self._ask_any([self.request.is_noted, is_time, is_writing])

    def answer(self) -> Answer:
        """Return the answer, which is the same in every process."""
        return Answer(*self._answer())

    def saved(self) -> None:
        """Count the minutes from now on."""
        self._last_saved = self._clock()
