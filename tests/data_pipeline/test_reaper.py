"""Processes end with the one that has started them, also when that is killed."""

import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from sesame.data_pipeline.reaper import POLL_SECONDS, Reaper

SERVER = "import subprocess, sys; subprocess.Popen(['sleep', '60']); print(flush=True); sys.stdin.read()"
"""A process that starts another one, which does not end with it."""
DRIVER = f"""
import subprocess, sys, time
from sesame.data_pipeline.reaper import Reaper
earlier = subprocess.Popen(["sleep", "60"])
with Reaper() as reaper:
    server = subprocess.Popen([sys.executable, "-c", {SERVER!r}], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    server.stdout.readline()
    {{ready}}
    print(earlier.pid, server.pid, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def others() -> Iterator[list[psutil.Process]]:
    """Processes that have to be there at the end of a test."""
    kept: list[psutil.Process] = []
    yield kept
    alive = [each for each in kept if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
    for each in alive:
        each.kill()
    assert alive == kept


@pytest.mark.parametrize("ready", ["reaper.all_started()", f"time.sleep({2 * POLL_SECONDS} + 1)"])
def test_what_was_started_ends_with_a_killed_driver(others: list[psutil.Process], ready: str) -> None:
    driver = subprocess.Popen([sys.executable, "-c", DRIVER.format(ready=ready)], stdout=subprocess.PIPE)
    assert driver.stdout is not None
    earlier, server = map(psutil.Process, map(int, driver.stdout.readline().split()))
    others.append(earlier)
    started = [server, *server.children()]
    assert len(started) == 2
    driver.kill()
    driver.wait()
    assert not psutil.wait_procs(started, timeout=20)[1]


def test_what_was_started_ends_with_the_block(others: list[psutil.Process]) -> None:
    with Reaper() as reaper:
        command = [sys.executable, "-c", SERVER]
        server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert server.stdout is not None
        server.stdout.readline()
        started = psutil.Process(server.pid).children()
        reaper.all_started()
        assert len(started) == 1
        # Longer than it takes to look for the last time.
        with pytest.raises(subprocess.TimeoutExpired):
            server.wait(1.5)
        others.append(psutil.Process(subprocess.Popen(["sleep", "60"]).pid))
    assert server.wait() == -9 and not psutil.wait_procs(started, timeout=20)[1]
