"""Choices that all layers of a model share, and their tables."""

from collections.abc import Callable
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from sesame.pretrain.layers.gelu import gelu_tanh
from sesame.pretrain.layers.linear import Linear

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": gelu_tanh,
    "relu": F.relu,
    "silu": F.silu,
}
"""gelu: Hendrycks & Gimpel 2016, exact (BERT); gelu_tanh: its approximation (GPT-2's published code); silu: SwiGLU."""


class Style(NamedTuple):
    """Norms, activation, biases and dropout of every layer of a model."""

    norm: str = "layer"
    """Row of ``NORMS``."""
    epsilon: float = 1e-12
    """Added to the variance (or mean square) in a norm."""
    activation: str = "gelu"
    """Row of ``ACTIVATIONS``."""
    gated: bool = False
    """Feed-forward layers multiply by a second projection (GLU: Shazeer 2020)."""
    bias: bool = True
    """Linear layers and layer norms have a bias."""
    dropout: float = 0.0
    """Of hidden states."""
    attention_dropout: float = 0.0
    """Of attention weights."""
    head_activation: str | None = None
    """Row of ``ACTIVATIONS`` of the masked-token head; None: ``activation``."""
    inner_norm: bool = False
    """Feed-forward layers normalize what they project back to the width."""

    def normalisation(self, width: int) -> nn.Module:
        """Return a new norm over the last dimension."""
        return NORMS[self.norm](width, self)

    def linear(self, inputs: int, outputs: int) -> nn.Linear:
        return Linear(inputs, outputs, bias=self.bias)


NORMS: dict[str, Callable[[int, Style], nn.Module]] = {
    "layer": lambda width, style: nn.LayerNorm(width, style.epsilon, bias=style.bias),
    "rms": lambda width, style: nn.RMSNorm(width, style.epsilon),
}
"""layer: Ba et al. 2016; rms: Zhang & Sennrich 2019, without centering (T5, section 2.1)."""
