"""The section [optimizer] of a run."""

from typing import Annotated, Literal

from pydantic import Field

from sesame.configs import Section
from sesame.configs.kinds import Fixed, Free

Decay = Annotated[float, Field(ge=0, lt=1)]
"""Factor of a running mean in each step."""


class OptimizerConfig(Section):
    """The section [optimizer] of a run."""

    name: Fixed[Literal["adamw", "muon", "lamb", "adafactor", "adagrad", "sgd"]] = "adamw"
    """Row of the table of optimizers."""
    learning_rate: Free[float] = Field(gt=0)
    """Peak learning rate."""
    betas: Free[tuple[Decay, Decay]] = (0.9, 0.999)
    """Decay of the running mean of gradients and of their squares (BERT, appendix A.2). sgd uses the first as its
    momentum; adafactor and adagrad use neither."""
    momentum: Free[Decay] = 0.95
    """muon only: decay of the running mean of a matrix's gradients (Jordan et al. 2024); ``betas`` are of the other
    parameters."""
    epsilon: Free[float] = Field(default=1e-6, gt=0)
    """Added to the root of the second moment (BERT's published code). Not used by adafactor, which has its paper's
    constants, and sgd."""
    scale_by_parameter: Fixed[bool] = True
    """adafactor only: multiply the learning rate by the parameter's RMS, at least 0.001 (T5)."""
    weight_decay: Free[float] = Field(default=0.01, ge=0)
    """Decoupled weight decay; biases and norm weights have none (BERT, appendix A.2; T5 and ELMo: 0). sgd adds it to
    the gradient."""
    gradient_clipping: Free[float] = Field(default=1.0, ge=0)
    """Largest global gradient norm; 0: no clipping (BERT's published code: 1.0)."""
    average_decay: Free[float] = Field(default=0.0, ge=0, lt=1)
    """Decay of a moving average of the weights (Polyak & Juditsky 1992; 0.999 averages about 1,000 steps), at most
    (1 + n) / (10 + n) after n updates; 0: none. It takes 4 bytes for each parameter, divided as the optimizer's state,
    is stored in checkpoints, and `sesame average --moving` makes a checkpoint of it."""
