"""Processes that wait for each other and print much do not block their reader."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.liveness import outputs

WAITS = "import pathlib, sys, time\nwhile not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.01)\nprint('seen')"
PRINTS = "import pathlib, sys\nprint('x' * 300_000)\npathlib.Path(sys.argv[1]).touch()"


def started(code: str, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True)


def test_a_process_that_fills_its_pipe_is_read_while_another_one_waits_for_it(tmp_path: Path) -> None:
    file = str(tmp_path / "file")
    printed = outputs([started(WAITS, file), started(PRINTS, file)], max_idle_seconds=60)
    assert (printed[0], len(printed[1])) == ("seen\n", 300_001)


def test_processes_without_cpu_time_are_an_error() -> None:
    with pytest.raises(AssertionError, match="without CPU time"):
        outputs([started("import time; time.sleep(600)")], max_idle_seconds=2)
