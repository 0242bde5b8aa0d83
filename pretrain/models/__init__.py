"""The table of model families. A family is one file: a typed config, and a backbone with its SHARDING table."""

from typing import Any, NamedTuple

from pretrain.models.albert import Albert, AlbertConfig
from pretrain.models.bert import Bert, BertConfig
from pretrain.models.elmo import Elmo, ElmoConfig
from pretrain.models.family import ModelConfig
from pretrain.models.gpt import Gpt, GptConfig
from pretrain.models.switch import Switch, SwitchConfig
from pretrain.models.t5 import T5, T5Config


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
