"""Trains the model of a task in several processes together, by pretraining's engine.

Import it only in a process that is one of several: it loads DeepSpeed.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn

from sesame.evaluation.finetune_config import FinetuneConfig
from sesame.evaluation.finetuning.decoder import kind_of
from sesame.evaluation.finetuning.encoding import TaskData
from sesame.evaluation.finetuning.heads import HEAD_LAYER
from sesame.evaluation.finetuning.optimization import HEAD, adamw_config, groups_of
from sesame.evaluation.finetuning.share import DataShare
from sesame.evaluation.finetuning.task_model import TaskLearner, require_blocks, training_batch
from sesame.evaluation.finetuning.trainer import BACKBONE, Trainer, Weights
from sesame.evaluation.layout_config import LayoutConfig
from sesame.pretrain.dropout_seed import seed_dropout
from sesame.pretrain.initialization import Rows
from sesame.pretrain.parallel.engine import Engine
from sesame.pretrain.parallel.mesh import Mesh
from sesame.pretrain.parallel.parallelize import parallelize


class EngineTrainer(Trainer):
    """One process of several; tensor-parallel ones compute the same rows."""

    def __init__(
        self,
        backbone: nn.Module,
        family: str,
        weights: Weights,
        data: TaskData,
        config: FinetuneConfig,
        seed: int,
        layout: LayoutConfig,
        mesh: Mesh,
        share: DataShare,
    ):
        """
        Args:
            backbone: on the meta device; modified in place.
            weights: called for the rows only that this process has a part of.
            seed: determines the head's initial values, the same as in one process, and dropout.
        """
        torch.manual_seed(seed)
        kind = kind_of(data, config)
        model = TaskLearner(backbone, data.task, config, kind)
        if config.recompute:
            require_blocks(model)
        # The head is small and made as in one process; its values are set again when the engine has its copy.
        head = {name: each.detach().clone() for name, each in model.named_parameters() if not each.is_meta}
        parallel = layout.of_engine(torch.get_num_threads(), recompute=config.recompute)
        shapes = parallelize(model, family, parallel, mesh)
        super().__init__(model, data, config, mesh.device, kind)
        batch = math.ceil(config.batch_size / share.size), 1
        self.engine = Engine(model, adamw_config(config), parallel, mesh, batch, groups_of(model, config))
        for name, shape in shapes.items():
            self.engine.set_state(None, name, _rows(head[name]) if name in head else weights(name, shape))
        self.share, self.seed, self.mesh = share, seed, mesh

    def step(self, rows: np.ndarray, step: int, factor: float) -> tuple[Tensor, bool]:
        own = rows[self.share.rank :: self.share.size]
        # A batch may have fewer rows than there are parts, and a step is a collective.
        part = self.kind.terms(self.train, own) / self.kind.terms(self.train, rows) if len(own) else 0.0
        batch = training_batch(self.train, own if len(own) else rows[:1], part * self.share.size)
        seed_dropout(self.seed, step, self.share.rank)
        losses = self.engine.accumulate(self.sized(batch).to(self.device))
        self.engine.step(self.config.learning_rate * factor, lambda norm: math.isfinite(float(norm)))
        self.mesh.watchdog.step = step + 1
        return losses["loss"] / self.share.size, self.engine.gate.was_applied

    def weights(self) -> dict[str, Tensor]:
        return {name: self.engine.zero_state.working_copy(name).clone() for name in self.engine.parameters}

    def restore(self, weights: dict[str, Tensor]) -> None:
        self.engine.zero_state.set_working_copies(weights)

    def whole_backbone(self) -> dict[str, Tensor]:
        """Return the whole weights of the backbone by their names in it, and of a pooler; a collective.

        Returns:
            On the host of process 0 only; empty in the others, which have one weight at a time.
        """
        names = {name: name.removeprefix(BACKBONE) for name in self.engine.parameters if name.startswith(BACKBONE)}
        names |= {f"{HEAD}{HEAD_LAYER}.{ending}": f"pooler.{ending}" for ending in self.model.head.pooler}
        kept = {}
        for name, kept_name in names.items():
            whole = self.engine.zero_state.whole(name)
            if self.share.is_rank_zero:
                kept[kept_name] = whole.detach().cpu().clone()
        return kept

    def close(self) -> None:
        """Release the model."""
        self.engine.close()


def _rows(whole: Tensor) -> Rows:
    return lambda first, last: whole[first:last]
