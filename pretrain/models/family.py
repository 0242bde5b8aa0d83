"""Base classes of model families: configuration, backbone, and the vocabulary that a backbone is built for."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal, NamedTuple, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sesame.configs import Section
from sesame.configs.errors import ConfigError
from sesame.configs.kinds import Fixed, Free
from sesame.pretrain.layers.attention import Attention
from sesame.pretrain.layers.feed_forward import FeedForward
from sesame.pretrain.layers.style import Style
from sesame.pretrain.layers.transformer import BLOCKS, PostNormBlock


class Vocabulary(NamedTuple):
    """The tokenizer's vocabulary."""

    size: int
    """Number of tokens."""
    tokenizer: Path | None = None
    """The tokenizer's file; None if only shapes are needed."""


Activation = Literal["gelu", "gelu_tanh", "relu", "silu"]
"""Rows of ``pretrain.layers.style.ACTIVATIONS``."""

LARGEST_SIZE = 2**24
MOST_LAYERS = 10_000
"""Upper bounds of integer fields: of all, and of numbers of layers."""


class ModelConfig(Section):
    """Shape of a backbone."""

    family: Fixed[str]
    """Row of the table in ``pretrain/models/__init__.py``."""
    width: Fixed[int] = Field(gt=0)
    """Size of a token's hidden state (D)."""
    initial_std: Free[float] = Field(default=0.02, gt=0)
    """Standard deviation of the initial weights, a normal truncated at two of them (BERT, appendix A.2 code)."""
    vocabulary_multiple: Fixed[int] = Field(default=64, gt=0)
    """The vocabulary is padded to a multiple of this, so that it is divisible by the number of tensor-parallel
    processes and has an efficient shape. A setting of the model, so that every layout has the same shape."""

    follows: ClassVar[Mapping[str, str]] = {}
    """Field -> the field whose value it has if it is None."""

    def resolved(self, name: str) -> Any:
        """Return the value of a field, or of the field that it follows."""
        value = getattr(self, name)
        return self.resolved(self.follows[name]) if value is None and name in self.follows else value

    @model_validator(mode="after")
    def _sizes_are_possible(self) -> Self:
        for name in type(self).model_fields:
            value, limit = getattr(self, name), MOST_LAYERS if name.endswith(("layers", "highways")) else LARGEST_SIZE
            if isinstance(value, int) and value > limit:
                raise ValueError(f"{name} {value} is too large; at most {limit:,} is possible")
        return self

    def padded(self, vocabulary_size: int) -> int:
        """Return the rows of the token embedding for ``vocabulary_size`` tokens."""
        return -(-vocabulary_size // self.vocabulary_multiple) * self.vocabulary_multiple

    def init_std(self, name: str, shape: torch.Size) -> float:
        """Return the standard deviation of the initial values of a parameter of the learner.

        Args:
            shape: of the whole parameter.
        """
        return self.initial_std


class _NoInit(TorchFunctionMode):
    """Skips torch's own initialization, which has no effect on the meta device but loads torch's compiler: a second."""

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


@contextlib.contextmanager
def on_meta_device() -> Iterator[None]:
    """Build modules as shapes without memory.

    Raises:
        ConfigError: the number of entries of a parameter overflows.
    """
    try:
        with torch.device("meta"), _NoInit():
            yield
    except (RuntimeError, OverflowError) as error:
        if "overflow" not in str(error).lower():
            raise
        raise ConfigError("[model]: its sizes multiply to more entries than 64 bits can count; lower them") from None


class FamilyModule(nn.Module):
    """Defaults of the protocol ``Backbone`` that most families share."""

    pooling: str = "first"
    positions: int | None = None
    ties_output: bool = True
    output_scale: float = 1.0
    mixed_layers: int = 0
    unsplittable: str = ""
    pooler: Mapping[str, Tensor] = MappingProxyType({})
    decoder_projection: Tensor | None = None


class TransformerConfig(ModelConfig):
    """One stack of Transformer blocks; defaults: the shape of BERT-base and GPT-2 small."""

    layers: Fixed[int] = Field(default=12, gt=0)
    """Transformer blocks."""
    width: Fixed[int] = Field(default=768, gt=0)
    """Size of a token's hidden state (D)."""
    heads: Fixed[int] = Field(default=12, gt=0)
    """Attention heads, each of size width / heads."""
    feed_forward_width: Fixed[int] = Field(default=3072, gt=0)
    """Inner size of the feed-forward layer (F); four times the width in most papers."""
    dropout: Free[float] = Field(default=0.1, ge=0, lt=1)
    """Probability of dropping an entry of a hidden state (BERT, appendix A.2)."""
    attention_dropout: Free[float] = Field(default=0.1, ge=0, lt=1)
    """Probability of dropping an attention weight (BERT, appendix A.2)."""
    activation: Fixed[Activation] = "gelu"
    """Of the feed-forward layers and of the head."""
    norm_epsilon: Fixed[float] = Field(default=1e-12, gt=0)
    """Added to the variance in layer norm."""

    @property
    def style(self) -> Style:
        """Choices that all layers share."""
        return Style(
            epsilon=self.norm_epsilon,
            activation=self.activation,
            dropout=self.dropout,
            attention_dropout=self.attention_dropout,
        )

    def block(self, norm_placement: str) -> PostNormBlock:
        """Return a new block of self-attention and feed-forward; ``norm_placement`` is a row of ``BLOCKS``."""
        attention = Attention(self.width, self.heads, self.style)
        feed_forward = FeedForward(self.width, self.feed_forward_width, self.style)
        return BLOCKS[norm_placement](attention, feed_forward, self.width, self.style)

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not divisible by heads {self.heads}; change one of the two")
        return self


def block_sharding(prefix: str) -> dict[str, str]:
    """Return the SHARDING table of Transformer blocks (Megatron-LM, Shoeybi et al. 2019, section 3).

    Args:
        prefix: pattern with which the module names of a block begin.
    """
    columns = ("attention.query", "attention.key", "attention.value", "feed_forward.up", "feed_forward.gate")
    return {
        f"{prefix}attention.core": "heads",
        **{f"{prefix}{part}": "column" for part in columns},
        f"{prefix}attention.output": "row",
        f"{prefix}feed_forward.down": "row",
    }
