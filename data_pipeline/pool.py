"""Workers that keep what they have loaded from job to job and report how far a job is: Ray actors."""

import queue
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from sesame.configs.errors import ConfigError, SesameError
from sesame.configs.stopping import end_with_parent
from sesame.data_pipeline.cluster import OutOfMemoryError, RayError, RayTaskError, ray
from sesame.data_pipeline.outcome import JobError, LostWorkerError, Observer, Outcome, Work, describe, is_passing

MOST_FAILED_STARTS = 3
"""Of workers one after the other, after which there will be none."""
STEP, RESULT, ERROR = "step", "result", "error"


class Pool:
    """Workers on the machines of a cluster that is connected to; a worker that dies is replaced."""

    def __init__(
        self, make: Callable[[], Work], count: int, *, cpus: int, gpus: float = 0.0, report_seconds: float = 0.5
    ):
        """
        Args:
            make: called once in each worker; returns what runs a job there.
            count: of workers.
            cpus: that a worker needs.
            gpus: that a worker needs; a fraction if several share one.
            report_seconds: shortest time between two reports of a worker about its steps.
        """
        self.count, self._report_seconds = count, report_seconds
        self._make = make
        self._actor: Any = ray.remote(num_cpus=cpus, num_gpus=gpus, max_restarts=0)(_Worker)
        self._slots = [_Slot(number) for number in range(count)]
        self._failed_starts = 0

    def run(self, pending: deque[Any], observer: Observer) -> Iterator[Outcome]:
        """Run jobs; see :class:`~sesame.data_pipeline.outcome.Runner`.

        Raises:
            SesameError: as ``make`` raised it.
            ConfigError: no worker can be started.
        """
        while pending or any(slot.stream for slot in self._slots):
            self._assign(pending, observer)
            waited = {slot.waits_for: slot for slot in self._slots if slot.waits_for is not None}
            for ready in ray.wait(list(waited), num_returns=1)[0]:
                slot = waited[ready]
                if slot.stream is None:
                    self._started(slot)
                elif (outcome := self._read(slot, observer)) is not None:
                    yield outcome

    def _assign(self, pending: deque[Any], observer: Observer) -> None:
        """Give a job to each idle worker, and start workers for the jobs that are left."""
        starting = sum(slot.start is not None for slot in self._slots)
        for slot in self._slots:
            if slot.is_idle and pending:
                slot.job = pending.popleft()
                observer.begin(slot.number, slot.job)
                slot.stream = slot.actor.run.options(num_returns="streaming").remote(slot.job)
        for slot in self._slots:
            if slot.actor is None and starting < len(pending):
                slot.actor = self._actor.remote()
                slot.start = slot.actor.start.remote(self._make, self._report_seconds)
                starting += 1

    def _started(self, slot: "_Slot") -> None:
        try:
            ray.get(slot.start)
            slot.start, self._failed_starts = None, 0
        except RayTaskError as error:
            if isinstance(error.cause, SesameError):
                raise error.cause from None
            raise
        except RayError as error:
            slot.clear()
            self._failed_starts += 1
            if self._failed_starts >= MOST_FAILED_STARTS:
                reason = str(error).strip().splitlines()[0]
                raise ConfigError(
                    f"{self._failed_starts} workers ended while they were starting ({reason}); there may be too little "
                    "memory for so many of them"
                ) from None

    def _read(self, slot: "_Slot", observer: Observer) -> Outcome | None:
        """Read the next report of a busy worker; return the outcome of its job if it has ended."""
        job = slot.job
        try:
            kind, *values = ray.get(next(slot.stream))
        except (RayError, StopIteration) as error:
            slot.clear()
            reason = "the machine has too little memory" if isinstance(error, OutOfMemoryError) else "it was killed"
            return Outcome(job, slot.number, error=LostWorkerError(f"the worker process has ended: {reason}"))
        if kind == STEP:
            observer.advance(slot.number, *values)
            return None
        slot.stream = slot.job = None
        if kind == RESULT:
            return Outcome(job, slot.number, result=values[0])
        return Outcome(job, slot.number, error=values[0], trace=values[1])


class _Slot:
    """One worker, and what is waited for from it."""

    def __init__(self, number: int):
        self.number = number
        self.clear()

    def clear(self) -> None:
        """Forget a worker that has died."""
        self.actor: Any = None
        self.start: Any = None
        self.stream: Any = None
        self.job: Any = None

    @property
    def is_idle(self) -> bool:
        return self.actor is not None and self.start is None and self.stream is None

    @property
    def waits_for(self) -> Any:
        return self.stream if self.stream is not None else self.start


class _Worker:
    """The actor: one process, which runs one job at a time."""

    def __init__(self) -> None:
        # Before anything large is imported. Ray ends the workers of a driver that dies as well, but later.
        end_with_parent()

    def start(self, make: Callable[[], Work], report_seconds: float) -> None:
        self._work, self._report_seconds = make(), report_seconds

    def run(self, job: Any) -> Iterator[tuple[Any, ...]]:
        """Yield (STEP, step, steps) while the job runs, and then (RESULT, result) or (ERROR, exception, traceback)."""
        reports: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        threading.Thread(target=self._run, args=(job, reports.put), daemon=True).start()
        kind = STEP
        while kind == STEP:
            report = reports.get()
            kind = report[0]
            yield report

    def _run(self, job: Any, report: Callable[[tuple[Any, ...]], None]) -> None:
        reported = time.monotonic()

        def advance(step: int, steps: int) -> None:
            nonlocal reported
            if time.monotonic() - reported >= self._report_seconds:
                reported = time.monotonic()
                report((STEP, step, steps))

        try:
            report((RESULT, self._work(job, advance)))
        except Exception as error:
            is_known = isinstance(error, SesameError)
            known = error if is_known else JobError(describe(error), is_passing=is_passing(error))
            report((ERROR, known, "".join(traceback.format_exception(error))))
