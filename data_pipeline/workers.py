"""Where the parts are worked on: a Ray cluster of its own on this machine, or one that is running.

Token authentication on, no dashboard unless asked for, nothing sent home; results come back in the order of the jobs.
"""

import functools
import gc
import importlib.util
import logging
import os
import secrets
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from pydantic import Field
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from configs import Section
from configs.errors import ConfigError, DatasetError, SesameError
from data_pipeline.compiled import cache
from data_pipeline.ledger import Ledger

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_worker_niceness", "0")  # Ray would make way for everything else on the machine
if "ray" not in sys.modules:
    # Ray reads these once, when it is imported; set later, its servers would ask for a token that it does not send.
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    if "RAY_AUTH_TOKEN_PATH" not in os.environ and not Path("~/.ray/auth_token").expanduser().is_file():
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))

import ray
from ray.exceptions import NodeDiedError, ObjectLostError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(256 << 20)}
"""For the C library of the workers: large arrays come and go in every job, and memory that is given back and asked for
again costs a fifth of the time."""
OBJECT_STORE_BYTES = 256 << 20
SECONDS_TO_ANSWER = 5
LOST = (ObjectLostError, NodeDiedError)
RETRIES = 20
"""Times that a job starts anew because its worker died."""


class WorkersConfig(Section):
    """Who does the work; without influence on the result."""

    count: int = Field(default=0, ge=0)
    """Ray worker processes; 0 for one on each core. On a running cluster, how many are kept busy; 0 for all."""
    address: str = Field(default="", pattern=r"^([^\s:/]+:\d+)?$")
    """HOST:PORT of a running Ray cluster to work on; empty for one of its own on this machine. Its token is taken from
    RAY_AUTH_TOKEN or ~/.ray/auth_token; Sesame must be installed on its machines, and see the output and the text."""
    dashboard: bool = False
    """Start Ray's dashboard with a cluster of its own, for this machine only (127.0.0.1:8265)."""


class Workers:
    """``with Workers(config, console) as workers``: the cluster lives as long as the block."""

    def __init__(self, config: WorkersConfig, console: Console, ledger: Ledger):
        self.config = config
        self.count = config.count or len(os.sched_getaffinity(0))
        self.console = console
        self.ledger = ledger

    def __enter__(self) -> Self:
        if self.config.address:
            self._join(self.config.address)
        else:
            self._start()
        return self

    def __exit__(self, *_: object) -> None:
        ray.shutdown()

    def _start(self) -> None:
        """A cluster of its own that nobody else can reach."""
        for setting, value in KEEP_MEMORY.items():
            os.environ.setdefault(setting, value)
        cache.share(self.ledger.folder.with_name("loops"))
        if self.config.dashboard and importlib.util.find_spec("aiohttp_cors") is None:
            raise ConfigError("workers.dashboard needs Ray's own extra; pip install 'ray[default]', or set it to false")
        ray.init(
            address="local",
            num_cpus=self.count,
            # Parts travel through files, so that little shared memory is enough (in containers it is scarce).
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=self.config.dashboard,
            dashboard_host="127.0.0.1",
            configure_logging=True,
            logging_level=logging.ERROR,
            log_to_driver=False,
        )

    def _join(self, address: str) -> None:
        """Connect to a running cluster, once it is sure that its machines can do the work."""
        _check_listening(address)
        try:
            ray.init(address=address, configure_logging=True, logging_level=logging.ERROR, log_to_driver=False)
        except (ConnectionError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(
                f"workers.address {address}: the Ray cluster lets no one in ({reason}); set RAY_AUTH_TOKEN to the "
                "token that it was started with, or RAY_AUTH_MODE=disabled where it has none"
            ) from None
        try:
            _check_machines(address, self.ledger.folder)
        except BaseException:
            ray.shutdown()
            raise
        self.count = self.config.count or max(1, int(ray.cluster_resources().get("CPU", 1)))

    def map(self, title: str, function: Callable[..., Any], jobs: Sequence[tuple[Any, ...]]) -> list[Any]:
        """``function`` of each job's values, in the order of the jobs; at most a few jobs wait at a time.

        What the ledger has is not done again, and what is done is written there. A job whose worker dies starts anew.

        Raises:
            SesameError: as the function raised it, without Ray's wrapping.
        """
        remote = ray.remote(max_retries=RETRIES)(_uncollected(function))
        results = [self.ledger.recall(title, number) for number in range(len(jobs))]
        left = [number for number, result in enumerate(results) if result is None]
        waiting = iter(left)
        running: dict[Any, int] = {}
        lost: Counter[int] = Counter()
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
                    try:
                        results[number] = _result(done)
                    except LOST:
                        # Ray retries a job, but not one whose values were lost on the way to it.
                        lost[number] += 1
                        if lost[number] > RETRIES:
                            raise
                        running[remote.remote(*jobs[number])] = number
                        continue
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


def _check_listening(address: str) -> None:
    """Ray itself would wait for more than a minute."""
    host, port = address.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), timeout=SECONDS_TO_ANSWER).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"workers.address {address}: no Ray cluster answers there ({error}); start one with `ray start --head`, or "
            "leave workers.address empty to work on this machine"
        ) from None


def _check_machines(address: str, folder: Path) -> None:
    """Every machine that does work has Sesame and sees ``folder``.

    Raises:
        ConfigError: one does not; its name is in the sentence.
        DatasetError: the folder is not the same one there.
    """
    machines = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    if not machines:
        raise ConfigError(f"workers.address {address}: the Ray cluster has no CPU to work on; add a machine to it")
    mark = folder / f"visible-{secrets.token_hex(8)}"
    mark.touch()
    try:
        asked = {}
        for node in machines:
            here: Any = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            asked[node["NodeManagerAddress"]] = ray.remote(scheduling_strategy=here)(_sees).remote(str(mark))
        for machine, answer in asked.items():
            if not _answered(machine, answer):
                raise DatasetError(
                    f"{folder}: cannot be seen by machine {machine} of the Ray cluster; put --output on storage that "
                    "all of its machines share under one path"
                )
    finally:
        mark.unlink()


def _answered(machine: str, answer: Any) -> bool:
    try:
        return ray.get(answer)
    except RayError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ConfigError(
            f"workers.address: machine {machine} of the Ray cluster cannot run Sesame ({reason}); install the same "
            "version there"
        ) from None


def _sees(path: str) -> bool:
    return os.path.exists(path)


def _result(reference: Any) -> Any:
    try:
        return ray.get(reference)
    except RayTaskError as error:
        if isinstance(error.cause, SesameError):
            raise error.cause from None
        raise


def _uncollected(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` without the search for cycles: jobs make millions of small values and no cycles among them."""

    @functools.wraps(function)
    def job(*values: Any) -> Any:
        gc.disable()
        try:
            return function(*values)
        finally:
            gc.enable()

    return job
