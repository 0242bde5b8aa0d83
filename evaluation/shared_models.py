"""Models that several processes load and train together, each with its part of the weights."""

import copy
from collections.abc import Callable, Iterable
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sesame.configs.errors import TaskError
from sesame.evaluation.finetuning.encoding import TaskData
from sesame.evaluation.finetuning.finetune import Outcome, train
from sesame.evaluation.finetuning.share import DataShare
from sesame.evaluation.finetuning.trainer import BACKBONE, Weights
from sesame.evaluation.jobs import Models
from sesame.evaluation.layout_config import LayoutConfig
from sesame.evaluation.results.result import Identity, Job, Start, identity_of
from sesame.evaluation.starting import POOLER, data_of, open_start, start_errors, write_start
from sesame.pretrain.checkpoints.load import OpenedBackbone, Process, open_backbone
from sesame.pretrain.checkpoints.stored import StoredTensors
from sesame.pretrain.initialization import Rows, random_rows

ROWS_AT_ONCE = 2**16
"""Rows of a weight that are read at once for the fingerprint."""


class SharedModels(Models):
    """The models of one checkpoint in one of several processes."""

    def __init__(self, checkpoint: Path, share: DataShare, mesh: Any, layout: LayoutConfig):
        """
        Args:
            mesh: of the processes (``pretrain/parallel/mesh.py``).
        """
        super().__init__(checkpoint)
        self.share, self.mesh, self.layout = share, mesh, layout

    @cached_property
    def loaded(self) -> OpenedBackbone:
        """The checkpoint's backbone, on the meta device."""
        return open_backbone(self.checkpoint, Process(self.mesh.rank, self.mesh.world, self.mesh.gather_objects))

    @cached_property
    def identity(self) -> Identity:
        """Computed by the first process, which reads some rows at a time; a collective."""
        backbone, tokenizer, model, _, weights = self.loaded

        def values(name: str, tensor: Tensor) -> Iterable[Tensor]:
            return _in_parts(weights, f"{BACKBONE}{name}") if tensor.is_meta else (tensor,)

        own = identity_of(backbone, tokenizer, model, values) if self.share.is_rank_zero else None
        return self.share.gather(own)[0]

    def finetune(self, job: Job, data: TaskData, device: torch.device, advance: Callable[[int, int], None]) -> Outcome:
        # Imported here, because it takes seconds.
        from sesame.evaluation.finetuning.engine_trainer import EngineTrainer

        backbone, weights = self._initial(job.initial_seed)
        if job.start is not None:
            weights = self._start(job.start, backbone, device, advance)
        settings = backbone, self.loaded.model.family, weights, data, job.settings, job.seed
        with closing(EngineTrainer(*settings, self.layout, self.mesh, self.share)) as trainer:
            outcome = train(trainer, data, job.seed, advance)
            if job.keep is not None:
                kept = trainer.whole_backbone()
                if self.share.is_rank_zero:
                    write_start(job.keep, job, kept)
        return outcome

    def _initial(self, seed: int | None) -> tuple[Any, Weights]:
        """A backbone on the meta device, and its weights: the checkpoint's, or with ``seed`` random ones."""
        opened, backbone = self.loaded, copy.deepcopy(self.loaded.backbone)
        if seed is None:
            return backbone, lambda name, shape: opened.weights.rows(name)
        backbone.pooler, backbone.decoder_projection = {}, None
        return backbone, lambda name, shape: random_rows(seed, name, shape, opened.model.init_std)

    def _start(self, start: Start, backbone: Any, device: torch.device, advance: Callable[[int, int], None]) -> Weights:
        """The weights after another task, which is fine-tuned if they are not there; ``backbone`` gets its pooler."""
        if self.share.gather(open_start(start) is None if self.share.is_rank_zero else None)[0]:
            with start_errors():
                self.finetune(start.job._replace(keep=start.file), data_of(start), device, advance)
        # The first process has written it.
        self.mesh.barrier()
        file = open_start(start)
        # All raise: one that went on to another job alone would wait for the others for ever.
        if any(self.mesh.gather_objects(file is None)):
            raise TaskError(f"{start.file}: cannot be read by every process; use an output folder that all of them see")
        assert file is not None
        poolers = [name for name in file.keys() if name.startswith(POOLER)]  # noqa: SIM118
        if poolers:
            backbone.pooler = {name.removeprefix(POOLER): file.get_tensor(name) for name in poolers}

        def weights(name: str, shape: torch.Size) -> Rows:
            stored = file.get_slice(name.removeprefix(BACKBONE))
            return lambda first, last: stored[first:last]

        return weights


def _in_parts(weights: StoredTensors, name: str) -> Iterable[Tensor]:
    rows, count = weights.rows(name), weights.shapes[name][0]
    return (rows(first, min(first + ROWS_AT_ONCE, count)) for first in range(0, count, ROWS_AT_ONCE))
