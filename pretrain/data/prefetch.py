"""Batches made ahead of their step by background processes; the same batches as ``Batches.step`` makes itself."""

import signal
import threading
import warnings
from collections.abc import Iterable, Iterator

from torch.utils.data import DataLoader
from torch.utils.data import Dataset as ByNumber

from configs.errors import DatasetError, SesameError
from data_pipeline.dataset.shards import open_dataset
from pretrain.batch import Batch
from pretrain.data.batches import Batches

AHEAD = 4
"""Steps that each background process has ready at most."""


class Prefetcher:
    """``step(number)`` of :class:`Batches`, from background processes where there are any.

    Steps are asked for one after the other; a jump starts the processes anew.
    """

    def __init__(self, batches: Batches, processes: int, steps: int):
        """
        Args:
            processes: how many; 0 makes every batch in this very process.
            steps: one past the last step that will be asked for.
        """
        self._batches, self._processes, self._steps = batches, processes, steps
        self._made: Iterator[list[Batch] | SesameError] | None = None
        self._next = -1

    def step(self, number: int) -> Iterable[Batch]:
        """This process's micro-batches of optimizer step ``number``.

        Raises:
            SesameError: what a background process met, as it would be raised here.
        """
        if not self._processes:
            return self._batches.step(number)
        if self._made is None or number != self._next:
            self._start(number)
        assert self._made is not None
        try:
            found = next(self._made)
        except (RuntimeError, OSError, EOFError) as error:
            # Tensors lie in memory that is handed over by a live process: a dead one shows in several ways.
            if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
                raise
            raise DatasetError(
                f"{self._batches.dataset.path}: a loader process was ended from outside, perhaps for lack of memory; "
                "lower data.loader_processes, or set it to 0"
            ) from None
        self._next += 1
        if isinstance(found, SesameError):
            self.close()
            raise found
        return found

    def close(self) -> None:
        """End the background processes."""
        made, self._made = self._made, None
        # What torch offers to end them before the interpreter happens to drop the iterator.
        if (shutdown := getattr(made, "_shutdown_workers", None)) is not None:
            shutdown()

    def _start(self, number: int) -> None:
        self.close()
        before = signal.getsignal(signal.SIGCHLD)
        with warnings.catch_warnings(category=UserWarning, action="ignore"):
            # More processes than cores is the user's choice.
            loader = DataLoader(
                _Steps(self._batches),
                batch_size=None,
                sampler=range(number, self._steps),
                num_workers=self._processes,
                collate_fn=_as_it_is,
                prefetch_factor=AHEAD,
                # A forked process would share the locks of this one's threads, and a GPU cannot be used in it.
                multiprocessing_context="spawn",
                worker_init_fn=_leave_interrupts_to_the_run,
            )
            self._made, self._next = iter(loader), number
        if threading.current_thread() is threading.main_thread():
            # torch's handler would raise in the middle of whatever the run is doing; ``next`` tells it in its turn.
            signal.signal(signal.SIGCHLD, before)


class _Steps(ByNumber):
    """What a background process is given: how to open the dataset, never its memory maps."""

    def __init__(self, batches: Batches):
        self._path = batches.dataset.path
        self._rest = (batches.config, batches.reads, batches.seed, batches.share, batches.start)
        self._opened: Batches | None = None

    def __getitem__(self, number: int) -> list[Batch] | SesameError:
        try:
            if self._opened is None:
                # The run has compared the checksums.
                self._opened = Batches(open_dataset(self._path, verify=False), *self._rest)
            return list(self._opened.step(number))
        except SesameError as error:
            return error


def _as_it_is(made: list[Batch] | SesameError) -> list[Batch] | SesameError:
    return made


def _leave_interrupts_to_the_run(worker: int) -> None:
    """Ctrl-C reaches all processes of a terminal; only the run itself answers it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
