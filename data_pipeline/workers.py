"""Ray workers: a private cluster on this machine, or an existing one.

Token authentication is on, usage statistics are off, and there is no dashboard unless it is configured.
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

from sesame.configs import Section
from sesame.configs.errors import ConfigError, DatasetError, SesameError, path_error
from sesame.configs.log_lines import timed
from sesame.configs.stopping import kept_handlers
from sesame.data_pipeline.compiled import cache
from sesame.data_pipeline.ledger import Ledger

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's default is 15, a low priority
if "ray" not in sys.modules:
    # Ray reads these when it is imported; set later, its servers require a token that the driver does not send.
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    if "RAY_AUTH_TOKEN_PATH" not in os.environ and not Path("~/.ray/auth_token").expanduser().is_file():
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))

import ray
from ray.exceptions import NodeDiedError, ObjectLostError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(256 << 20)}
"""Settings of malloc in the workers: jobs allocate and free large arrays, and returning that memory to the system costs
a fifth of the time."""
OBJECT_STORE_BYTES = 256 << 20
SECONDS_TO_ANSWER = 5
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

    def __enter__(self) -> Self:
        # Ray's own handler would end the process with code 15.
        with kept_handlers():
            if self.config.address:
                self._join(self.config.address)
            else:
                self._start()
        return self

    def __exit__(self, *_: object) -> None:
        ray.shutdown()

    def _start(self) -> None:
        """Start a private cluster that only this process can use."""
        for setting, value in KEEP_MEMORY.items():
            os.environ.setdefault(setting, value)
        cache.share(self.ledger.folder.with_name("loops"))
        if self.config.dashboard and importlib.util.find_spec("aiohttp_cors") is None:
            raise ConfigError("workers.dashboard needs Ray's own extra; pip install 'ray[default]', or set it to false")
        ray.init(
            address="local",
            num_cpus=self.count,
            # Data is passed in files, so little shared memory is enough; containers have little.
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=self.config.dashboard,
            dashboard_host="127.0.0.1",
            configure_logging=True,
            logging_level=logging.ERROR,
            log_to_driver=False,
        )

    def _join(self, address: str) -> None:
        """Connect to an existing cluster and check that its machines can do the work."""
        _check_listening(address)
        try:
            ray.init(address=address, configure_logging=True, logging_level=logging.ERROR, log_to_driver=False)
        except (ConnectionError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(
                f"workers.address {address}: the Ray cluster refused the connection ({reason}); set RAY_AUTH_TOKEN to "
                "the token that it was started with, or RAY_AUTH_MODE=disabled where it has none"
            ) from None
        try:
            _check_machines(address, self.ledger.folder)
        except BaseException:
            ray.shutdown()
            raise
        self.count = self.config.count or max(1, int(ray.cluster_resources().get("CPU", 1)))

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
            self._log(f"{title}: {len(jobs)} parts{kept} in {time.perf_counter() - start:.1f} s")
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
        self._log(f"{title}: {time.perf_counter() - start:.1f} s")

    def _log(self, message: str) -> None:
        self.console.print(timed(message, is_terminal=self.console.is_terminal), soft_wrap=True)

    def _progress(self) -> Progress:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
        return Progress(*columns, *times, console=self.console, disable=not self.console.is_terminal)


def _check_listening(address: str) -> None:
    """Raise ConfigError if the port is closed, because Ray waits for more than a minute."""
    host, port = address.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), timeout=SECONDS_TO_ANSWER).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"workers.address {address}: no Ray cluster answers there ({error}); start one with `ray start --head`, or "
            "leave workers.address empty to work on this machine"
        ) from None


def _check_machines(address: str, folder: Path) -> None:
    """Check that every machine with CPUs has Sesame and can access ``folder``.

    Raises:
        ConfigError: a machine cannot run Sesame.
        DatasetError: a machine cannot access the folder.
    """
    machines = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    if not machines:
        raise ConfigError(f"workers.address {address}: the Ray cluster has no CPU to work on; add a machine to it")
    mark = folder / f"visible-{secrets.token_hex(8)}"
    mark.touch()
    try:
        answers = {}
        for node in machines:
            strategy: Any = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            answers[node["NodeManagerAddress"]] = ray.remote(scheduling_strategy=strategy)(_exists).remote(str(mark))
        for machine, answer in answers.items():
            if not _get_answer(machine, answer):
                raise DatasetError(
                    f"{folder}: cannot be seen by machine {machine} of the Ray cluster; put --output on storage that "
                    "all of its machines share under one path"
                )
    finally:
        mark.unlink()


def _get_answer(machine: str, answer: Any) -> bool:
    try:
        return ray.get(answer)
    except RayError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ConfigError(
            f"workers.address: machine {machine} of the Ray cluster cannot run Sesame ({reason}); install the same "
            "version there"
        ) from None


def _exists(path: str) -> bool:
    return os.path.exists(path)


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
