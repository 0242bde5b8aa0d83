"""The table of model families. A family is one file: a typed Config, a module, and its SHARDING plan."""

from typing import NamedTuple

from torch import nn

from pretrain.models.bert import Bert, BertConfig
from pretrain.models.family import ModelConfig


class Family(NamedTuple):
    config: type[ModelConfig]
    module: type[nn.Module]


FAMILIES: dict[str, Family] = {
    "bert": Family(BertConfig, Bert),
}
