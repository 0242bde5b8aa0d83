"""Learning rate over time: a table of decays; and other settings that change over a run."""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

from pydantic import Field, model_validator

from sesame.configs import Section
from sesame.configs.kinds import Free
from sesame.pretrain.schedule_table import ScheduleTable


class ScheduleConfig(Section):
    """Learning rate over time: a warm-up, then a decay to ``final_fraction`` of the peak."""

    warmup_steps: Free[int] = Field(default=0, ge=0)
    """Steps of the warm-up."""
    warmup: Free[Literal["linear", "constant"]] = "linear"
    """Linear from 0 to the peak, or constant at the peak (T5, section 3.1.2, before its 'rsqrt')."""
    decay: Free[Literal["linear", "cosine", "constant", "rsqrt", "wsd"]] = "linear"
    """Shape after the warm-up (BERT: linear). 'wsd' stays at the peak until the last ``decay_steps`` (ModernBERT)."""
    decay_steps: Free[int | None] = Field(default=None, gt=0)
    """Length of the decay. 'linear' and 'cosine': steps after the warm-up, then the rate stays at ``final_fraction``
    (GPT-3, appendix B); unset, to the end of the run. 'wsd': the last steps of the run, must be set; in a run that is
    too short, all steps after the warm-up. The others have no length."""
    decay_fraction: Free[float | None] = Field(default=None, gt=0, le=1)
    """The same as a fraction of the run's steps, for a run whose length is not known before."""
    final_fraction: Free[float] = Field(default=0.0, ge=0, le=1)
    """Fraction of the peak at the end of the decay (GPT-3: 0.1)."""
    global_batch: Free[ScheduleTable | None] = None
    """Sequences of a step over the run, rounded down to a multiple of ``data.global_batch``."""
    mask_rate: Free[ScheduleTable | None] = None
    """Share of the text tokens that are predicted, over the run, where training draws the masks (``corrupt.drawn =
    "each_epoch"``; Ankner et al. 2024: from 0.30 to 0.15)."""
    objectives: Free[dict[str, ScheduleTable]] = Field(default_factory=dict)
    """Weight of an objective over the run, instead of its weight in [objectives]."""

    @model_validator(mode="after")
    def _values_are_possible(self) -> "ScheduleConfig":
        if self.mask_rate and not all(0 < value < 1 for value in self.mask_rate.values):
            raise ValueError(f"mask_rate {list(self.mask_rate.values)} is not between 0 and 1; give shares of tokens")
        for name, table in self.objectives.items():
            if any(value < 0 for value in table.values):
                raise ValueError(f"objectives.{name} {list(table.values)} has a negative weight; give 0 or more")
        return self

    @model_validator(mode="after")
    def _fields_fit(self) -> "ScheduleConfig":
        length = DECAYS[self.decay].length
        if self.decay == "rsqrt" and self.warmup_steps == 0:
            raise ValueError("decay 'rsqrt' scales by warmup_steps, which is 0; set it")
        if self.warmup == "constant" and self.warmup_steps == 0:
            raise ValueError("warmup 'constant' lasts warmup_steps, which is 0; set it or remove warmup")
        given = {
            name: value for name in ("decay_steps", "decay_fraction") if (value := getattr(self, name)) is not None
        }
        if length == "needed" and not given:
            raise ValueError(f"decay '{self.decay}' lasts the last decay_steps, which is not set; set it")
        if len(given) > 1:
            raise ValueError("decay_steps and decay_fraction both give the length of the decay; set one of them")
        if length == "none" and given:
            ((name, value),) = given.items()
            raise ValueError(f"decay '{self.decay}' does not read {name} {value}; remove it")
        return self

    def objective_weights(self, fraction: float) -> dict[str, float]:
        """Return the weights that change, at a ``fraction`` of the run."""
        return {name: table.value(fraction) for name, table in self.objectives.items()}

    def factor(self, step: int, steps: int, expected: float = math.inf) -> float:
        """Return the fraction of the peak learning rate at optimizer step ``step`` (from 0) of ``steps``.

        Args:
            expected: steps that a limit of time allows. If they are fewer than ``steps``, the decay ends with them and
                the warm-up is at most half of them.
        """
        total, warmup = steps, self.warmup_steps
        if expected < steps:
            total, warmup = expected, min(self.warmup_steps, expected / 2)
        if step < warmup:
            return 1.0 if self.warmup == "constant" else min(1.0, (step + 1) / warmup)
        row = DECAYS[self.decay]
        given = self.decay_steps if self.decay_fraction is None else self.decay_fraction * total
        start, length = warmup, given or total - warmup
        if row.length == "needed":
            start = max(start, total - length)
            length = total - start
        elif expected < steps:
            length = min(length, total - start)
        progress = min(max(0.0, (step - start) / max(1, length)), 1.0)
        return self.final_fraction + (1 - self.final_fraction) * row.shape(progress, step, warmup)


class Decay(NamedTuple):
    """A row of the table of decays."""

    shape: Callable[[float, int, float], float]
    """(progress of the decay in [0, 1], step, warm-up steps) -> fraction of the peak."""
    length: Literal["optional", "needed", "none"]
    """Whether it reads ``decay_steps``; a decay that needs it is at the end of the run."""


DECAYS: dict[str, Decay] = {
    "linear": Decay(lambda progress, step, warmup: 1 - progress, "optional"),
    "cosine": Decay(lambda progress, step, warmup: 0.5 * (1 + math.cos(math.pi * progress)), "optional"),
    "constant": Decay(lambda progress, step, warmup: 1.0, "none"),
    # T5, section 3.1.2.
    "rsqrt": Decay(lambda progress, step, warmup: math.sqrt(warmup / (step + 1)), "none"),
    # Warm-up, stable, decay; the shape 1 - sqrt of ModernBERT (Warner et al. 2024, section 2.2.2; Haegele et al. 2024).
    "wsd": Decay(lambda progress, step, warmup: 1 - math.sqrt(progress), "needed"),
}
