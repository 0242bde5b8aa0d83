"""The description of a transformers model type: tables of tensor names and configuration keys, and functions for the
keys that a table cannot describe."""

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor

from sesame.pretrain.huggingface.tensor_conversion import IDENTITY, TensorConversion
from sesame.pretrain.huggingface.value_types import ValueType
from sesame.pretrain.models.family import ModelConfig


class ParameterMapping(NamedTuple):
    """Sesame parameters and the transformers tensor with the same values.

    ``*`` stands for a layer number and ``#`` in ``hf`` for an expert number. A name without ``.weight`` or ``.bias``
    matches both.
    """

    ours: str | tuple[str, ...]
    hf: str
    conversion: TensorConversion = IDENTITY


class Component(NamedTuple):
    """Parameters that a model has all of or none: the backbone or a head."""

    mappings: tuple[ParameterMapping, ...]
    objectives: Mapping[str, float] = {}
    """Objective -> loss weight, for training a model that has this component."""


class ConfigMapping(NamedTuple):
    """A field of the Sesame model configuration and its key in ``config.json``."""

    ours: str
    hf: str
    default: Any = ...
    """transformers' default if the key is absent; ``...``: the key is required."""
    choices: Mapping[Any, tuple[Any, ...]] | None = None
    """Sesame value -> equivalent values in transformers, of which the first is written; None: equal values."""


ACTIVATIONS: dict[Any, tuple[Any, ...]] = {
    "gelu": ("gelu", "gelu_python"),
    "gelu_tanh": ("gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu_accurate"),
    "relu": ("relu",),
    "silu": ("silu", "swish"),
}
"""Sesame activation -> transformers' names of it."""


class HFModel(NamedTuple):
    """A transformers model to import."""

    config: Mapping[str, Any]
    """Content of ``config.json``, with aliases of keys resolved."""
    tensor_names: Container[str]
    """As in the parameter mappings."""
    read: Callable[[str], Tensor]
    """Tensor name -> fp32 value."""
    origin: str
    """Path of ``config.json``, for messages."""


SpecialIds = Mapping[str, int]
"""Key of ``config.json`` -> token id: pad_token_id, decoder_start_token_id, ..."""
ParameterChanges = Mapping[str, Callable[[Tensor], Tensor]]
"""Sesame parameter name -> function applied to its value before export."""


@dataclass(frozen=True)
class Counterpart:
    """A transformers model type that can represent models of a Sesame family."""

    model_type: str
    family: str
    """Key of ``pretrain.models.FAMILIES``."""
    base_prefix: str
    """Prefix of the backbone's tensor names in a class with a head; absent in the class ``base_class``."""
    components: Mapping[str, Component]
    """By name; the first is the backbone, which every model has."""
    architectures: Mapping[frozenset[str], str]
    """Names of the components other than the backbone -> transformers class."""
    config_mappings: tuple[ConfigMapping, ...]
    supported_values: Mapping[str, Container[Any]] = field(default_factory=dict)
    """Sesame field -> values that the model type can represent."""
    equal_fields: Mapping[str, str] = field(default_factory=dict)
    """Sesame field -> another field that must have the same value."""
    fixed_values: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Key of ``config.json`` -> values that can be imported, of which the first is exported."""
    required_values: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Key of ``config.json`` -> values that can be imported; never exported."""
    ignored_keys: Mapping[str, str] = field(default_factory=dict)
    """Key that does not change the computed function -> the reason. ``config_keys.py`` has those of all types."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Alternative key -> key (transformers' ``attribute_map``)."""
    extra_keys: Mapping[str, ValueType] = field(default_factory=dict)
    """Keys that ``extra_from_hf`` reads."""
    extra_to_hf: Callable[[Any], dict[str, Any]] = lambda config: {}
    """Sesame configuration -> keys of ``config.json`` that depend on several fields.

    Raises:
        ConversionError: the model type cannot represent the configuration.
    """
    extra_from_hf: Callable[[HFModel], dict[str, Any]] = lambda model: {}
    """Model -> Sesame fields that depend on several keys.

    Raises:
        ConversionError: the family cannot represent the model.
    """
    import_notes: Callable[[Mapping[str, Any]], list[str]] = lambda values: []
    """``config.json`` -> messages about training settings that are not imported."""
    adapt: Callable[[ModelConfig, SpecialIds], tuple[ModelConfig, ParameterChanges]] = lambda config, special: (
        config,
        {},
    )
    """Change a model before export, without changing its function, as the class requires."""
    tied_tensors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Tensor name -> names under which files may contain a copy."""
    ignored_tensors: tuple[str, ...] = ()
    """Regular expressions of tensors that are not weights."""
    constant_keys: Mapping[str, Any] = field(default_factory=dict)
    """Key of ``config.json`` -> exported value; any value is accepted at import."""
    export_notes: Callable[[Any], list[str]] = lambda config: []
    """Sesame configuration -> messages about differences of the exported model."""
    base_class: str = ""
    """Class whose tensor names have no ``base_prefix``."""

    @property
    def mapped_keys(self) -> tuple[str, ...]:
        """Keys of ``config.json`` in ``config_mappings``."""
        return tuple(mapping.hf for mapping in self.config_mappings)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Transformers classes without repetition."""
        return tuple(dict.fromkeys(self.architectures.values()))
