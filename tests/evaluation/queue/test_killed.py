"""A queue in workers: the same report as in one process, also when driver and workers are killed at random moments."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

ROOT = Path(__file__).parents[3]
KILLS, WORKERS = 20, 2
SUITE = """
[suite]
tasks = ["SST-2", "Letters", "Length"]
seeds = [1, 2, 3, 4, 5]
threads = 1
required = true

[queue]
retries = 40

[finetune]
learning_rate = 3e-3
epochs = {epochs}
batch_size = 8
sequence_length = 48
pooling = "mean"
precision = "fp32"

[[own_task]]
name = "Letters"
metrics = ["accuracy"]
labels = ["0", "1"]
train = {{ file = "SST-2/train.tsv", texts = ["sentence"], label = "label" }}
dev = {{ file = "SST-2/dev.tsv", texts = ["sentence"], label = "label" }}

[[own_task]]
name = "Length"
kind = "regress"
score_range = [0, 1]
metrics = ["pearson"]
train = {{ file = "SST-2/train.tsv", texts = ["sentence"], label = "label" }}
dev = {{ file = "SST-2/dev.tsv", texts = ["sentence"], label = "label" }}
"""
"""Three tasks, two models, five seeds: thirty jobs."""


OF_ONE_RUN = ("started", "seconds", "device", "command", "repeat")
"""Keys of ``report.json`` and of results: times, and what was typed."""


class Command:
    """``sesame evaluate`` in processes of its own, and everything that all of them printed."""

    def __init__(self, suite: Path, checkpoint: Path, data: Path, output: Path, workers: int):
        words = ["evaluate", str(suite), "--checkpoint", str(checkpoint), "--data-dir", str(data)]
        self.words = [sys.executable, "-m", "sesame", *words, "--output", str(output), "--workers", str(workers)]
        self.log = output.with_suffix(".log")
        self.process: subprocess.Popen[bytes]

    def start(self) -> None:
        with self.log.open("ab") as log:
            environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
            self.process = subprocess.Popen(self.words, env=environment, stdout=log, stderr=subprocess.STDOUT)

    def keep_running(self) -> None:
        """Start the command again if the machine was too busy to start Ray; any other end is an error."""
        if self.process.poll() is not None:
            assert self.printed.splitlines()[-1].startswith("sesame: Ray did not start"), self.printed[-3000:]
            self.start()

    def run(self) -> str:
        self.start()
        assert self.process.wait() == 0, self.printed
        return self.printed

    @property
    def printed(self) -> str:
        return self.log.read_text(encoding="utf-8")

    @property
    def done(self) -> int:
        """Jobs whose results are there."""
        results = Path(self.words[-3]) / "results"
        return sum(not path.name.endswith(".test.json") for path in results.glob("*.json"))

    @property
    def descendants(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    @property
    def workers(self) -> list[psutil.Process]:
        found = []
        for each in self.descendants:
            try:
                found += [each] if "ray::_Worker" in " ".join(each.cmdline()) else []
            except psutil.Error:
                continue
        return found


def pruned(value: Any) -> Any:
    """JSON without what tells two runs of the same evaluation apart."""
    if isinstance(value, dict):
        return {key: pruned(each) for key, each in value.items() if key not in OF_ONE_RUN}
    return [pruned(each) for each in value] if isinstance(value, list) else value


def without_times(folder: Path) -> Any:
    """The report, the results and the predictions, but for times, and how many processes have computed them."""
    results = {}
    for path in sorted((folder / "results").glob("*.json")):
        results[path.name] = pruned(json.loads(path.read_text()))
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as arrays:
            results[path.stem] = {name: arrays[name].tolist() for name in arrays.files}
    predictions = {path.name: path.read_text() for path in (folder / "predictions").iterdir()}
    return pruned(json.loads((folder / "report.json").read_text())), results, predictions


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def end_all(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Wait for processes that have lost their driver; returns those that are alive after twenty seconds."""
    alive = psutil.wait_procs(processes, timeout=20)[1]
    return [each for each in alive if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture
def checkpoint(write_checkpoint: Callable[..., Path], tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "checkpoint")


@pytest.mark.slow
def test_kills_at_random_moments_change_nothing(checkpoint: Path, letters: Path, tmp_path: Path) -> None:
    """Half of the kills come when random numbers of jobs are done, each of the others some seconds after one of them,
    while driver or workers start again."""
    suite = tmp_path / "suite.toml"
    suite.write_text(SUITE.format(epochs=10))
    plain = Command(suite, checkpoint, letters, tmp_path / "plain", 0)
    assert "[30/30]" in plain.run()
    command = Command(suite, checkpoint, letters, tmp_path / "killed", WORKERS)
    draw, kills, orphans = random.Random(4), Counter[str](), []
    command.start()
    for number, done in enumerate(sorted([*draw.sample(range(24), KILLS // 2)] * 2)):
        while number % 2 == 0 and (command.done < done or not command.workers):
            command.keep_running()
            time.sleep(0.05)
        time.sleep(draw.uniform(0, 2.5 if number % 2 else 0.3))
        command.keep_running()
        kind = draw.choice(["driver", "worker"]) if command.workers else "driver"
        kills[kind] += 1
        if kind == "worker":
            draw.choice(command.workers).kill()
            continue
        others = command.descendants
        command.process.send_signal(signal.SIGKILL)
        command.process.wait()
        orphans += end_all(others)
        command.start()
    while command.process.wait():
        command.keep_running()
    assert kills.total() == KILLS and min(kills["driver"], kills["worker"]) >= 4 and not orphans, (kills, orphans)
    assert without_times(tmp_path / "killed") == without_times(tmp_path / "plain")
    assert names(tmp_path / "killed") == names(tmp_path / "plain"), "nothing is left of what was killed"
    computed = Counter(re.findall(r"\] (.+): \w+ -?[\d.]+ \([\d.]+ s", command.printed))
    assert len(computed) == 30 and set(computed.values()) == {1}, "no job was done twice"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_ends_driver_and_workers(checkpoint: Path, letters: Path, tmp_path: Path, number: int) -> None:
    suite = tmp_path / "suite.toml"
    suite.write_text(SUITE.format(epochs=10))
    command = Command(suite, checkpoint, letters, tmp_path / "out", WORKERS)
    command.start()
    while "/30] " not in command.printed:
        assert command.process.poll() is None, command.printed
        time.sleep(0.1)
    others = command.descendants
    command.process.send_signal(number)
    assert command.process.wait() == (130 if number == signal.SIGINT else 75)
    assert not end_all(others)
    assert command.printed.splitlines()[-1].endswith("run the same command again to resume")
    results = len(list((tmp_path / "out" / "results").glob("*.json")))
    assert 0 < results < 30
    shutil.copytree(tmp_path / "out" / "encoded", tmp_path / "before")
    assert "already computed" in command.run() and "[30/30]" in command.printed
    assert names(tmp_path / "before"), "the tasks were encoded once"
