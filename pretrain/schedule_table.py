"""A setting that changes over a run: values at fractions of it."""

from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from sesame.configs import Section
from sesame.configs.kinds import Free


class ScheduleTable(Section):
    """Values of a setting over a run, as in ``at = [0.0, 0.5, 1.0]``, ``values = [0.30, 0.15, 0.15]``."""

    at: Free[tuple[float, ...]] = Field(min_length=1)
    """Fractions of the run, rising from 0."""
    values: Free[tuple[float, ...]] = Field(min_length=1)
    """The value at each of them; after the last one it stays."""
    between: Free[Literal["line", "steps"]] = "line"
    """Between two of them: a straight line, or the earlier value until the later one begins."""

    @model_validator(mode="after")
    def _points_fit(self) -> Self:
        if len(self.at) != len(self.values):
            raise ValueError(f"at has {len(self.at)} fractions, but values has {len(self.values)}; give one for each")
        if self.at[0] != 0 or self.at[-1] > 1:
            raise ValueError(f"at runs from {self.at[0]:g} to {self.at[-1]:g}; begin at 0, and end at 1 at the latest")
        if any(later <= earlier for earlier, later in zip(self.at, self.at[1:], strict=False)):
            raise ValueError(f"at {list(self.at)} does not rise; write its fractions in order, each once")
        if not np.isfinite(self.values).all():
            raise ValueError(f"values {list(self.values)} are not all numbers; give finite ones")
        return self

    def value(self, fraction: float) -> float:
        """Return the value at a ``fraction`` of the run."""
        return float(self.over(np.array([fraction]))[0])

    def over(self, fractions: np.ndarray) -> np.ndarray:
        """Return the values at ``fractions``, fp64."""
        if self.between == "line":
            return np.interp(fractions, self.at, self.values)
        return np.array(self.values)[np.searchsorted(self.at, fractions, side="right") - 1]
