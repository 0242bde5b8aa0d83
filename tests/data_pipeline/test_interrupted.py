"""A run of prepare that was killed continues, and gives the same bytes."""

import contextlib
import fcntl
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from sesame.configs import dump
from sesame.configs.errors import DatasetError
from sesame.data_pipeline.examples import balance
from sesame.data_pipeline.prepare import prepare
from sesame.data_pipeline.verification.verify import verify
from tests.data_pipeline.small_corpus import config, content, write_parts

PREPARE = """
import json, sys
from pathlib import Path
from sesame.configs import dump, parse
from sesame.data_pipeline.examples import balance
from sesame.data_pipeline.prepare import RESULTS, CorpusConfig, prepare
balance.GROUP_CHARACTERS = 1
values = json.loads(sys.argv[1])
prepare(parse(values, CorpusConfig, "the test's corpus"), Path(values["output"]))
"""


@pytest.fixture
def files(corpus: Path, tmp_path: Path) -> list[Path]:
    return write_parts(corpus, tmp_path)


@pytest.fixture
def whole(files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Files of an uninterrupted run with many small groups."""
    monkeypatch.setattr(balance, "GROUP_CHARACTERS", 1)
    return content(prepare(config(tmp_path / "whole", files), tmp_path / "whole"))


def interrupted(values: dict[str, Any], seconds: float) -> bool:
    """Run ``sesame prepare`` and kill it after so many seconds; return True if it finished before."""
    process = subprocess.Popen([sys.executable, "-c", PREPARE, json.dumps(values)], stdout=subprocess.DEVNULL)
    try:
        assert process.wait(seconds) == 0
        return True
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return False


def killed_after(values: dict[str, Any], jobs: int) -> None:
    """Run ``sesame prepare`` and kill it when the results of so many jobs are kept."""
    process = subprocess.Popen([sys.executable, "-c", PREPARE, json.dumps(values)], stdout=subprocess.DEVNULL)
    ledger = Path(values["output"] + ".partial") / "work" / "ledger"
    while len(list(ledger.glob("*.json"))) < jobs:
        assert process.poll() is None, "it has more jobs than that"
        time.sleep(0.01)
    process.kill()
    process.wait()


def test_a_killed_run_continues_and_gives_the_same_bytes(
    files: list[Path], whole: dict[str, bytes], tmp_path: Path
) -> None:
    output = tmp_path / "dataset"
    values = dump(config(output, files)) | {"output": str(output)}
    for jobs in (1, 8, 20):
        killed_after(values, jobs)
        assert not output.exists()
    assert interrupted(values, 120)
    assert content(output) == whole
    assert not list(tmp_path.glob("dataset.*"))


def test_finished_jobs_are_not_repeated(
    files: list[Path],
    tmp_path: Path,
    one_cluster: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "dataset"

    def fails(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("sesame.data_pipeline.prepare.write_manifest", fails)
        with pytest.raises(KeyboardInterrupt):
            prepare(config(output, files), output)
    capsys.readouterr()
    prepare(config(output, files), output)
    output_text = capsys.readouterr().out
    assert "read and clean: 6 parts (6 of them finished before)" in output_text
    assert "train the tokenizer" not in output_text
    assert verify(output)


def test_another_recipe_does_not_use_what_an_interrupted_one_left(
    files: list[Path],
    tmp_path: Path,
    one_cluster: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "dataset"
    partial = tmp_path / "dataset.partial"
    (partial / "work" / "ledger").mkdir(parents=True)
    (partial / "identity.json").write_text("{}")
    (partial / "work" / "ledger" / "read-and-clean-000000.json").write_text('{"Reading": []}')
    prepare(config(output, files), output)
    assert "finished before" not in capsys.readouterr().out


def test_a_locked_folder_is_rejected(files: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "dataset"
    (tmp_path / "dataset.partial").mkdir()
    with (tmp_path / "dataset.partial" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DatasetError, match="another `sesame prepare` is at work there"):
            prepare(config(output, files), output)


@pytest.mark.slow
def test_twenty_kills_at_random_times_do_not_change_the_bytes(
    files: list[Path], whole: dict[str, bytes], tmp_path: Path
) -> None:
    output = tmp_path / "dataset"
    values = dump(config(output, files)) | {"output": str(output)}
    rng = random.Random(1)
    for _ in range(20):
        if interrupted(values, rng.uniform(0.5, 8.0)):
            assert content(output) == whole
            shutil.rmtree(output)
    while not interrupted(values, 60):
        pass
    assert content(output) == whole


def busy_workers() -> list[int]:
    """Process ids of this test's Ray workers that are in the middle of a job."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "".join(child.cmdline()).startswith(("ray::read_unit", "ray::make_examples", "ray::gather_shard")):
                found.append(child.pid)
    return found


def test_killed_workers_do_not_change_the_bytes(files: list[Path], whole: dict[str, bytes], tmp_path: Path) -> None:
    killed: set[int] = set()
    over = threading.Event()

    def kill() -> None:
        while not over.is_set() and len(killed) < 4:
            for process in set(busy_workers()[:1]) - killed:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
                    killed.add(process)
            time.sleep(0.002)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        prepare(config(tmp_path / "dataset", files), tmp_path / "dataset")
    finally:
        over.set()
        thread.join()
    assert killed
    assert content(tmp_path / "dataset") == whole
