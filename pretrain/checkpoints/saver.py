"""The checkpoints of a running run: one is written at a time, and older ones are removed when it has proved usable."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sesame.configs.errors import SesameError
from sesame.pretrain.checkpoints.load import Checkpoint, Process, latest, open_checkpoint
from sesame.pretrain.checkpoints.record import CheckpointMetadata
from sesame.pretrain.checkpoints.retention import Retention
from sesame.pretrain.checkpoints.save import CheckpointWriter


class Saver:
    """Begins, finishes and judges the checkpoints of a run; every process of the run has one."""

    def __init__(self, writer: CheckpointWriter, retention: Retention, last: Path | None):
        """
        Args:
            last: checkpoint that the run resumes from.
        """
        self.last = last
        """Newest complete checkpoint."""
        self.seconds = 0.0
        """For which training has waited for checkpoints."""
        self._writer, self._retention = writer, retention
        self.renamed = ""
        """What ``reopen`` has done to the newest checkpoint, for a message; empty once training has gone on."""
        self._reopened: Path | None = None

    @property
    def is_writing(self) -> bool:
        """Whether a checkpoint of this process is not complete yet."""
        return self._writer.is_writing

    def start(self, metadata: CheckpointMetadata) -> None:
        """Begin to write a checkpoint, after the one before is complete; a collective.

        Raises:
            SesameError: see :meth:`finish`.
        """
        self.finish()
        with self._timed():
            self._retention.started(self._writer.start(metadata))
        if not self._writer.is_in_background:
            self.finish()

    def finish(self) -> None:
        """Wait until the checkpoint under way, if there is one, is complete; all processes must call it.

        Raises:
            CheckpointError: it cannot be written; older checkpoints are unchanged.
            TrainingError: a value is not finite.
        """
        with self._timed():
            if folder := self._writer.finish():
                self.last = folder
                self._retention.completed(folder)

    def before_update(self) -> None:
        """Let the device wait until the state is copied."""
        self._writer.wait_for_copy()

    def confirm(self) -> None:
        """Note that the newest checkpoint's weights gave a finite result, so that older ones can be removed."""
        with self._timed():
            self.renamed = ""
            self._retention.confirm()

    def reopen(self, process: Process) -> Checkpoint | None:
        """Open the newest checkpoint again, for a run that goes back to it; None if there is none; a collective.

        If the run has gone back to it before, and its weights have not given a finite result since, it is renamed and
        the one before it opened.

        Raises:
            CheckpointError: it is damaged.
        """
        self.finish()
        self.renamed = self._retention.diverged() if self.last == self._reopened else ""
        if self.renamed:
            self.last = latest(self._retention.output, process)
        self._reopened = self.last
        return open_checkpoint(self.last, process) if self.last is not None else None

    def diverged(self) -> str:
        """Rename the newest checkpoint if training has diverged since; return a message."""
        with suppress(SesameError):
            self.finish()
        return self._retention.diverged() or self.renamed

    def close(self) -> None:
        """Wait for the checkpoint under way, but raise none of its errors: the run has ended already."""
        self._writer.wait()

    @contextmanager
    def _timed(self) -> Iterator[None]:
        before = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - before
