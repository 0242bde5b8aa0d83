"""Several processes that run the same jobs together, each with a part of the rows, of the model, or of both."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch.distributed import DistError  # pyright: ignore[reportPrivateImportUsage]

from sesame.configs.errors import ConfigError
from sesame.evaluation.config import EvaluationConfig
from sesame.evaluation.finetuning.share import ALONE, DataShare
from sesame.evaluation.jobs import Models
from sesame.evaluation.layout_config import LayoutConfig
from sesame.evaluation.shared_models import SharedModels

SIGNAL_SECONDS = 10.0
"""Time in which a launcher signals the others when one process has ended."""


class MeshShare:
    """A process of a :class:`~sesame.pretrain.parallel.mesh.Mesh`."""

    def __init__(self, mesh: Any, layout: LayoutConfig):
        self.rank, self.size, self.processes = mesh.data_rank, mesh.data, mesh.world
        self.is_rank_zero: bool = mesh.is_rank_zero
        self.mesh, self.layout = mesh, layout
        divided = f"tensor {mesh.tensor} x data {mesh.data}, ZeRO {layout.zero_stage}"
        self.description = f"{mesh.world} processes ({divided}), each with "

    def gather(self, value: Any) -> list[Any]:
        """Return the values of the first of the tensor-parallel processes of each part."""
        is_first = self.mesh.tensor_rank == 0
        found = self.mesh.gather_objects((is_first, value if is_first else None))
        return [each for is_part, each in found if is_part]


def models_of(checkpoint: Path, share: DataShare) -> Models:
    """Return the models of a checkpoint, in this process or divided over several."""
    is_shared = isinstance(share, MeshShare)
    return SharedModels(checkpoint, share, share.mesh, share.layout) if is_shared else Models(checkpoint)


def count() -> int:
    """Return how many processes a launcher has started for this command."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def open_processes(config: EvaluationConfig) -> Iterator[DataShare]:
    """Yield this process's share: all of it, unless a launcher has started several processes.

    Raises:
        ConfigError: what is configured cannot be done by so many processes.
    """
    layout = config.parallel
    if count() == 1:
        if layout.tensor > 1:
            raise ConfigError(
                f"parallel.tensor {layout.tensor} needs several processes; start a multiple of {layout.tensor} with "
                "--processes, or set it to 1"
            )
        yield ALONE
        return
    _check(config)
    from sesame.pretrain.parallel.mesh import Mesh

    mesh = Mesh(layout.of_engine(config.suite.threads))
    try:
        with open(os.devnull, "w") as nowhere, redirect_stdout(sys.stdout if mesh.is_rank_zero else nowhere):
            yield MeshShare(mesh, layout)
        mesh.watchdog.close()
        mesh.barrier()
    except RuntimeError as error:
        if type(error) is RuntimeError or isinstance(error, DistError):
            # A collective fails when another process has ended. What ended that one is then about to end this one.
            time.sleep(SIGNAL_SECONDS)
        raise
    finally:
        mesh.close()


def _check(config: EvaluationConfig) -> None:
    """Raise ConfigError for what several processes cannot do together."""
    if config.queue.workers:
        raise ConfigError(
            "queue.workers and several processes are both set; use workers for many jobs at a time, or --processes for "
            "large ones"
        )
    if config.suite.device == "cpu" and torch.cuda.is_available():
        raise ConfigError("suite.device is 'cpu', but several processes use the GPUs; set CUDA_VISIBLE_DEVICES=")
    if not config.parallel.splits_weights:
        return
    table = config.task_table()
    for name in config.suite.tasks:
        if table[name].train is None:
            raise ConfigError(
                f"{name} is scored without fine-tuning, which {config.parallel.setting} does not divide; leave it out "
                "of suite.tasks, or score it in one process"
            )
        if table[name].text is not None:
            raise ConfigError(
                f"{name}: finetune.form 'text' decodes with whole weights, which {config.parallel.setting} splits; use "
                "finetune.form head, or parallel.tensor 1 and zero_stage 2"
            )
