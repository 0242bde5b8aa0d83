"""What every model family has in common: fields of its configuration, and what it is told of the vocabulary."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal, NamedTuple, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from configs import Section
from configs.errors import ConfigError
from configs.kinds import Fixed, Free
from pretrain.layers.attention import Attention
from pretrain.layers.feed_forward import FeedForward
from pretrain.layers.style import Style
from pretrain.layers.transformer import BLOCKS, PostNormBlock


class Vocabulary(NamedTuple):
    """What a family may know of the tokenizer."""

    size: int
    """Pieces."""
    tokenizer: Path | None = None
    """Its file; None where only shapes are wanted."""


Activation = Literal["gelu", "gelu_tanh", "relu", "silu"]
"""Rows of ``pretrain.layers.style.ACTIVATIONS``."""

LARGEST_SIZE = 2**24
MOST_LAYERS = 10_000
"""Of what is computed one after the other."""


class ModelConfig(Section):
    """Shape of a backbone."""

    family: Fixed[str]
    """Row of the table in ``pretrain/models/__init__.py``."""
    width: Fixed[int] = Field(gt=0)
    """Size of a token's hidden state (D)."""
    initial_std: Free[float] = Field(default=0.02, gt=0)
    """Standard deviation of the initial weights, a normal cut off at two deviations (BERT, appendix A.2 code)."""
    vocabulary_multiple: Fixed[int] = Field(default=64, gt=0)
    """The vocabulary is padded to a multiple of this, so that it splits evenly over tensor-parallel processes and
    its products have a shape that hardware likes. Part of the model, so that every layout has the same one."""

    follows: ClassVar[Mapping[str, str]] = {}
    """Fields that have the value of another field while they are None."""

    def resolved(self, name: str) -> Any:
        """The value of a field, or of the one that it follows."""
        value = getattr(self, name)
        return self.resolved(self.follows[name]) if value is None and name in self.follows else value

    @model_validator(mode="after")
    def _sizes_can_exist(self) -> Self:
        for name in type(self).model_fields:
            value, limit = getattr(self, name), MOST_LAYERS if name.endswith(("layers", "highways")) else LARGEST_SIZE
            if isinstance(value, int) and value > limit:
                raise ValueError(f"{name} {value} is more than any machine computes; at most {limit:,} is possible")
        return self

    def padded(self, vocabulary_size: int) -> int:
        """Rows of the token embedding for a tokenizer of ``vocabulary_size`` pieces."""
        return -(-vocabulary_size // self.vocabulary_multiple) * self.vocabulary_multiple

    def init_std(self, name: str, shape: torch.Size) -> float:
        """Standard deviation of the initial values of the learner's parameter ``name`` of this whole shape."""
        return self.initial_std


class _NoInit(TorchFunctionMode):
    """Leaves out torch's own initialization: on the meta device it sets nothing, and loads torch's compiler for that,
    which takes a second."""

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


@contextlib.contextmanager
def on_meta_device() -> Iterator[None]:
    """Build modules as shapes without memory.

    Raises:
        ConfigError: sizes multiply to more than can be counted.
    """
    try:
        with torch.device("meta"), _NoInit():
            yield
    except (RuntimeError, OverflowError) as error:
        if "overflow" not in str(error).lower():
            raise
        raise ConfigError("[model]: its sizes multiply to more entries than a number can count; lower them") from None


class FamilyModule(nn.Module):
    """What most families answer in the role ``Backbone``; a family overrides what is different in it."""

    pooling: str = "first"
    positions: int | None = None
    ties_output: bool = True
    output_scale: float = 1.0
    mixed_layers: int = 0
    pooler: Mapping[str, Tensor] = MappingProxyType({})


class TransformerConfig(ModelConfig):
    """One stack of blocks, of BERT-base's and GPT-2 small's shape unless said otherwise."""

    layers: Fixed[int] = Field(default=12, gt=0)
    """Transformer blocks."""
    width: Fixed[int] = Field(default=768, gt=0)
    """Size of a token's hidden state (D)."""
    heads: Fixed[int] = Field(default=12, gt=0)
    """Attention heads; the width is split evenly among them."""
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
        """What all layers share."""
        return Style(
            epsilon=self.norm_epsilon,
            activation=self.activation,
            dropout=self.dropout,
            attention_dropout=self.attention_dropout,
        )

    def block(self, norm_placement: str) -> PostNormBlock:
        """A new block of self-attention and feed-forward; ``norm_placement`` is a row of ``BLOCKS``."""
        attention = Attention(self.width, self.heads, self.style)
        feed_forward = FeedForward(self.width, self.feed_forward_width, self.style)
        return BLOCKS[norm_placement](attention, feed_forward, self.width, self.style)

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} does not divide by heads {self.heads}; change one of the two")
        return self


def block_sharding(start: str) -> dict[str, str]:
    """The tensor-parallel plan of Transformer blocks whose parts have names that begin with the pattern ``start``
    (Megatron-LM, Shoeybi et al. 2019, section 3)."""
    columns = ("attention.query", "attention.key", "attention.value", "feed_forward.up", "feed_forward.gate")
    return {
        f"{start}attention.core": "heads",
        **{f"{start}{part}": "column" for part in columns},
        f"{start}attention.output": "row",
        f"{start}feed_forward.down": "row",
    }
