"""The section [loss] of a run."""

from pydantic import Field
from torch import nn

from sesame.configs import Section
from sesame.configs.kinds import Free
from sesame.pretrain.layers.vocabulary import CrossEntropy


class LossConfig(Section):
    """Terms of the loss beside the objectives."""

    z_loss: Free[float] = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Weight of (log Z)^2, Z being the sum of exp(logits), in objectives that predict tokens: it keeps logits small
    (PaLM, Chowdhery et al. 2022, section 5: 1e-4). Reported training losses include it, validation losses do not."""

    def apply(self, learner: nn.Module) -> None:
        """Set the terms in the layers of ``learner``."""
        for part in learner.modules():
            if isinstance(part, CrossEntropy):
                part.z_loss = self.z_loss
