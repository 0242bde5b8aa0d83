"""Settings of saving and of resuming."""

from pydantic import Field

from sesame.configs import Section
from sesame.configs.kinds import Derived, Free


class CheckpointConfig(Section):
    """How often to save and how many checkpoints to keep."""

    save_every_steps: Free[int] = Field(default=1000, gt=0)
    """Optimizer steps between checkpoints; the last step is always saved."""
    save_every_minutes: Free[float | None] = Field(default=None, gt=0, allow_inf_nan=False)
    """Minutes after the last checkpoint at which another one is saved, beside those of ``save_every_steps``."""
    keep: Free[int] = Field(default=2, gt=0)
    """Newest checkpoints that are kept."""


class ResumeConfig(Section):
    """Which changes of settings a resumed run accepts."""

    accept: Derived[tuple[str, ...]] = ()
    """Settings by key, such as 'data.global_batch', that may differ although they must be the same as in the
    checkpoint. The change is recorded in later checkpoints."""
