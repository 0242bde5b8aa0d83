"""Write checkpoints: nothing unfinished has the name of a checkpoint, and a fault in one process is told to all."""

import contextlib
import hashlib
import math
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from configs.errors import CheckpointError, SesameError, TrainingError
from pretrain.checkpoints import record as records
from pretrain.checkpoints import retention
from pretrain.checkpoints.stored import Shapes, TensorSlice, shares
from pretrain.initialization import Rows

WEIGHTS = "weights-00000-000.safetensors"
DIVERGED = (
    "training has diverged, so it stops and saves nothing; lower optimizer.learning_rate, lengthen "
    "schedule.warmup_steps or lower optimizer.gradient_clipping, then the same command goes on from the last checkpoint"
)
"""What a person is told to do."""


class StateOwner(Protocol):
    """What a checkpoint asks of the engine: rows of tensors by name; the key None is the master weights."""

    def state(self, key: str | None) -> Iterable[TensorSlice]: ...
    def set_state(self, key: str | None, name: str, whole: Rows) -> None: ...
    def set_steps(self, steps: int) -> None: ...


class Process(NamedTuple):
    """Which of the writing processes this is, and how they meet."""

    rank: int
    world: int
    gather: Callable[[Any], list[Any]]
    """A collective: every process's value, in order of rank."""


ALONE = Process(0, 1, lambda value: [value])


def save(
    output: Path, owner: StateOwner, moments: tuple[str, ...], process: Process, tokenizer: Path, facts: dict[str, Any]
) -> Path:
    """Write a checkpoint of ``owner``; ``facts`` are the fields of :class:`Record` that only the run knows.

    Raises:
        CheckpointError: it cannot be written; nothing of it is left, and those of before are as they were.
        TrainingError: a value is not finite.
    """
    final = retention.folder(output, facts["step"])
    partial = final.with_name(final.name + retention.PARTIAL)
    needed = sum(math.prod(shape) for shape in facts["shapes"].values()) * 4 * (1 + len(moments))
    _raise_together(process, _begin(partial, tokenizer, needed) if process.rank == 0 else None, partial)
    files, fault = _write_share(partial, owner, moments, process, facts["shapes"])
    _raise_together(process, _unwritable(partial, fault, needed) if fault else None, partial)
    files = {name: digest for part in process.gather(files) for name, digest in part.items()}
    _raise_together(process, _finish(partial, final, files, facts, needed) if process.rank == 0 else None, partial)
    return final


def _begin(partial: Path, tokenizer: Path, needed: int) -> SesameError | None:
    """Make the folder of an unfinished checkpoint; what is in the way."""
    try:
        if not retention.remove_partial(partial):
            return CheckpointError(
                f"{partial}: is in the way of a checkpoint and was not written by a run; move it away"
            )
        partial.mkdir(parents=True)
        shutil.copyfile(tokenizer, partial / "tokenizer.model")
    except OSError as error:
        return _unwritable(partial, error, needed)
    return None


def _write_share(
    partial: Path, owner: StateOwner, moments: tuple[str, ...], process: Process, shapes: Shapes
) -> tuple[dict[str, str], Exception | None]:
    """Write what this process has of all tensors -> SHA-256 by file, and the first fault.

    After a fault nothing more is written, but all of the state is still read: it is a collective.
    """
    written: dict[str, str] = {}
    fault: Exception | None = None
    for key in (None, *moments):
        for number, tensors in enumerate(shares(owner.state(key), shapes)):
            file = partial / f"{key or 'weights'}-{process.rank:05d}-{number:03d}.safetensors"
            try:
                if fault is None:
                    _require_finite(tensors, key)
                    save_file(tensors, file)
                    written[file.name] = _durable_digest(file)
            except (OSError, SafetensorError, TrainingError) as error:
                fault = error
    return written, fault


def _finish(
    partial: Path, final: Path, files: dict[str, str], facts: dict[str, Any], needed: int
) -> SesameError | None:
    """Write the record and give the folder its name; what is in the way."""
    try:
        files["tokenizer.model"] = _durable_digest(partial / "tokenizer.model")
        _durable_digest(records.write(partial, files=files, **facts))
        retention.publish(partial, final)
        _sync_folder(final.parent)
    except OSError as error:
        return _unwritable(partial, error, needed)
    return None


def _raise_together(process: Process, fault: SesameError | None, partial: Path) -> None:
    """Raise in every process what one of them has found, and leave nothing unfinished behind; a collective."""
    faults = [each for each in process.gather(fault) if each is not None]
    if not faults:
        return
    if process.rank == 0:
        with contextlib.suppress(OSError):
            retention.remove_partial(partial)
    process.gather(None)
    raise faults[0]


def _unwritable(partial: Path, fault: Exception, needed: int) -> SesameError:
    """What a person is told of a fault in writing a checkpoint of ``needed`` bytes."""
    if isinstance(fault, SesameError):
        return fault
    size = f"needs {needed / 1e6:,.2f} MB"
    with contextlib.suppress(OSError):
        free = shutil.disk_usage(partial.parent).free + sum(each.stat().st_size for each in partial.glob("*"))
        size += f" where {free / 1e6:,.2f} are free"
    return CheckpointError(
        f"{partial}: cannot write the checkpoint, which {size} ({fault}); make room or give another output folder, "
        "then the same command goes on from the checkpoint before"
    )


def _require_finite(tensors: Mapping[str, Tensor], key: str | None) -> None:
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise TrainingError(f"{key or 'weights'} of {name} are not finite any more; {DIVERGED}")


def write_weights(folder: Path, weights: dict[str, Tensor], tokenizer: bytes, facts: dict[str, Any]) -> None:
    """Write a checkpoint without moments of an optimizer into a new ``folder``; ``facts`` as in :func:`save`."""
    (folder / "tokenizer.model").write_bytes(tokenizer)
    save_file(weights, folder / WEIGHTS)
    shapes = {name: tuple(value.shape) for name, value in weights.items()}
    files = {name: _durable_digest(folder / name) for name in ("tokenizer.model", WEIGHTS)}
    records.write(folder, shapes=shapes, files=files, **facts)


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _durable_digest(path: Path) -> str:
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return digest(path)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
