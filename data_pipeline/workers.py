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
from data_pipeline.ledger import Ledger

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
RETRIES = 20
"""Times that a job starts anew because its worker died."""


class WorkersConfig(Section):
    """Who does the work; without influence on the result."""

    count: int = Field(default=0, ge=0)
    """Ray worker processes; 0 for one on each core."""


class Workers:
    """``with Workers(config, console) as workers``: the cluster lives as long as the block."""

    def __init__(self, config: WorkersConfig, console: Console, ledger: Ledger):
        self.count = config.count or len(os.sched_getaffinity(0))
        self.console = console
        self.ledger = ledger

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

        What the ledger has is not done again, and what is done is written there. A job whose worker dies starts anew.

        Raises:
            SesameError: as the function raised it, without Ray's wrapping.
        """
        remote = ray.remote(max_retries=RETRIES)(function)
        results = [self.ledger.recall(title, number) for number in range(len(jobs))]
        left = [number for number, result in enumerate(results) if result is None]
        waiting = iter(left)
        running: dict[Any, int] = {}
        begin = time.perf_counter()
        with self._progress() as bar:
            task = bar.add_task(title, total=len(jobs), completed=len(jobs) - len(left))
            while True:
                for number in waiting:
                    running[remote.remote(*jobs[number])] = number
                    if len(running) >= 2 * self.count:
                        break
                if not running:
                    break
                for done in ray.wait(list(running), num_returns=1)[0]:
                    number = running.pop(done)
                    results[number] = _result(done)
                    self.ledger.record(title, results[number], number)
                    bar.advance(task)
        if not self.console.is_terminal:
            kept = f" ({len(jobs) - len(left)} of them finished before)" if len(left) < len(jobs) else ""
            self.console.print(f"{title}: {len(jobs)} parts{kept} in {time.perf_counter() - begin:.1f} s")
        return results

    def once(self, title: str, function: Callable[[], Any]) -> Any:
        """What ``function`` gives, done in this process, or what the ledger has of it."""
        found = self.ledger.recall(title)
        if found is None:
            with self.stage(title):
                found = function()
            self.ledger.record(title, found)
        return found

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
