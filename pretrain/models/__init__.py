"""The table of model families. A family is one file: a typed config, and a backbone with its SHARDING table."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from sesame import configs
from sesame.configs.errors import ConfigError
from sesame.pretrain.models.albert import Albert, AlbertConfig
from sesame.pretrain.models.bert import Bert, BertConfig
from sesame.pretrain.models.elmo import Elmo, ElmoConfig
from sesame.pretrain.models.family import ModelConfig
from sesame.pretrain.models.gpt import Gpt, GptConfig
from sesame.pretrain.models.switch import Switch, SwitchConfig
from sesame.pretrain.models.t5 import T5, T5Config


class Family(NamedTuple):
    config: type[ModelConfig]
    module: Any
    """A ``Backbone``."""


FAMILIES: dict[str, Family] = {
    "bert": Family(BertConfig, Bert),
    "albert": Family(AlbertConfig, Albert),
    "elmo": Family(ElmoConfig, Elmo),
    "gpt": Family(GptConfig, Gpt),
    "t5": Family(T5Config, T5),
    "switch": Family(SwitchConfig, Switch),
}


def parse_model(values: Mapping[str, Any], origin: str) -> ModelConfig:
    """Parse a ``[model]`` table as the configuration of its family.

    Args:
        origin: where the table comes from, for messages.

    Raises:
        ConfigError: the family is unknown, or a setting does not fit it.
    """
    family = values.get("family")
    if not isinstance(family, str) or family not in FAMILIES:
        problem = "has no family" if family is None else f"family is {family!r}"
        raise ConfigError(f"{origin}: {problem}; the families are {', '.join(FAMILIES)}")
    return configs.parse(values, FAMILIES[family].config, origin)
