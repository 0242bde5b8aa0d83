"""The module that the engine wraps: a backbone and its objectives, batch -> (total loss, named losses)."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sesame.pretrain.batch import Batch
from sesame.pretrain.models import FAMILIES
from sesame.pretrain.models.family import ModelConfig, Vocabulary, on_meta_device
from sesame.pretrain.objectives import OBJECTIVES


class Trainable(nn.Module, ABC):
    """What ``pretrain/parallel`` splits and trains: batch -> (loss, named losses)."""

    backbone: Any
    """A Backbone."""

    @abstractmethod
    def sharding(self) -> Iterator[tuple[str, str]]:
        """Yield (pattern of module names, style) of the SHARDING tables, in this module's names."""

    @abstractmethod
    def tie(self) -> None:
        """Tie the weights of heads to the backbone again, after modules were replaced."""


class Learner(Trainable):
    """Weighted sum of the objectives' losses, each averaged over the global batch."""

    objectives: Any
    """The Objectives by name, in an nn.ModuleDict."""

    def __init__(self, backbone: nn.Module, weights: Mapping[str, float]):
        super().__init__()
        self.backbone = backbone
        self.weights = dict(weights)
        self.objectives = nn.ModuleDict({name: OBJECTIVES[name](backbone) for name in weights})

    @property
    def reads(self) -> tuple[str, ...]:
        """Batch columns that forward reads."""
        columns = list(self.backbone.reads)
        for objective in self.objectives.values():
            columns += objective.reads
        return tuple(dict.fromkeys(columns))

    def sharding(self) -> Iterator[tuple[str, str]]:
        yield from ((f"backbone.{pattern}", style) for pattern, style in self.backbone.SHARDING.items())
        for name, objective in self.objectives.items():
            yield from ((f"objectives.{name}.{pattern}", style) for pattern, style in objective.SHARDING.items())

    def tie(self) -> None:
        for objective in self.objectives.values():
            if hasattr(objective, "tie"):
                objective.tie(self.backbone)

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        encoded = self.backbone(batch)
        losses = {
            name: objective(encoded, batch) / batch.denominators[objective.label_column]
            for name, objective in self.objectives.items()
        }
        total = torch.stack([losses[name] * weight for name, weight in self.weights.items()]).sum()
        return total, {name: loss.detach() for name, loss in losses.items()}

    def flops(self, batch: Batch) -> int:
        """Of a forward and backward pass (``pretrain/flops.py``)."""
        heads = (objective.flops(batch.count(objective.label_column)) for objective in self.objectives.values())
        return self.backbone.flops(batch) + sum(heads)


def build(model: ModelConfig, objectives: Mapping[str, float], vocabulary: Vocabulary) -> Learner:
    """Build the learner on the meta device: shapes without memory; ``pretrain.initialization`` sets the values."""
    with on_meta_device():
        backbone = FAMILIES[model.family].module(model, vocabulary)
        return Learner(backbone, objectives)
