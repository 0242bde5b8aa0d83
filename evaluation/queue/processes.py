"""Several processes that run the same jobs together, each with a part of the rows (data parallelism)."""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import torch
from torch import nn

from sesame.configs.errors import ConfigError
from sesame.evaluation.config import EvaluationConfig
from sesame.evaluation.finetuning.share import ALONE, DataShare


class MeshShare:
    """A process of a :class:`~sesame.pretrain.parallel.mesh.Mesh`."""

    def __init__(self, mesh: Any):
        self.rank, self.size, self._mesh = mesh.rank, mesh.world, mesh

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sum in one collective for each dtype; a parameter without a gradient in this process counts as zeros."""
        groups: dict[torch.dtype, list[nn.Parameter]] = {}
        for parameter in parameters:
            if parameter.requires_grad:
                groups.setdefault(parameter.dtype, []).append(parameter)
        for group in groups.values():
            parts = [torch.zeros_like(each) if each.grad is None else each.grad for each in group]
            flat = self._mesh.sum_over_data(torch.cat([part.flatten() for part in parts]))
            for each, values in zip(group, flat.split([part.numel() for part in parts]), strict=True):
                each.grad = values.view_as(each)

    def gather(self, value: Any) -> list[Any]:
        return self._mesh.gather_objects(value)


@contextmanager
def open_processes(config: EvaluationConfig) -> Iterator[DataShare]:
    """Yield this process's share: all of it, unless a launcher has started several processes.

    Raises:
        ConfigError: there are workers as well.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    if config.queue.workers:
        raise ConfigError(
            "queue.workers and several processes are both set; use workers for many jobs at a time, or --processes for "
            "large ones"
        )
    if config.suite.device == "cpu" and torch.cuda.is_available():
        raise ConfigError("suite.device is 'cpu', but several processes use the GPUs; set CUDA_VISIBLE_DEVICES=")
    from sesame.pretrain.parallel.config import ParallelConfig
    from sesame.pretrain.parallel.mesh import Mesh

    mesh = Mesh(ParallelConfig(threads=config.suite.threads))
    try:
        with open(os.devnull, "w") as nowhere, redirect_stdout(sys.stdout if mesh.is_rank_zero else nowhere):
            yield MeshShare(mesh)
        mesh.barrier()
    finally:
        mesh.close()
