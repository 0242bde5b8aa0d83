"""Wait for processes as long as they do something: a machine may be busy, so no test has a limit in seconds."""

import contextlib
import subprocess
import time

import psutil

STILL = 600.0
"""Seconds without any CPU time in a process or its children, after which they wait for something that never comes."""


def outputs(processes: list[subprocess.Popen[str]], still: float = STILL) -> list[str]:
    """What each process printed, when all have ended; those that are left are killed.

    Raises:
        AssertionError: none of them has had any CPU time for ``still`` seconds.
    """
    try:
        return [_output(process, processes, still) for process in processes]
    finally:
        for process in processes:
            process.kill()


def _output(process: subprocess.Popen[str], together: list[subprocess.Popen[str]], still: float) -> str:
    used, since = _cpu_seconds(together), time.monotonic()
    while True:
        try:
            return process.communicate(timeout=min(1.0, still))[0]
        except subprocess.TimeoutExpired:
            now = _cpu_seconds(together)
            if now != used:
                used, since = now, time.monotonic()
            assert time.monotonic() - since < still, f"processes without CPU time for {still:.0f} s: {process.args}"


def _cpu_seconds(processes: list[subprocess.Popen[str]]) -> dict[int, float]:
    """By process id, children included."""
    used: dict[int, float] = {}
    for process in processes:
        with contextlib.suppress(psutil.Error):
            parent = psutil.Process(process.pid)
            for each in (parent, *parent.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    times = each.cpu_times()
                    used[each.pid] = times.user + times.system
    return used
