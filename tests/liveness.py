"""Wait for processes as long as they use CPU time; a fixed time limit would fail on a busy machine."""

import contextlib
import subprocess
import time

import psutil

MAX_IDLE_SECONDS = 600.0
"""Seconds without any CPU time in the processes and their children, after which they are considered blocked."""


def outputs(processes: list[subprocess.Popen[str]], max_idle_seconds: float = MAX_IDLE_SECONDS) -> list[str]:
    """Wait for all processes to end, and return what each printed; on an error the remaining ones are killed.

    Raises:
        AssertionError: none of them has used any CPU time for ``max_idle_seconds``.
    """
    printed: dict[int, str] = {}
    used, last_active = _cpu_seconds(processes), time.monotonic()
    try:
        while len(printed) < len(processes):
            # In turn, because a process whose pipe is full waits for its reader, and the others wait for the process.
            for process in processes:
                if process.pid not in printed:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        printed[process.pid] = process.communicate(timeout=min(0.2, max_idle_seconds))[0]
            if (now := _cpu_seconds(processes)) != used:
                used, last_active = now, time.monotonic()
            idle = time.monotonic() - last_active
            assert idle < max_idle_seconds, f"processes without CPU time for {idle:.0f} s: {processes[0].args}"
        return [printed[process.pid] for process in processes]
    finally:
        for process in processes:
            process.kill()


def _cpu_seconds(processes: list[subprocess.Popen[str]]) -> dict[int, float]:
    """CPU time by process id, including children."""
    used: dict[int, float] = {}
    for process in processes:
        with contextlib.suppress(psutil.Error):
            parent = psutil.Process(process.pid)
            for each in (parent, *parent.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    times = each.cpu_times()
                    used[each.pid] = times.user + times.system
    return used
