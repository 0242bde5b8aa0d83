"""Write checkpoints: only a complete one gets the name of a checkpoint, and an error of one process stops all.

A save copies the state to host memory. A thread of each process then writes, hashes and syncs the files while training
goes on; the threads agree through a process group of their own.
"""

import contextlib
import math
import shutil
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from sesame.configs import storage
from sesame.configs.errors import CheckpointError, SesameError, TrainingError
from sesame.pretrain.checkpoints import record as records
from sesame.pretrain.checkpoints import retention
from sesame.pretrain.checkpoints.futures import call, call_in_thread
from sesame.pretrain.checkpoints.host_copy import HostCopy
from sesame.pretrain.checkpoints.load import Process
from sesame.pretrain.checkpoints.record import TOKENIZER_FILE, CheckpointMetadata, LossScaleState
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
    def set_loss_scale(self, state: LossScaleState | None) -> None: ...


class TensorFile(NamedTuple):
    """Content of a file that one process writes."""

    name: str
    key: str | None
    """Of a moment; None for weights."""
    tensors: dict[str, Tensor]


class CheckpointWriter:
    """Writes the checkpoints of one run, one at a time; every process of the run has one."""

    def __init__(
        self,
        output: Path,
        owner: StateOwner,
        moments: tuple[str, ...],
        shapes: Shapes,
        tokenizer: Path,
        process: Process,
        copy: HostCopy | None = None,
        most_moments: int | None = None,
    ):
        """
        Args:
            output: folder of the run.
            moments: keys of the optimizer's moments.
            shapes: whole shape of every parameter.
            tokenizer: file that is copied into each checkpoint.
            process: its ``gather`` is called by the thread that writes.
            copy: write in a thread, from this copy of the state; None: write in this one.
            most_moments: that a parameter has; None: all of ``moments``.
        """
        self.output, self.owner, self.moments, self.shapes = output, owner, moments, shapes
        self.tokenizer, self.process = tokenizer, process
        values = sum(math.prod(shape) for shape in shapes.values()) * (1 + (most_moments or len(moments)))
        self.bytes_needed = 4 * values
        self._copy = copy
        if copy is not None:
            copy.reserve(-(-values // process.world))
        self._under_way: Future[Path] | None = None

    def save(self, metadata: CheckpointMetadata) -> Path:
        """Write a checkpoint and return its folder; a collective. See :meth:`finish`."""
        self.start(metadata)
        folder = self.finish()
        assert folder is not None
        return folder

    def start(self, metadata: CheckpointMetadata) -> Path:
        """Copy the state and begin to write it; a collective. Call :meth:`finish` before, and before the next one.

        Returns:
            The folder of the checkpoint, which exists when ``finish`` has returned it.
        """
        folder = retention.folder(self.output, metadata.step)
        files = self._files()
        if self._copy is None:
            self._under_way = call(lambda: self._write(folder, metadata, files))
        else:
            self._copy.start()
            copies = [file._replace(tensors=self._copy.of(file.tensors)) for file in files]
            self._under_way = call_in_thread(lambda: self._write(folder, metadata, copies))
        return folder

    @property
    def is_in_background(self) -> bool:
        """Whether :meth:`start` returns before the checkpoint is complete."""
        return self._copy is not None

    @property
    def is_writing(self) -> bool:
        """Whether :meth:`finish` would wait.

        Raises:
            Exception: this process failed by a defect, for which the others would wait.
        """
        if self._under_way is None or not self._under_way.done():
            return self._under_way is not None
        error = self._under_way.exception()
        if error is not None and not isinstance(error, SesameError):
            raise error
        return False

    def finish(self) -> Path | None:
        """Wait until the checkpoint that was begun is complete and return its folder; None if none was begun.

        Raises:
            CheckpointError: it cannot be written; its files are removed, and older checkpoints are unchanged.
            TrainingError: a value is not finite.
        """
        under_way, self._under_way = self._under_way, None
        return under_way.result() if under_way is not None else None

    def wait(self) -> None:
        """Wait until nothing is written any more, whether or not it has failed."""
        if self._under_way is not None:
            self._under_way.exception()

    def wait_for_copy(self) -> None:
        """Let the device wait for the copy of the state; call it before the state changes."""
        if self._copy is not None:
            self._copy.hold_device()

    def _files(self) -> Iterator[TensorFile]:
        """Yield what this process writes; a collective."""
        for key in (None, *self.moments):
            for number, tensors in enumerate(split_into_files(self.owner.state(key), self.shapes)):
                yield TensorFile(f"{key or 'weights'}-{self.process.rank:05d}-{number:03d}.safetensors", key, tensors)

    def _write(self, final: Path, metadata: CheckpointMetadata, files: Iterable[TensorFile]) -> Path:
        """Write a checkpoint and return its folder; a collective."""
        partial = final.with_name(final.name + retention.PARTIAL)
        is_rank_zero = self.process.rank == 0
        self._raise_on_all(self._create(partial) if is_rank_zero else None, partial)
        digests, error = self._write_tensors(partial, files)
        self._raise_on_all(self._write_error(partial, error) if error else None, partial)
        all_digests = {name: digest for part in self.process.gather(digests) for name, digest in part.items()}
        self._raise_on_all(self._publish(partial, final, metadata, all_digests) if is_rank_zero else None, partial)
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

    def _write_tensors(self, partial: Path, files: Iterable[TensorFile]) -> tuple[dict[str, str], Exception | None]:
        """Write this process's files; return SHA-256 by file name, and the first error.

        After an error nothing more is written, but all of the state is still read: reading it is a collective.
        """
        digests: dict[str, str] = {}
        first_error: Exception | None = None
        if self._copy is not None:
            self._copy.wait()
        for name, key, tensors in files:
            try:
                if first_error is None:
                    in_memory = {each: rows.cpu().contiguous() for each, rows in tensors.items()}
                    _require_finite(in_memory, key)
                    save_file(in_memory, partial / name)
                    digests[name] = _sync_and_digest(partial / name)
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
        # Several times as fast as torch.isfinite of every value.
        if not torch.stack(torch.aminmax(tensor)).isfinite().all():
            raise TrainingError(f"{key or 'weights'} of {name} are not finite; {DIVERGED}")


def _sync_and_digest(file: Path) -> str:
    storage.sync_file(file)
    return storage.digest(file)
