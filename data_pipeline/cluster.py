"""A Ray cluster: a private one on this machine, or an existing one.

Token authentication is on, usage statistics are off, and there is no dashboard unless it is configured.
"""

import importlib.util
import logging
import os
import secrets
import socket
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from sesame.configs.errors import ConfigError, DatasetError
from sesame.configs.stopping import kept_handlers
from sesame.data_pipeline.reaper import Reaper

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's default is 15, a low priority
if "ray" not in sys.modules:
    # Ray reads these when it is imported; set later, its servers require a token that the driver does not send.
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    if "RAY_AUTH_TOKEN_PATH" not in os.environ and not Path("~/.ray/auth_token").expanduser().is_file():
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))

import ray
from ray.exceptions import NodeDiedError, ObjectLostError, OutOfMemoryError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

__all__ = ["Cluster", "NodeDiedError", "ObjectLostError", "OutOfMemoryError", "RayError", "RayTaskError", "ray"]
"""Other modules import Ray from here, after the settings above."""
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(256 << 20)}
"""Settings of malloc in the workers: jobs allocate and free large arrays, and returning that memory to the system costs
a fifth of the time."""
OBJECT_STORE_BYTES = 256 << 20
SECONDS_TO_ANSWER = 5
NOT_STARTED = "timed out during startup"
"""In the message of Ray's exception."""


class Cluster:
    """Context manager of a Ray cluster, which is started or connected to on entry and released on exit."""

    def __init__(self, address: str, folder: Path, *, cpus: int, dashboard: bool = False, setting: str = "workers"):
        """
        Args:
            address: HOST:PORT of an existing cluster; empty: a private one on this machine.
            folder: that every machine must see.
            cpus: of a private cluster, for jobs that ask for CPUs.
            setting: name of the section in the configuration, for messages.
        """
        self.address, self.folder, self.cpus, self.dashboard, self.setting = address, folder, cpus, dashboard, setting
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            # Ray's own handler would end the process with code 15.
            with kept_handlers():
                if self.address:
                    self._join()
                else:
                    reaper = stack.enter_context(Reaper())
                    self._start()
                    reaper.all_started()
            stack.callback(ray.shutdown)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def machines(self) -> list[dict[str, float]]:
        """CPUs ("CPU") and GPUs ("GPU") of each machine that has CPUs."""
        return [node["Resources"] for node in _nodes()]

    def _start(self) -> None:
        """Start a private cluster that only this process can use."""
        for setting, value in KEEP_MEMORY.items():
            os.environ.setdefault(setting, value)
        if self.dashboard and importlib.util.find_spec("aiohttp_cors") is None:
            raise ConfigError(
                f"{self.setting}.dashboard needs Ray's own extra; pip install 'ray[default]', or set it to false"
            )
        try:
            ray.init(
                address="local",
                num_cpus=self.cpus,
                # Data is passed in files, so little shared memory is enough; containers have little.
                object_store_memory=OBJECT_STORE_BYTES,
                include_dashboard=self.dashboard,
                dashboard_host="127.0.0.1",
                configure_logging=True,
                logging_level=logging.ERROR,
                log_to_driver=False,
            )
        except Exception as error:
            # Ray has no class for it.
            if NOT_STARTED not in str(error):
                raise
            raise ConfigError(
                "Ray did not start on this machine within half a minute; run the same command again when fewer "
                "processes compete for its processors and memory"
            ) from None

    def _join(self) -> None:
        """Connect to an existing cluster and check that its machines can do the work."""
        where = f"{self.setting}.address {self.address}"
        _check_listening(self.address, where)
        try:
            ray.init(address=self.address, configure_logging=True, logging_level=logging.ERROR, log_to_driver=False)
        except (ConnectionError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(
                f"{where}: the Ray cluster refused the connection ({reason}); set RAY_AUTH_TOKEN to "
                "the token that it was started with, or RAY_AUTH_MODE=disabled where it has none"
            ) from None
        try:
            _check_machines(where, self.folder)
        except BaseException:
            ray.shutdown()
            raise


def _check_listening(address: str, where: str) -> None:
    """Raise ConfigError if the port is closed, because Ray waits for more than a minute."""
    host, port = address.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), timeout=SECONDS_TO_ANSWER).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"{where}: no Ray cluster answers there ({error}); start one with `ray start --head`, or "
            f"leave {where.split()[0]} empty to work on this machine"
        ) from None


def _nodes() -> list[dict[str, Any]]:
    """What Ray says of each machine that has CPUs."""
    return [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]


def _check_machines(where: str, folder: Path) -> None:
    """Check that every machine with CPUs has Sesame and can access ``folder``.

    Raises:
        ConfigError: a machine cannot run Sesame.
        DatasetError: a machine cannot access the folder.
    """
    machines = _nodes()
    if not machines:
        raise ConfigError(f"{where}: the Ray cluster has no CPU to work on; add a machine to it")
    mark = folder / f"visible-{secrets.token_hex(8)}"
    mark.touch()
    try:
        answers = {}
        for node in machines:
            strategy: Any = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            answers[node["NodeManagerAddress"]] = ray.remote(scheduling_strategy=strategy)(_exists).remote(str(mark))
        for machine, answer in answers.items():
            if not _get_answer(where, machine, answer):
                raise DatasetError(
                    f"{folder}: cannot be seen by machine {machine} of the Ray cluster; put --output on storage that "
                    "all of its machines share under one path"
                )
    finally:
        mark.unlink()


def _get_answer(where: str, machine: str, answer: Any) -> bool:
    try:
        return ray.get(answer)
    except RayError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ConfigError(
            f"{where.split()[0]}: machine {machine} of the Ray cluster cannot run Sesame ({reason}); install the same "
            "version there"
        ) from None


def _exists(path: str) -> bool:
    return os.path.exists(path)
