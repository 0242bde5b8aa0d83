"""Signals that ask a command to stop so that the same command can continue it later.

Schedulers send them before they take a machine away: SIGTERM (Kubernetes, Slurm's preemption and time limit), and what
a job asks for with ``--signal`` (SIGUSR1, SIGUSR2).
"""

import ctypes
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

CONTINUE = os.EX_TEMPFAIL
"""Exit code 75 of a command that was stopped: nothing is wrong, and the same command continues it."""
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
PR_SET_PDEATHSIG = 1


class Stopped(BaseException):
    """A signal has stopped the command. No ``Exception``: what handles faults does not handle this."""


class StopRequest:
    """The first signal that asked this process to stop, to be looked at where it can stop."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    @property
    def is_noted(self) -> bool:
        return self.signal is not None

    def note(self, number: int, _frame: FrameType | None = None) -> None:
        """Handle a signal."""
        self.signal = self.signal or signal.Signals(number)

    @property
    def reason(self) -> str:
        return self.signal.name if self.signal else "another process"


def note_signals() -> StopRequest:
    """Keep signals for later: training stops after a step, and in all processes after the same one."""
    request = StopRequest()
    _handle(request.note)
    return request


def raise_signals() -> None:
    """Raise :class:`Stopped` wherever the main thread is, for commands whose finished parts are on disk already."""
    _handle(_raise)


@contextmanager
def kept_handlers() -> Iterator[None]:
    """Restore the handlers that were set when the block ends: libraries install their own when they start."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        # Only the main thread can set handlers; in another one a library has set none.
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                if handler not in (None, signal.SIG_DFL):
                    signal.signal(number, handler)


def end_with_parent() -> None:
    """Let the kernel kill this process when its parent ends, however that ends (Linux; elsewhere nothing happens)."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _raise(number: int, _frame: FrameType | None) -> None:
    # Once: a second one must not interrupt the cleaning up.
    _handle(signal.SIG_IGN)
    raise Stopped(signal.Signals(number).name)


def _handle(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
    for number in SIGNALS:
        signal.signal(number, handler)
