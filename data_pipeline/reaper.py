"""A process that kills what this one has started, when this one has ended, however that ended.

Ray's servers end with the driver, but the agents of its raylet stay for a minute after a driver that was killed: they
report to another server that the raylet is gone, and wait for the answer of a server that is gone as well.
"""

import contextlib
import os
import select
import subprocess
import sys
from typing import Self

import psutil

POLL_SECONDS = 0.2


class Reaper:
    """Context manager: processes that are started in the block before :meth:`all_started` end with the block."""

    def __enter__(self) -> Self:
        own = psutil.Process()
        earlier = [each.pid for each in own.children(recursive=True)]
        command = [sys.executable, "-P", __file__, *map(str, [own.pid, *earlier])]
        # In a session of its own it is not reached by Ctrl-C.
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        return self

    def all_started(self) -> None:
        """Look for new processes a last time, and wait until that is done."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(b"\n")
            self._process.stdin.flush()
            self._process.stdout.readline()

    def __exit__(self, *_: object) -> None:
        # Closes the pipes and waits.
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate()


def main() -> None:
    """Look for descendants of process argv[1] until the input has something, and kill them at the input's end.

    Those of argv[2:] are older, and stay.
    """
    pid, *earlier = map(int, sys.argv[1:])
    parent = psutil.Process(pid)
    if os.getppid() != pid:
        return
    found: set[psutil.Process] = set()
    is_looking = True
    while is_looking:
        is_looking = not select.select([sys.stdin], [], [], POLL_SECONDS)[0]
        with contextlib.suppress(psutil.Error):
            found.update(parent.children(recursive=True))
    with contextlib.suppress(BrokenPipeError):
        print(flush=True)
    # Until the other end of the pipe is closed, as it is when a process ends.
    sys.stdin.buffer.read()
    for process in found:
        # psutil kills no other process that has got the number.
        with contextlib.suppress(psutil.Error):
            if process.pid not in (os.getpid(), *earlier):
                process.kill()


if __name__ == "__main__":
    main()
