"""Write checkpoints: only a complete one gets the name of a checkpoint, and an error of one process stops all."""

import contextlib
import math
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from sesame.configs import storage
from sesame.configs.errors import CheckpointError, SesameError, TrainingError
from sesame.pretrain.checkpoints import record as records
from sesame.pretrain.checkpoints import retention
from sesame.pretrain.checkpoints.load import Process
from sesame.pretrain.checkpoints.record import TOKENIZER_FILE, CheckpointMetadata
from sesame.pretrain.checkpoints.stored import Shapes, TensorSlice, split_into_files
from sesame.pretrain.initialization import Rows

WEIGHTS = "weights-00000-000.safetensors"
DIVERGED = (
    "training has diverged, so it stops and saves nothing; lower optimizer.learning_rate, lengthen "
    "schedule.warmup_steps or lower optimizer.gradient_clipping, then the same command resumes from the last checkpoint"
)


class StateOwner(Protocol):
    """What checkpoints need of the engine: rows of tensors by name; the key None means the master weights."""

    def state(self, key: str | None) -> Iterable[TensorSlice]: ...
    def set_state(self, key: str | None, name: str, whole: Rows) -> None: ...
    def set_steps(self, steps: int) -> None: ...


class CheckpointWriter:
    """Writes the checkpoints of one run; every process of the run has one."""

    def __init__(
        self,
        output: Path,
        owner: StateOwner,
        moments: tuple[str, ...],
        shapes: Shapes,
        tokenizer: Path,
        process: Process,
    ):
        """
        Args:
            output: folder of the run.
            moments: keys of the optimizer's moments.
            shapes: whole shape of every parameter.
            tokenizer: file that is copied into each checkpoint.
        """
        self.output, self.owner, self.moments, self.shapes = output, owner, moments, shapes
        self.tokenizer, self.process = tokenizer, process
        self.bytes_needed = sum(math.prod(shape) for shape in shapes.values()) * 4 * (1 + len(moments))

    def save(self, metadata: CheckpointMetadata) -> Path:
        """Write a checkpoint and return its folder; a collective.

        Raises:
            CheckpointError: it cannot be written; its files are removed, and older checkpoints are unchanged.
            TrainingError: a value is not finite.
        """
        final = retention.folder(self.output, metadata.step)
        partial = final.with_name(final.name + retention.PARTIAL)
        is_rank_zero = self.process.rank == 0
        self._raise_on_all(self._create(partial) if is_rank_zero else None, partial)
        files, error = self._write_tensors(partial)
        self._raise_on_all(self._write_error(partial, error) if error else None, partial)
        files = {name: digest for part in self.process.gather(files) for name, digest in part.items()}
        self._raise_on_all(self._publish(partial, final, metadata, files) if is_rank_zero else None, partial)
        return final

    def _create(self, partial: Path) -> SesameError | None:
        """Create the folder of an unfinished checkpoint; return what prevents it."""
        try:
            if not retention.remove_partial(partial):
                return CheckpointError(
                    f"{partial}: is where a checkpoint is to be written, but was not written by a run; move it away"
                )
            partial.mkdir(parents=True)
            shutil.copyfile(self.tokenizer, partial / TOKENIZER_FILE)
        except OSError as error:
            return self._write_error(partial, error)
        return None

    def _write_tensors(self, partial: Path) -> tuple[dict[str, str], Exception | None]:
        """Write this process's share of all tensors; return SHA-256 by file name, and the first error.

        After an error nothing more is written, but all of the state is still read: reading it is a collective.
        """
        digests: dict[str, str] = {}
        first_error: Exception | None = None
        for key in (None, *self.moments):
            for number, tensors in enumerate(split_into_files(self.owner.state(key), self.shapes)):
                file = partial / f"{key or 'weights'}-{self.process.rank:05d}-{number:03d}.safetensors"
                try:
                    if first_error is None:
                        _require_finite(tensors, key)
                        save_file(tensors, file)
                        digests[file.name] = _sync_and_digest(file)
                except (OSError, SafetensorError, TrainingError) as error:
                    first_error = error
        return digests, first_error

    def _publish(
        self, partial: Path, final: Path, metadata: CheckpointMetadata, files: dict[str, str]
    ) -> SesameError | None:
        """Write the record and rename the folder; return what prevents it."""
        try:
            files[TOKENIZER_FILE] = _sync_and_digest(partial / TOKENIZER_FILE)
            storage.sync_file(records.write(partial, metadata, self.shapes, files))
            retention.publish(partial, final)
        except OSError as error:
            return self._write_error(partial, error)
        return None

    def _raise_on_all(self, error: SesameError | None, partial: Path) -> None:
        """Raise the first error of any process in all of them, and remove the unfinished checkpoint; a collective."""
        errors = [each for each in self.process.gather(error) if each is not None]
        if not errors:
            return
        if self.process.rank == 0:
            with contextlib.suppress(OSError):
                retention.remove_partial(partial)
        self.process.gather(None)
        raise errors[0]

    def _write_error(self, partial: Path, error: Exception) -> SesameError:
        """Return the message for an error while writing."""
        if isinstance(error, SesameError):
            return error
        size = f"needs {self.bytes_needed / 1e6:,.2f} MB"
        with contextlib.suppress(OSError):
            free = shutil.disk_usage(partial.parent).free + sum(each.stat().st_size for each in partial.glob("*"))
            size += f" where {free / 1e6:,.2f} are free"
        return CheckpointError(
            f"{partial}: cannot write the checkpoint, which {size} ({error}); free some space or choose another output "
            "folder, then the same command resumes from the previous checkpoint"
        )


def write_weights(folder: Path, weights: dict[str, Tensor], tokenizer: bytes, metadata: CheckpointMetadata) -> None:
    """Write a checkpoint without optimizer state into the empty ``folder``."""
    (folder / TOKENIZER_FILE).write_bytes(tokenizer)
    save_file(weights, folder / WEIGHTS)
    shapes = {name: tuple(value.shape) for name, value in weights.items()}
    files = {name: _sync_and_digest(folder / name) for name in (TOKENIZER_FILE, WEIGHTS)}
    records.write(folder, metadata, shapes, files)


def _require_finite(tensors: Mapping[str, Tensor], key: str | None) -> None:
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise TrainingError(f"{key or 'weights'} of {name} are not finite; {DIVERGED}")


def _sync_and_digest(file: Path) -> str:
    storage.sync_file(file)
    return storage.digest(file)
