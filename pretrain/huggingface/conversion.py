"""The counterpart of a family in transformers: rows of names, rows of settings, and functions for the rest."""

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pretrain.models.family import ModelConfig

Shapes = list[tuple[int, ...]]


class TensorConversion(NamedTuple):
    """TensorConversion tensors of ours become tensors of theirs, and back."""

    there: Callable[[list[Tensor]], list[Tensor]]
    back: Callable[[list[Tensor], Shapes], list[Tensor]]
    """Told the shapes that ours have."""


def _turned(value: Tensor) -> Tensor:
    return value.T if value.dim() == 2 else value


def _cut(value: Tensor, shapes: Shapes) -> list[Tensor]:
    return list(value.split([shape[0] for shape in shapes]))


SAME = TensorConversion(lambda ours: ours, lambda theirs, shapes: theirs)
TRANSPOSED = TensorConversion(lambda ours: [_turned(ours[0])], lambda theirs, shapes: [_turned(theirs[0])])
"""[out, in] here, [in, out] there (GPT-2's Conv1D)."""
FUSED = TensorConversion(lambda ours: [torch.cat(ours)], lambda theirs, shapes: _cut(theirs[0], shapes))
"""Several of ours, one below the other, are one of theirs."""
FUSED_TRANSPOSED = TensorConversion(
    lambda ours: [_turned(torch.cat(ours))], lambda theirs, shapes: _cut(_turned(theirs[0]), shapes)
)
EXPERTS = TensorConversion(
    lambda ours: [_turned(expert) for expert in ours[0]],
    lambda theirs, shapes: [torch.stack([_turned(expert) for expert in theirs])],
)
"""One tensor [E, in, out] here, a tensor [out, in] for each expert there."""


class Row(NamedTuple):
    """Parameters of ours and what they are called there.

    ``*`` is the number of a layer and is carried over, as is an ending ``.weight`` or ``.bias`` that a pattern leaves
    open; ``#`` in theirs is the number of an expert.
    """

    ours: str | tuple[str, ...]
    theirs: str
    how: TensorConversion = SAME


class Part(NamedTuple):
    """Parameters that a model has all of, or none."""

    rows: tuple[Row, ...]
    objectives: Mapping[str, float] = {}
    """Objectives, with their weights, that a model with this part can go on training with."""


class Kind(NamedTuple):
    """What a key of ``config.json`` may hold."""

    what: str
    fits: Callable[[Any], bool]


LARGEST = 2**24
"""Of every size and number in ``config.json``; the largest published model has a thousandth of it."""


def _whole(value: Any, least: int) -> bool:
    return type(value) is int and least <= value <= LARGEST


def optional(kind: Kind) -> Kind:
    """The same or null."""
    return Kind(f"{kind.what} or null", lambda value: value is None or kind.fits(value))


SIZE = Kind(f"a whole number from 1 to {LARGEST}", lambda value: _whole(value, 1))
COUNT = Kind(f"a whole number from 0 to {LARGEST}", lambda value: _whole(value, 0))
FLAG = Kind("true or false", lambda value: isinstance(value, bool))
WORD = Kind("a word", lambda value: isinstance(value, str))
SHARE = Kind("a number from 0 to below 1", lambda value: type(value) in (int, float) and 0 <= value < 1)
RATIO = Kind("a number above 0", lambda value: type(value) in (int, float) and 0 < value <= 1e12)
WORDS = Kind("a list of words", lambda value: isinstance(value, list) and all(isinstance(each, str) for each in value))
TABLE = Kind("a table", lambda value: isinstance(value, dict))


class Source(NamedTuple):
    """The model that is imported, for what no single key says."""

    values: Mapping[str, Any]
    """``config.json``."""
    names: Container[str]
    """Of its tensors, as the rows have them."""
    read: Callable[[str], Tensor]
    origin: str
    """The file of ``values``, for messages."""


class Setting(NamedTuple):
    """A field of our configuration and its key in ``config.json``."""

    ours: str
    theirs: str
    default: Any = ...
    """What transformers takes where the key is absent; ``...``: the key must be there."""
    words: Mapping[Any, tuple[Any, ...]] | None = None
    """Our value -> theirs, the usual one first; None: the same."""


ACTIVATIONS: dict[Any, tuple[Any, ...]] = {
    "gelu": ("gelu", "gelu_python"),
    "gelu_tanh": ("gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu_accurate"),
    "relu": ("relu",),
    "silu": ("silu", "swish"),
}
"""Our names of activations and transformers' names."""

Special = Mapping[str, int]
"""Special ids by their key in ``config.json``: pad_token_id, decoder_start_token_id, ..."""
Changes = Mapping[str, Callable[[Tensor], Tensor]]
"""By parameter name, what is done to it before it is exported."""


@dataclass(frozen=True)
class Counterpart:
    """One model type of transformers."""

    model_type: str
    family: str
    """Row of our table of families."""
    prefix: str
    """In front of the backbone's names in a class with a head; the bare class leaves it out."""
    parts: Mapping[str, Part]
    """By name; the first is the backbone, which is always there."""
    classes: Mapping[frozenset[str], str]
    """Class by the parts other than the backbone that a model has."""
    settings: tuple[Setting, ...]
    ours: Mapping[str, Container[Any]] = field(default_factory=dict)
    """Our fields that only with these values can be said there."""
    same: Mapping[str, str] = field(default_factory=dict)
    """Our fields that there have the value of another one."""
    theirs: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Keys of ``config.json`` that are known here only with these values, the first of which is written."""
    unwritten: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Keys of older or other files that are known here only with these values."""
    inert: Mapping[str, str] = field(default_factory=dict)
    """Keys that cannot change what is computed here, and why; those of every model type are in ``keys.py``."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Other names of keys (transformers' ``attribute_map``)."""
    further: Mapping[str, Kind] = field(default_factory=dict)
    """Keys that ``further_back`` reads."""
    further_there: Callable[[Any], dict[str, Any]] = lambda config: {}
    """Keys of ``config.json`` that no single field gives.

    Raises:
        ConversionError: they cannot say it.
    """
    further_back: Callable[[Source], dict[str, Any]] = lambda source: {}
    """Fields of ours that no single key gives.

    Raises:
        ConversionError: what the keys say is no model of ours.
    """
    remarks: Callable[[Mapping[str, Any]], list[str]] = lambda values: []
    """What of ``config.json`` counts in training alone and is not kept."""
    fitted: Callable[[ModelConfig, Special], tuple[ModelConfig, Changes]] = lambda config, special: (config, {})
    """The same function of the text in the shape that their class has."""
    copies: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Their tensor -> names under which files may hold it again."""
    ignored: tuple[str, ...] = ()
    """Patterns of tensors in files that hold no weights."""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """Keys of ``config.json`` that are written and, when they are read, have no meaning."""
    notes: Callable[[Any], list[str]] = lambda config: []
    """What somebody who exports a model of this configuration must know."""
    bare: str = ""
    """The class whose names have no prefix."""

    @property
    def settings_keys(self) -> tuple[str, ...]:
        """The keys of ``config.json`` that a single field gives."""
        return tuple(setting.theirs for setting in self.settings)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Each class once."""
        return tuple(dict.fromkeys(self.classes.values()))
