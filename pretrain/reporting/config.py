"""What a run reports, how often, and to which experiment trackers."""

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from sesame.configs import Section
from sesame.configs.kinds import Free

MOST_PROFILED_STEPS = 100
"""The trace of a step takes megabytes."""


class ReportConfig(Section):
    """How often a run reports its metrics, and where."""

    every_steps: Free[int] = Field(default=10, gt=0)
    """Optimizer steps between reports."""
    validate_every_steps: Free[int] = Field(default=500, gt=0)
    """Optimizer steps between measurements of the validation loss; it is also measured at the last step."""
    validation_rows: Free[int] = Field(default=2048, gt=0)
    """Validation rows that the loss is measured on."""
    tensorboard: Free[bool] = True
    """Write TensorBoard event files beside the JSON lines; the same as ``trackers`` with ``tensorboard``."""
    trackers: Free[tuple[Literal["tensorboard", "wandb", "mlflow"], ...]] = ()
    """More experiment trackers that get every number of the JSON lines, by their row in ``reporting/trackers.py``."""
    profile_steps: Free[tuple[int, int] | None] = None
    """First and last step of a torch profiler trace, which is written for each process."""
    machine: Free[Path | None] = None
    """File of ``sesame doctor --output``: the products that it measured are the peak of model-FLOPs use. None: the data
    sheet of the GPU; on a CPU the peak is unknown."""

    @field_validator("profile_steps")
    @classmethod
    def _steps_are_a_range(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        if value is not None and not (0 < value[0] <= value[1] < value[0] + MOST_PROFILED_STEPS):
            raise ValueError(
                f"{list(value)} is not a first and a last step, counted from 1, with at most {MOST_PROFILED_STEPS} "
                "steps; write it as [100, 102]"
            )
        return value

    @property
    def all_trackers(self) -> tuple[str, ...]:
        """Every tracker once."""
        return tuple(dict.fromkeys((*(("tensorboard",) if self.tensorboard else ()), *self.trackers)))
