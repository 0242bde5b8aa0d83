"""The section [watch] of a run."""

from typing import Literal

from pydantic import Field

from sesame.configs import Section
from sesame.configs.kinds import Free


class WatchConfig(Section):
    """What is watched in each step, and what happens when something is wrong."""

    non_finite: Free[Literal["stop", "skip", "roll_back"]] = "stop"
    """A loss or gradient norm that is not finite. stop: end the run. skip: the step's update is not applied.
    roll_back: continue from the last checkpoint without the rows of the step."""
    spike: Free[Literal["report", "skip", "roll_back"]] = "report"
    """A loss or gradient norm that is too far above those before it. report: only an event."""
    deviations: Free[float] = Field(default=6.0, gt=0, allow_inf_nan=False)
    """Standard deviations above the mean from which on a value is a spike (OLMo-core's SkipStepOptimizer)."""
    window: Free[int] = Field(default=128, ge=4, le=4096)
    """Steps whose values the mean and the standard deviation are of; before half of them nothing is a spike."""
    most_skips: Free[int] = Field(default=10, gt=0)
    """Steps in a row that may be skipped; then the run stops."""
    most_roll_backs: Free[int] = Field(default=3, gt=0)
    """Times that the run may roll back; then it stops."""
    slow_factor: Free[float] = Field(default=1.5, ge=0, allow_inf_nan=False)
    """How many times the median of all processes' work in a step a process may take before it is reported; 0: any."""
    layers_every_steps: Free[int] = Field(default=0, ge=0)
    """Optimizer steps between measurements of each layer: norms of gradients and weights, ratio of update and weights,
    largest activation and entropy of attention; 0: none. Each costs a part of a step."""
    deterministic: Free[bool] = False
    """Use only kernels that give the same bits each time on the same kind of device, and refuse the others
    (``torch.use_deterministic_algorithms``); slower on GPUs."""
