"""Where jobs run: in this process, or in Ray workers of this machine or of a cluster."""

import math
import os
import traceback
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Self

from sesame.configs.errors import ConfigError, SesameError
from sesame.data_pipeline.outcome import Observer, Outcome, Runner
from sesame.evaluation.config import EvaluationConfig
from sesame.evaluation.finetuning.share import ALONE, DataShare
from sesame.evaluation.queue.device import Device, find_device
from sesame.evaluation.queue.worker import DescribeDevice, JobRunner


class InProcess:
    """Runs jobs in this process, one after the other."""

    count = 1

    def __init__(self, config: EvaluationConfig, share: DataShare = ALONE):
        self.work, self._share = JobRunner(config.suite.device, config.suite.threads), share

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """There is nothing to end."""

    def device(self) -> Device:
        device: Device = self.work(DescribeDevice(), lambda step, steps: None)  # pyright: ignore[reportAssignmentType]
        return device._replace(name=f"{self._share.description}{device.name}")

    def run(self, pending: deque[Any], observer: Observer) -> Iterator[Outcome]:
        while pending:
            job = pending.popleft()
            observer.begin(0, job)
            try:
                outcome = Outcome(job, 0, result=self.work(job, partial(observer.advance, 0)))
            except Exception as error:
                if self._share.processes > 1 and not isinstance(error, SesameError):
                    # The other processes wait for this one.
                    raise
                outcome = Outcome(job, 0, error=error, trace="".join(traceback.format_exception(error)))
            yield outcome


class RayWorkers:
    """Ray workers, which are started when there is something to run."""

    def __init__(self, config: EvaluationConfig, folder: Path):
        """
        Args:
            folder: that every machine of a cluster must see.
        """
        self.count = config.queue.workers
        self._queue, self._suite, self._folder = config.queue, config.suite, folder.absolute()
        self._threads = config.suite.threads or max(1, len(os.sched_getaffinity(0)) // self.count)
        self._stack = ExitStack()
        self._pool: Runner | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def device(self) -> Device:
        """The device of a worker."""
        if self._queue.address:
            [outcome] = self.run(deque([DescribeDevice()]), Silent())
            if outcome.error is not None:
                raise outcome.error
            device: Device = outcome.result
        else:
            device = Device.of(find_device(self._suite.device), self._threads)
        return device._replace(name=f"{self.count} workers, each with {device.name}")

    def run(self, pending: deque[Any], observer: Observer) -> Iterator[Outcome]:
        """Run jobs.

        Raises:
            ConfigError: there is no such cluster, it is too small, or no worker can be started.
        """
        if self._pool is None:
            self._pool = self._start()
        yield from self._pool.run(pending, observer)

    def _start(self) -> Runner:
        from sesame.data_pipeline.cluster import Cluster
        from sesame.data_pipeline.pool import Pool

        queue, suite = self._queue, self._suite
        cluster = Cluster(queue.address, self._folder, cpus=self._threads * self.count, setting="queue")
        machines = self._stack.enter_context(cluster).machines
        if queue.address and not suite.threads:
            self._threads = _threads([each["CPU"] for each in machines], self.count)
        has_gpus = suite.device != "cpu" and any(each.get("GPU") for each in machines)
        gpus = queue.gpus_per_worker if has_gpus or suite.device == "cuda" else 0.0
        _check_size(machines, self.count, self._threads, gpus)
        return Pool(partial(JobRunner, suite.device, self._threads), self.count, cpus=self._threads, gpus=gpus)


class Silent:
    """An observer that shows nothing."""

    def begin(self, worker: int, job: Any) -> None: ...

    def advance(self, worker: int, step: int, steps: int) -> None: ...


def open_runner(config: EvaluationConfig, folder: Path, share: DataShare = ALONE) -> InProcess | RayWorkers:
    """Return what runs the jobs of an evaluation, a context manager; ``folder`` is seen by all machines."""
    return RayWorkers(config, folder) if config.queue.workers else InProcess(config, share)


def _threads(cpus: list[float], workers: int) -> int:
    """An equal share of a machine's CPUs, where workers are divided equally over machines."""
    return max(1, int(min(cpus, default=1.0) // math.ceil(workers / max(1, len(cpus)))))


def _check_size(machines: list[dict[str, float]], workers: int, threads: int, gpus: float) -> None:
    """Raise ConfigError if so many workers do not fit on the machines: Ray would wait for others."""
    needs = {name: need for name, need in (("CPU", float(threads)), ("GPU", gpus)) if need}
    fitting = sum(min(int(each.get(name, 0.0) / need) for name, need in needs.items()) for each in machines)
    if fitting < workers:
        wanted = " and ".join(f"{need:g} {name}s" for name, need in needs.items())
        has = " and ".join(f"{sum(each.get(name, 0.0) for each in machines):g} {name}s" for name in needs)
        raise ConfigError(
            f"queue.workers {workers}: each needs {wanted}, so {fitting} fit on {len(machines)} machines with {has}; "
            "lower queue.workers, suite.threads or queue.gpus_per_worker"
        )
