"""What happens to a job that a worker runs; without Ray, so that jobs can also run in the process that has them."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

from sesame.configs.errors import message_of, one_line

Work = Callable[[Any, Callable[[int, int], None]], Any]
"""(job, progress: called with finished steps and all steps) -> result."""


class Outcome(NamedTuple):
    """The end of one try of a job."""

    job: Any
    worker: int
    result: Any = None
    error: Exception | None = None
    """Why there is no result."""
    trace: str = ""
    """Traceback of ``error`` where it was raised."""


class LostWorkerError(Exception):
    """The process of a worker has ended during a job."""


class JobError(Exception):
    """An error of a job in another process, as text: exceptions of libraries may not pass from one to the other."""

    def __init__(self, text: str, *, is_passing: bool = False):
        """
        Args:
            is_passing: :func:`is_passing` of the error.
        """
        super().__init__(text)
        self.is_passing = is_passing


def is_passing(error: Exception) -> bool:
    """Return whether the job may succeed next time: a worker, memory or a disk has failed, and not the program."""
    if isinstance(error, JobError):
        return error.is_passing
    # torch, which is not imported here, has a class of its own for a GPU, and for a CPU a sentence only.
    has_no_memory = type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)
    return has_no_memory or isinstance(error, LostWorkerError | MemoryError | OSError)


def describe(error: Exception) -> str:
    """Return the sentence for the user about an error, or the name and the first line of one that has none."""
    if isinstance(error, LostWorkerError | JobError):
        return str(error)
    lines = str(error).splitlines() or [""]
    return message_of(error) or one_line(f"{type(error).__name__}: {lines[0]}")


class Observer(Protocol):
    """Who is told about jobs while they run."""

    def begin(self, worker: int, job: Any) -> None:
        """A worker starts a job."""

    def advance(self, worker: int, step: int, steps: int) -> None:
        """A worker has finished ``step`` of ``steps`` of its job."""


class Runner(Protocol):
    """Runs jobs: in this process, or in workers."""

    count: int
    """Jobs that run at the same time."""

    def run(self, pending: deque[Any], observer: Observer) -> Iterator[Outcome]:
        """Run the jobs of ``pending`` from the left, until there are none and all have ended.

        Whoever takes the outcomes may add jobs, such as one that failed.
        """
        ...
