"""Finding out which process of a run does not answer any more: stopped, swapped out, or on a machine that is gone.

Collectives wait for all processes, so a silent one stops them all, and a timeout says only who waits. Here a thread in
each process counts up a number in the store of the process group, whatever its main thread does, and the first process
looks at all of them.
"""

import os
import socket
import sys
import threading
import time
from datetime import timedelta

from torch.distributed import DistError, TCPStore  # pyright: ignore[reportPrivateImportUsage]

BEATS = 6
"""Beats in the time after which a process counts as silent."""
LONGEST_INTERVAL = 10.0
"""Seconds between two beats, at most."""


class Watchdog:
    """Ends this process with a sentence when another one has been silent for too long."""

    def __init__(self, rank: int, world: int, timeout_seconds: float):
        """
        Args:
            timeout_seconds: silence that ends the run.
        """
        self.step = 0
        """Where this process is; for the sentence."""
        self._rank, self._world, self._timeout = rank, world, timeout_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        if world > 1:
            self._thread.start()

    def close(self) -> None:
        """Stop watching; call it before the processes leave, for the first one takes the store with it."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        interval = min(LONGEST_INTERVAL, self._timeout / BEATS)
        try:
            # A connection of its own: the process group's may be held by a call that waits.
            store = TCPStore(
                os.environ["MASTER_ADDR"],
                int(os.environ["MASTER_PORT"]),
                is_master=False,
                timeout=timedelta(seconds=max(interval, 1.0)),
            )
            store.set(_key("host", self._rank), f"{socket.gethostname()} process {os.getpid()}")
            peers = {rank: _Peer() for rank in (range(1, self._world) if self._rank == 0 else range(1))}
            while not self._stop.wait(interval):
                store.set(_key("step", self._rank), str(self.step))
                store.add(_key("beat", self._rank), 1)
                for rank, peer in peers.items():
                    silence = peer.silence(store.add(_key("beat", rank), 0))
                    if silence > self._timeout:
                        self._end(self._sentence(store, rank, silence))
        except (DistError, RuntimeError, OSError) as error:
            if not self._stop.is_set():
                self._end(f"process 0 does not answer any more ({str(error).splitlines()[0]})")

    def _sentence(self, store: TCPStore, rank: int, silence: float) -> str:
        where = _read(store, _key("host", rank)) or "a machine that has not answered yet"
        step = _read(store, _key("step", rank)) or "its start"
        return (
            f"process {rank} of {self._world} ({where}) has been silent for {silence:.0f} s "
            f"(parallel.timeout_minutes), since step {step}; the others wait for it. It is stopped, out of memory, or "
            "its machine is gone"
        )

    def _end(self, sentence: str) -> None:
        print(f"sesame: {sentence}; the same command continues from the newest checkpoint", file=sys.stderr, flush=True)
        # The main thread waits in a collective and cannot be interrupted.
        os._exit(1)


class _Peer:
    """When another process was last seen to count."""

    def __init__(self) -> None:
        self._count, self._seen = 0, time.monotonic()

    def silence(self, count: int) -> float:
        """Seconds since the number last grew."""
        if count > self._count:
            self._count, self._seen = count, time.monotonic()
        return time.monotonic() - self._seen


def _key(kind: str, rank: int) -> str:
    return f"sesame/{kind}/{rank}"


def _read(store: TCPStore, key: str) -> str:
    return store.get(key).decode() if store.check([key]) else ""
