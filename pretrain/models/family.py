"""What every model family has in common: fields of its configuration, and what it is told of the vocabulary."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import nn

from configs import Section
from data_pipeline.tokenizer import Tokenizer


class Vocabulary(NamedTuple):
    """What a family may know of the tokenizer."""

    size: int
    """Pieces."""
    tokenizer: Path | None = None
    """Its file; None where only shapes are wanted."""

    def spelling(self, longest: int) -> np.ndarray:
        """uint16 [V, ``longest``]: the bytes of every piece as ELMo numbers them; zeros without a tokenizer."""
        if self.tokenizer is None:
            return np.zeros((self.size, longest), np.uint16)
        return Tokenizer.load(self.tokenizer).spelling(longest)


class ModelConfig(Section):
    """Shape of a backbone."""

    family: str
    """Row of the table in ``pretrain/models/__init__.py``."""
    width: int = Field(gt=0)
    """Size of a token's hidden state (D)."""
    initial_std: float = Field(default=0.02, gt=0)
    """Standard deviation of the initial weights, a normal cut off at two deviations (BERT, appendix A.2 code)."""
    vocabulary_multiple: int = Field(default=64, gt=0)
    """The vocabulary is padded to a multiple of this, so that it splits evenly over tensor-parallel processes and
    its products have a shape that hardware likes. Part of the model, so that every layout has the same one."""

    def padded(self, vocabulary_size: int) -> int:
        """Rows of the token embedding for a tokenizer of ``vocabulary_size`` pieces."""
        return -(-vocabulary_size // self.vocabulary_multiple) * self.vocabulary_multiple

    def deviation(self, name: str, shape: torch.Size) -> float:
        """Standard deviation of the initial values of the learner's parameter ``name`` of this whole shape."""
        return self.initial_std


class FamilyModule(nn.Module):
    """What most families answer in the role ``Backbone``; a family overrides what is different in it."""

    pooling: str = "first"
    positions: int | None = None
    ties_output: bool = True
    output_scale: float = 1.0
    mixed_layers: int = 0


def check_heads(width: int, heads: int) -> None:
    """Raise a ValueError where a width does not split evenly among heads."""
    if width % heads:
        raise ValueError(f"width {width} does not divide by heads {heads}; change one of the two")
