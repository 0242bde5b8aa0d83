"""Running a command with its output in a file, until a deadline."""

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from sesame.configs.errors import SesameError


class Paused(Exception):
    """The minutes of this call are over; the same command goes on."""


class Deadline:
    """A number of minutes from now on; without a number never."""

    def __init__(self, minutes: float | None = None):
        self._end = None if minutes is None else time.monotonic() + 60 * minutes

    @property
    def seconds_left(self) -> float | None:
        """None if there is no deadline."""
        return None if self._end is None else self._end - time.monotonic()


def execute(command: Sequence[str], title: str, log: Path, deadline: Deadline) -> None:
    """Run a command and append its output to ``log``.

    Raises:
        SesameError: it failed.
        Paused: the deadline is over; the command was asked to stop, and has.
    """
    left = deadline.seconds_left
    if left is not None and left <= 0:
        raise Paused
    begin = time.monotonic()
    print(f"{title} ...", flush=True)
    with log.open("ab") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        try:
            process.wait(left)
        except subprocess.TimeoutExpired:
            raise Paused from None
        finally:
            # After a signal as well, so that nothing goes on without this process.
            if process.poll() is None:
                process.terminate()
                process.wait()
    if process.returncode:
        last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        raise SesameError(f"{title} failed ({' '.join(last)}); {log} has its output")
    print(f"{title}: {(time.monotonic() - begin) / 60:.1f} minutes", flush=True)
