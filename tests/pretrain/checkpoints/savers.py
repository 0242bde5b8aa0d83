"""A saver of a small state, and a gate that holds its thread."""

import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from sesame.pretrain.checkpoints import save as saving
from sesame.pretrain.checkpoints.host_copy import HostCopy
from sesame.pretrain.checkpoints.load import SINGLE_PROCESS
from sesame.pretrain.checkpoints.record import CheckpointMetadata, LossScaleState
from sesame.pretrain.checkpoints.retention import Retention
from sesame.pretrain.checkpoints.save import CheckpointWriter
from sesame.pretrain.checkpoints.saver import Saver
from sesame.pretrain.checkpoints.stored import TensorSlice

SHAPES = {"a.weight": (4, 2), "b.bias": (3,)}


class Owner:
    """State of a run that is changed in place, as an optimizer does."""

    def __init__(self) -> None:
        self.tensors = {name: torch.zeros(shape) for name, shape in SHAPES.items()}

    def state(self, key: str | None) -> Any:
        for name, tensor in self.tensors.items():
            yield TensorSlice(name, 0, tensor)

    def step(self) -> None:
        for tensor in self.tensors.values():
            tensor.add_(1.0)

    def set_state(self, key: str | None, name: str, whole: Any) -> None: ...
    def set_steps(self, steps: int) -> None: ...
    def set_loss_scale(self, state: LossScaleState | None) -> None: ...


def metadata(step: int) -> CheckpointMetadata:
    return CheckpointMetadata(
        step=step, samples=step, seed=1, vocabulary_size=4, tokenizer_sha256="0" * 64, config={"model": {}}
    )


def saver_of(output: Path, tokenizer: Path, owner: Owner, keep: int = 2, resumed: Path | None = None) -> Saver:
    writer = CheckpointWriter(
        output, owner, ("exp_avg",), SHAPES, tokenizer, SINGLE_PROCESS, HostCopy(torch.device("cpu"))
    )
    return Saver(writer, Retention(output, keep, is_rank_zero=True, resumed=resumed), resumed)


def names(output: Path) -> list[str]:
    return sorted(path.name for path in (output / "checkpoints").iterdir())


class Gate:
    """Holds the thread that writes until the test opens it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.is_open, self.reached = threading.Event(), threading.Event()
        write = saving.save_file

        def held(tensors: Any, path: Path) -> None:
            self.reached.set()
            assert self.is_open.wait(30)
            write(tensors, path)

        monkeypatch.setattr(saving, "save_file", held)
