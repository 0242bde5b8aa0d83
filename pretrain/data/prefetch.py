"""Batches made by background processes before their step; they are the same as those of ``Batches.step``."""

import signal
import threading
import warnings
from collections.abc import Iterable, Iterator

from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from sesame.configs.errors import DatasetError, SesameError
from sesame.pretrain.batch import Batch
from sesame.pretrain.data.stages import AnyBatches

PREFETCH_FACTOR = 4
"""Steps that each background process has ready at most."""


class Prefetcher:
    """Calls ``Batches.step`` in background processes.

    Steps are read in order; reading another step restarts the processes.
    """

    def __init__(self, batches: AnyBatches, processes: int, steps: int):
        """
        Args:
            processes: number of background processes; 0 makes every batch in the calling process.
            steps: one past the last step that will be read.
        """
        self._batches, self._processes, self._steps = batches, processes, steps
        self._results: Iterator[list[Batch] | SesameError] | None = None
        self._next = -1

    def step(self, number: int) -> Iterable[Batch]:
        """Return this process's micro-batches of optimizer step ``number``.

        Raises:
            SesameError: raised in a background process, or one of them was killed.
        """
        if not self._processes:
            return self._batches.step(number)
        if self._results is None or number != self._next:
            self._start(number)
        assert self._results is not None
        try:
            result = next(self._results)
        except (RuntimeError, OSError, EOFError) as error:
            # Tensors are shared by a live process; how its death shows depends on the moment.
            if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
                raise
            raise DatasetError(
                f"{self._batches.dataset.path}: a loader process was killed, perhaps for lack of memory; "
                "lower data.loader_processes, or set it to 0"
            ) from None
        self._next += 1
        if isinstance(result, SesameError):
            self.close()
            raise result
        return result

    def close(self) -> None:
        """Stop the background processes."""
        results, self._results = self._results, None
        # torch has no public method for this; without it they run until the iterator is collected.
        if (shutdown := getattr(results, "_shutdown_workers", None)) is not None:
            shutdown()

    def _start(self, number: int) -> None:
        self.close()
        before = signal.getsignal(signal.SIGCHLD)
        with warnings.catch_warnings(category=UserWarning, action="ignore"):
            # torch warns about more processes than cores, which are the user's choice.
            loader = DataLoader(
                _StepDataset(self._batches),
                batch_size=None,
                sampler=range(number, self._steps),
                num_workers=self._processes,
                collate_fn=_unchanged,
                prefetch_factor=PREFETCH_FACTOR,
                # A forked process would share the locks of this one's threads, and a GPU cannot be used in it.
                multiprocessing_context="spawn",
                worker_init_fn=_ignore_interrupts,
            )
            self._results, self._next = iter(loader), number
        if threading.current_thread() is threading.main_thread():
            # torch's handler would raise at any point of the run; ``next`` raises the same error.
            signal.signal(signal.SIGCHLD, before)


class _StepDataset(TorchDataset):
    """Opens the dataset in a background process, because memory maps cannot be sent to it."""

    def __init__(self, batches: AnyBatches):
        self._open = batches.opener()
        self._opened: AnyBatches | None = None

    def __getitem__(self, number: int) -> list[Batch] | SesameError:
        try:
            if self._opened is None:
                self._opened = self._open()
            return list(self._opened.step(number))
        except SesameError as error:
            return error


def _unchanged(result: list[Batch] | SesameError) -> list[Batch] | SesameError:
    return result


def _ignore_interrupts(worker: int) -> None:
    """Ignore Ctrl-C, which a terminal sends to all processes; the run handles it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
