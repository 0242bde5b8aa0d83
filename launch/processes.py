"""The trainers of one machine: started together, ended together, and their errors printed once.

DeepSpeed's launcher leaves its trainers alive when it is killed, and returns 0 then; this one does not. A trainer gets
the environment variables of torchrun (RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT).
"""

import ctypes
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from sesame.configs.stopping import CONTINUE, SIGNALS

FORWARDED = (*SIGNALS, signal.SIGINT)
KILL_SECONDS = 5.0
"""After one trainer has failed, the others get SIGTERM and, so much later, SIGKILL."""
STOP_SECONDS = 3600.0
"""Longest time for all trainers to end after a signal; most schedulers are less patient."""
KEPT_LINES = 400
"""Last lines of a trainer's standard error that are kept until it is known whose are printed."""
SENTENCE = b"sesame: "
ERROR = re.compile(rb"(\[rank\d+\]: )?Traceback \(most recent call last\)|sesame")
"""First words of an error on standard error; torch names the rank once processes are connected."""
PR_SET_PDEATHSIG = 1


SESAME = (sys.executable, "-P", "-m", "sesame")
"""The command in this environment, which imports nothing from the current folder."""


class Machine(NamedTuple):
    """The place of this machine in the run."""

    processes: int
    """Trainers on each machine."""
    address: str = "127.0.0.1"
    """Host of the first machine, which all others can reach."""
    port: int = 0
    """Free TCP port of that host; 0: any, which needs a single machine."""
    machines: int = 1
    rank: int = 0
    """Of this machine, from 0."""


def supervise(command: Sequence[str], machine: Machine) -> int:
    """Run ``command`` once for each trainer of this machine and wait for all of them.

    SIGTERM, SIGINT, SIGUSR1 and SIGUSR2 are forwarded to the trainers. When one of them fails the others are ended.
    Trainers get SIGTERM when this process dies, whatever its end.

    Returns:
        0, the code of the trainer that failed first (128 + N if signal N ended it), or :data:`CONTINUE` when trainers
        were stopped by a signal.
    """
    trainers = _Trainers(command, machine)
    handlers = {number: signal.signal(number, trainers.forward) for number in FORWARDED}
    try:
        trainers.start()
        return trainers.wait()
    finally:
        trainers.kill()
        for number, handler in handlers.items():
            signal.signal(number, handler)


def follow(command: Sequence[str]) -> int:
    """Run a command and return its exit code, as a shell would; a negative one becomes 128 + N.

    SIGTERM, SIGUSR1 and SIGUSR2 are forwarded to it, and it gets SIGTERM when this process dies.
    """
    process = subprocess.Popen(command, preexec_fn=_end_with_parent())
    handlers = {number: signal.signal(number, lambda number, _: process.send_signal(number)) for number in SIGNALS}
    try:
        code = process.wait()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code


def _end_with_parent() -> Callable[[], object]:
    # Loaded here, because little is safe between fork and exec.
    libc = ctypes.CDLL(None, use_errno=True)
    return lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class _Trainers:
    """The trainers of this machine, from their start to their exit codes."""

    def __init__(self, command: Sequence[str], machine: Machine):
        self._command = list(command)
        self._machine = machine if machine.port else machine._replace(port=free_port())
        self._processes: list[subprocess.Popen[bytes]] = []
        self._errors: list[_Errors] = []
        self._ended: queue.Queue[int] = queue.Queue()
        self._signal: int | None = None
        self._is_asked_to_end = False
        """Whether SIGTERM or SIGINT has come from outside."""
        self._deadline = float("inf")
        self._failure: int | None = None
        """Code of the trainer that failed first."""
        self._is_stopped_at_start = False
        """Whether a signal has ended a trainer before it could answer."""

    def start(self) -> None:
        end_with_parent = _end_with_parent()
        for local_rank in range(self._machine.processes):
            process = subprocess.Popen(
                self._command,
                env={**os.environ, **environment(self._machine, local_rank)},
                stderr=subprocess.PIPE,
                # A session of its own: a signal of the terminal arrives once, forwarded, and all that a trainer has
                # started can be killed with it.
                start_new_session=True,
                preexec_fn=end_with_parent,
            )
            self._processes.append(process)
            self._errors.append(_Errors(process, live=self._machine.rank == 0 and local_rank == 0))
            threading.Thread(target=self._await, args=(local_rank,), daemon=True).start()

    def forward(self, number: int, _frame: object = None) -> None:
        """Pass a signal on; the second SIGTERM or SIGINT kills.

        The first one does not, even if SIGUSR1 came before it: Slurm sends both when a checkpoint takes longer than the
        job's time, and waits.
        """
        if number in (signal.SIGTERM, signal.SIGINT):
            if self._is_asked_to_end:
                self.kill()
                return
            self._is_asked_to_end = True
        self._stop(number)

    def _stop(self, number: int) -> None:
        self._signal = number
        self._deadline = min(self._deadline, time.monotonic() + STOP_SECONDS)
        self._send(number)

    def wait(self) -> int:
        """Wait for all trainers; after a failure for some seconds only."""
        codes: dict[int, int] = {}
        while len(codes) < len(self._processes):
            try:
                rank = self._ended.get(timeout=min(1.0, max(0.05, self._deadline - time.monotonic())))
            except queue.Empty:
                if time.monotonic() > self._deadline:
                    self.kill()
                    self._deadline = float("inf")
                continue
            codes[rank] = self._code(rank)
            if codes[rank] not in (0, CONTINUE) and self._failure is None:
                self._failure = codes[rank]
                self._deadline = time.monotonic() + KILL_SECONDS
                self._send(signal.SIGTERM)
            elif codes[rank] == CONTINUE and self._signal is None:
                # Only this trainer got the signal, and perhaps before it could inform the others.
                self._stop(signal.SIGTERM)
        if self._failure is not None:
            failed = [self._errors[rank] for rank, code in codes.items() if code not in (0, CONTINUE)]
            min(failed, key=lambda each: each.first_error).print()
            return self._failure
        if CONTINUE in codes.values():
            self._errors[0].print(SENTENCE)
            return CONTINUE
        return 0

    def kill(self) -> None:
        """End every trainer, and what it has started, at once."""
        for process in self._processes:
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)

    def _await(self, local_rank: int) -> None:
        self._processes[local_rank].wait()
        self._errors[local_rank].finish()
        self._ended.put(local_rank)

    def _send(self, number: int) -> None:
        for process in self._processes:
            # Does nothing to a process that has ended.
            process.send_signal(number)

    def _code(self, rank: int) -> int:
        code = self._processes[rank].returncode
        if code >= 0:
            return code
        if self._failure is None and (-code in SIGNALS or self._is_stopped_at_start):
            if not self._is_stopped_at_start:
                # It could not answer the signal yet: nothing has been trained, and the others wait for it in vain.
                self._is_stopped_at_start = True
                self.kill()
            return CONTINUE
        return 128 - code


class _Errors:
    """The standard error of one trainer: what is printed at once, and what is kept until all have ended."""

    def __init__(self, process: subprocess.Popen[bytes], *, live: bool):
        """
        Args:
            live: print lines as they come, up to a traceback.
        """
        self.first_error = float("inf")
        """When its error began; the end of the process if it printed none."""
        self._live = live
        self._kept: deque[bytes] = deque(maxlen=KEPT_LINES)
        self._process = process
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def finish(self) -> None:
        # What a trainer has started may hold the pipe open after it.
        self._thread.join(timeout=1.0)
        self.first_error = min(self.first_error, time.monotonic())

    def print(self, begin: bytes = b"") -> None:
        """Print the lines that are kept, or those of them that begin so if the others were printed live."""
        if self._live or not begin:
            sys.stderr.buffer.write(b"".join(line for line in self._kept if line.startswith(begin)))
            sys.stderr.flush()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if ERROR.match(line) and self.first_error == float("inf"):
                self.first_error = time.monotonic()
            if self._live and self.first_error == float("inf"):
                sys.stderr.buffer.write(line)
                sys.stderr.flush()
            else:
                self._kept.append(line)


def environment(machine: Machine, local_rank: int) -> dict[str, str]:
    """The environment variables of one trainer, as torchrun names them."""
    return {
        "RANK": str(machine.rank * machine.processes + local_rank),
        "WORLD_SIZE": str(machine.machines * machine.processes),
        "LOCAL_RANK": str(local_rank),
        "LOCAL_WORLD_SIZE": str(machine.processes),
        "MASTER_ADDR": machine.address,
        "MASTER_PORT": str(machine.port),
    }


def free_port() -> int:
    """A TCP port of this host that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("", 0))
        return listener.getsockname()[1]
