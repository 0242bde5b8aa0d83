"""The other processes of ``sesame doctor``, reached through torch's key-value store and not through collectives: a
process that fails or is silent can then be named, and the others go on."""

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any

from sesame.configs.errors import SesameError

POLL_SECONDS = 0.01
"""Python's signal handlers run between two looks into the store."""
CONNECT_SECONDS = 300.0
GOODBYE_SECONDS = 30.0


class Silent(SesameError):
    """Another process does not answer."""


class Peers:
    """Exchange of JSON values by name."""

    def __init__(self, rank: int, world: int, variables: Mapping[str, str] = os.environ):
        """
        Raises:
            SesameError: the first process cannot be reached.
        """
        self.rank, self.world = rank, world
        self.silent: set[int] = set()
        """Processes that have not answered once; the first process does not wait for them again."""
        self._store = _connect(rank, variables) if world > 1 else None

    def publish(self, name: str, value: Any) -> None:
        """Show a value to all processes."""
        if self._store is not None:
            self._store.set(name, json.dumps(value))

    def read(self, name: str, seconds: float) -> Any:
        """Wait for a value of another process.

        Raises:
            Silent: it does not come in time.
        """
        assert self._store is not None
        deadline = time.monotonic() + seconds
        while not self._store.check([name]):
            if time.monotonic() > deadline:
                raise Silent(f"{name} did not come within {seconds:.0f} s")
            time.sleep(POLL_SECONDS)
        return json.loads(self._store.get(name))

    def answer(self, name: str, seconds: float) -> Any:
        """Like ``read``, for values that come at once: without pauses, for measurements of time."""
        assert self._store is not None
        self._store.wait([name], timedelta(seconds=seconds))
        return json.loads(self._store.get(name))

    def gather(self, name: str, value: Any, seconds: float) -> dict[int, Any]:
        """In the first process, return the values of all that answer, by rank; in the others, what is theirs."""
        self.publish(f"{name}/{self.rank}", value)
        values = {self.rank: value}
        deadline = time.monotonic() + seconds
        for rank in range(1, self.world) if self.rank == 0 else ():
            try:
                left = 0.0 if rank in self.silent else max(0.0, deadline - time.monotonic())
                values[rank] = self.read(f"{name}/{rank}", left)
            except Silent:
                self.silent.add(rank)
        return values

    def close(self) -> None:
        """Leave; the first process last, because the store is its own."""
        with suppress(Exception):
            self.gather("goodbye", True, GOODBYE_SECONDS)


def _connect(rank: int, variables: Mapping[str, str]) -> Any:
    from torch.distributed import DistError, PrefixStore, TCPStore  # pyright: ignore[reportPrivateImportUsage]

    address, port = variables["MASTER_ADDR"], int(variables["MASTER_PORT"])
    # torchrun's agent has a store there already. Otherwise the process group shares this one later.
    is_master = rank == 0 and variables.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    try:
        store = TCPStore(
            address,
            port,
            is_master=is_master,
            timeout=timedelta(seconds=CONNECT_SECONDS),
            wait_for_workers=False,
            multi_tenant=True,
        )
    except (DistError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        problem = f"process 0 cannot listen on port {port}" if is_master else f"process {rank} cannot reach process 0"
        raise SesameError(
            f"{problem} ({address}:{port}: {reason}); set MASTER_ADDR to an address that all machines reach and "
            "MASTER_PORT to a free port that no firewall blocks"
        ) from None
    return PrefixStore("sesame/doctor", store)
