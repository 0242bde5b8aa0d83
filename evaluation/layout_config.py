"""``[parallel]``: how the processes that fine-tune a model together divide it."""

from typing import Literal

from pydantic import Field, model_validator

from sesame.configs import Section
from sesame.pretrain.parallel.config import ParallelConfig


class LayoutConfig(Section):
    """How the processes of an evaluation divide a model and its rows, as in pretraining; no result depends on it."""

    tensor: int = Field(default=1, gt=0)
    """Processes that split each layer; the others have other rows. As ``parallel.tensor`` of pretraining."""
    sequence: bool = False
    """Divide also the tokens between the split layers. As ``parallel.sequence`` of pretraining."""
    zero_stage: Literal[0, 1, 2, 3] = 1
    """What the processes with different rows split: 0 nothing, 1 optimizer state, 2 also gradients, 3 also weights. As
    ``parallel.zero_stage`` of pretraining."""
    timeout_minutes: float = Field(default=10.0, gt=0, le=1440, allow_inf_nan=False)
    """Silence of a process after which the others give up and say which one it is."""

    @property
    def splits_weights(self) -> bool:
        """Whether no process has the whole model."""
        return self.tensor > 1 or self.zero_stage == 3

    @property
    def setting(self) -> str:
        """The setting that splits weights, for a message."""
        return f"parallel.tensor {self.tensor}" if self.tensor > 1 else f"parallel.zero_stage {self.zero_stage}"

    def of_engine(self, threads: int, *, recompute: bool = False) -> ParallelConfig:
        """Return pretraining's section with the same layout. Weights are fp32; autocast rounds products."""
        return ParallelConfig(
            tensor=self.tensor,
            sequence=self.sequence,
            zero_stage=self.zero_stage,
            timeout_minutes=self.timeout_minutes,
            precision="fp32",
            recompute="block" if recompute else "none",
            threads=threads,
        )

    @model_validator(mode="after")
    def _tokens_can_be_divided(self) -> "LayoutConfig":
        if self.sequence and self.tensor == 1:
            raise ValueError(
                "sequence divides the tokens over the processes of tensor, and there is one; use sequence false, or "
                "tensor 2"
            )
        return self
