"""A signal ends ``prepare`` with code 75, and the same command continues."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sesame.configs.stopping import CONTINUE, Stopped, kept_handlers, raise_signals

ROOT = Path(__file__).parents[2]
SMALL = ("source.limit_megabytes=1", "tokenizer.vocabulary_size=2048", "workers.count=1")
PREPARE = ("prepare", "demo", "--output", "dataset", *(word for change in SMALL for word in ("--set", change)))


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "sesame", *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_prepare_stops_and_continues(tmp_path: Path) -> None:
    first = start(tmp_path, *PREPARE)
    while not list(tmp_path.glob("dataset.partial/work/ledger/*.json")):
        assert first.poll() is None, first.communicate()
        time.sleep(0.05)
    first.terminate()
    _, errors = first.communicate()
    assert first.returncode == CONTINUE, errors
    assert errors.splitlines()[-1] == "sesame: stopped by SIGTERM; run the same command again to resume"
    second = start(tmp_path, *PREPARE)
    output, errors = second.communicate()
    assert second.returncode == 0, errors
    assert re.search(r"^\d\d:\d\d:\d\d .*finished before", output, re.MULTILINE)
    assert (tmp_path / "dataset" / "manifest.json").is_file()


def test_a_handler_that_was_set_is_kept_and_a_default_is_not() -> None:
    def library(number: int, frame: object) -> None: ...

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)}
    try:
        signal.signal(signal.SIGUSR2, signal.SIG_DFL)
        raise_signals()
        signal.signal(signal.SIGUSR2, signal.SIG_DFL)
        with kept_handlers():
            signal.signal(signal.SIGTERM, library)
            signal.signal(signal.SIGUSR2, library)
        assert signal.getsignal(signal.SIGUSR2) is library
        with pytest.raises(Stopped, match="SIGTERM"):
            signal.raise_signal(signal.SIGTERM)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
