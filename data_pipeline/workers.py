"""Ray workers: jobs whose results are recorded in a ledger, on the machines of a :class:`Cluster`."""

import functools
import gc
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

from pydantic import Field
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from sesame.configs import Section
from sesame.configs.durations import duration
from sesame.configs.errors import SesameError, path_error
from sesame.configs.log_lines import timed
from sesame.data_pipeline.cluster import Cluster, NodeDiedError, ObjectLostError, RayTaskError, ray
from sesame.data_pipeline.compiled import cache
from sesame.data_pipeline.ledger import Ledger

LOST_VALUE_ERRORS = (ObjectLostError, NodeDiedError)
RETRIES = 20
"""How many times a job is repeated because its worker died or its values were lost."""


class WorkersConfig(Section):
    """Worker processes; they do not affect the result."""

    count: int = Field(default=0, ge=0)
    """Ray worker processes; 0: one on each core. On an existing cluster, how many are used; 0: all."""
    address: str = Field(default="", pattern=r"^([^\s:/]+:\d+)?$")
    """HOST:PORT of an existing Ray cluster; empty: a private one on this machine. Its token is read from
    RAY_AUTH_TOKEN or ~/.ray/auth_token; its machines need Sesame, and access to the output and the text."""
    dashboard: bool = False
    """Start Ray's dashboard with a private cluster, for this machine only (127.0.0.1:8265)."""


class Workers:
    """Context manager of a Ray cluster, which is started or connected to on entry and released on exit."""

    def __init__(self, config: WorkersConfig, console: Console, ledger: Ledger):
        self.config = config
        self.count = config.count or len(os.sched_getaffinity(0))
        self.console = console
        self.ledger = ledger
        self._cluster = Cluster(config.address, ledger.folder, cpus=self.count, dashboard=config.dashboard)

    def __enter__(self) -> Self:
        if not self.config.address:
            cache.share(self.ledger.folder.with_name("loops"))
        self._cluster.__enter__()
        if self.config.address:
            self.count = self.config.count or max(1, int(ray.cluster_resources().get("CPU", 1)))
        return self

    def __exit__(self, *failure: object) -> None:
        self._cluster.__exit__(*failure)

    def map(self, title: str, function: Callable[..., Any], jobs: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Return ``function(*job)`` for each job, in order.

        Results in the ledger are reused, new ones are recorded there. A job whose worker dies is repeated. At most two
        jobs for each worker are submitted at a time.

        Raises:
            SesameError: as the function raised it, without Ray's wrapping.
        """
        remote = ray.remote(max_retries=RETRIES)(_as_job(function))
        results = [self.ledger.recall(title, number) for number in range(len(jobs))]
        pending = [number for number, result in enumerate(results) if result is None]
        waiting = iter(pending)
        running: dict[Any, int] = {}
        lost: Counter[int] = Counter()
        start = time.perf_counter()
        with self._progress() as bar:
            task = bar.add_task(title, total=len(jobs), completed=len(jobs) - len(pending))
            while True:
                for number in waiting:
                    running[remote.remote(*jobs[number])] = number
                    if len(running) >= 2 * self.count:
                        break
                if not running:
                    break
                for done in ray.wait(list(running), num_returns=1)[0]:
                    number = running.pop(done)
                    try:
                        results[number] = _result(done)
                    except LOST_VALUE_ERRORS:
                        # Ray does not retry a job whose arguments or results were lost.
                        lost[number] += 1
                        if lost[number] > RETRIES:
                            raise
                        running[remote.remote(*jobs[number])] = number
                        continue
                    self.ledger.record(title, results[number], number)
                    bar.advance(task)
        if not self.console.is_terminal:
            kept = f" ({len(jobs) - len(pending)} of them finished before)" if len(pending) < len(jobs) else ""
            self._log(f"{title}: {len(jobs)} parts{kept} in {duration(time.perf_counter() - start)}")
        return results

    def once(self, title: str, function: Callable[[], Any]) -> Any:
        """Return ``function()``, called in this process, or its result in the ledger."""
        result = self.ledger.recall(title)
        if result is None:
            with self.stage(title):
                result = function()
            self.ledger.record(title, result)
        return result

    @contextmanager
    def stage(self, title: str) -> Iterator[None]:
        """Show the status and the time of a long step in this process."""
        start = time.perf_counter()
        if self.console.is_terminal:
            with self.console.status(title):
                yield
        else:
            yield
        self._log(f"{title}: {duration(time.perf_counter() - start)}")

    def _log(self, message: str) -> None:
        self.console.print(timed(message, is_terminal=self.console.is_terminal), soft_wrap=True)

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


def _as_job(function: Callable[..., Any]) -> Callable[..., Any]:
    """Disable the garbage collector during ``function``: jobs create millions of small objects without cycles. An error
    of the file system is changed here, for Ray's copy of it has no error number."""

    @functools.wraps(function)
    def job(*values: Any) -> Any:
        gc.disable()
        try:
            return function(*values)
        except OSError as error:
            if (known := path_error(error)) is None:
                raise
            raise known from None
        finally:
            gc.enable()

    return job
