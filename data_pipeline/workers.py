"""Where the parts are worked on: a Ray cluster of its own on this machine.

No dashboard, token authentication on, nothing sent home; every result comes back in the order of its job.
"""

import logging
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

from pydantic import Field
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from configs import Section
from configs.errors import SesameError

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_worker_niceness", "0")  # Ray would make way for everything else on the machine
if "ray" not in sys.modules:
    # Ray reads these once, when it is imported; set later, its servers would ask for a token that it does not send.
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))

import ray
from ray.exceptions import RayTaskError

OBJECT_STORE_BYTES = 256 << 20


class WorkersConfig(Section):
    """Who does the work; without influence on the result."""

    count: int = Field(default=0, ge=0)
    """Ray worker processes; 0 for one on each core."""


class Workers:
    """``with Workers(config, console) as workers``: the cluster lives as long as the block."""

    def __init__(self, config: WorkersConfig, console: Console):
        self.count = config.count or len(os.sched_getaffinity(0))
        self.console = console

    def __enter__(self) -> Self:
        ray.init(
            address="local",
            num_cpus=self.count,
            # Parts travel through files, so that little shared memory is enough (in containers it is scarce).
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=False,
            configure_logging=True,
            logging_level=logging.ERROR,
            log_to_driver=False,
        )
        return self

    def __exit__(self, *_: object) -> None:
        ray.shutdown()

    def map(self, title: str, function: Callable[..., Any], jobs: Sequence[tuple[Any, ...]]) -> list[Any]:
        """``function`` of each job's values, in the order of the jobs; at most a few jobs wait at a time.

        Raises:
            SesameError: as the function raised it, without Ray's wrapping.
        """
        remote = ray.remote(function)
        results: list[Any] = [None] * len(jobs)
        running: dict[Any, int] = {}
        waiting = iter(enumerate(jobs))
        begin = time.perf_counter()
        with self._progress() as bar:
            task = bar.add_task(title, total=len(jobs))
            while True:
                for number, job in waiting:
                    running[remote.remote(*job)] = number
                    if len(running) >= 2 * self.count:
                        break
                if not running:
                    break
                for done in ray.wait(list(running), num_returns=1)[0]:
                    results[running.pop(done)] = _result(done)
                    bar.advance(task)
        if not self.console.is_terminal:
            self.console.print(f"{title}: {len(jobs)} parts in {time.perf_counter() - begin:.1f} s")
        return results

    @contextmanager
    def stage(self, title: str) -> Iterator[None]:
        """Show that this process itself is busy with something long."""
        begin = time.perf_counter()
        if self.console.is_terminal:
            with self.console.status(title):
                yield
        else:
            yield
        self.console.print(f"{title}: {time.perf_counter() - begin:.1f} s")

    def _progress(self) -> Progress:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
        return Progress(*columns, *times, console=self.console, disable=not self.console.is_terminal)


def _result(reference: Any) -> Any:
    try:
        return ray.get(reference)
    except RayTaskError as error:
        if isinstance(error.cause, SesameError):
            raise error.cause from None
        raise
