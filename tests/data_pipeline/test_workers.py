"""Workers on an existing Ray cluster: the same bytes, also after the loss of a machine, and connection errors."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sesame import configs
from sesame.configs.errors import ConfigError, DatasetError
from sesame.data_pipeline import cluster as cluster_module
from sesame.data_pipeline import workers
from sesame.data_pipeline.examples import balance
from sesame.data_pipeline.ledger import Ledger
from sesame.data_pipeline.prepare import RESULTS, CorpusConfig, prepare
from sesame.data_pipeline.workers import Workers, WorkersConfig


class RunningCluster:
    """The process of ``cluster_process.py``."""

    def __init__(self, folder: Path):
        words = [sys.executable, str(Path(__file__).with_name("cluster_process.py"))]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        log = (folder / "cluster.log").open("w")
        self.process = subprocess.Popen(
            words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
        )
        self.address = self._read("address")

    def lose_a_machine(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self._read("removed")

    def end(self) -> None:
        self.process.communicate()

    def _read(self, word: str) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(word):
                return line.removeprefix(word).strip()
        raise AssertionError("the cluster has ended")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCluster]:
    started = RunningCluster(tmp_path_factory.mktemp("cluster"))
    yield started
    started.end()


def config(output: Path, folder: Path, **section: Any) -> CorpusConfig:
    values = {
        "output": str(output),
        "source": {"kind": "json_lines", "paths": [str(folder)]},
        "tokenizer": {"vocabulary_size": 300},
        "segment": {"sequence_length": 48},
        "shards": {"rows_per_shard": 300, "validation_fraction": 0.1},
        "workers": {"count": 2, **section},
    }
    return configs.parse(values, CorpusConfig, "the test's corpus")


@pytest.fixture
def folder(corpus: Path, tmp_path: Path) -> Path:
    """The corpus in twelve files, so that there are many jobs."""
    lines = corpus.read_text(encoding="utf-8").splitlines(keepends=True)
    found = tmp_path / "text"
    found.mkdir()
    for number in range(12):
        (found / f"{number:02d}.jsonl").write_text("".join(lines[number::12]), encoding="utf-8")
    return found


def content(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


@pytest.mark.slow
def test_loss_of_a_machine_does_not_change_the_bytes(
    cluster: RunningCluster, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(balance, "GROUP_CHARACTERS", 1)
    whole = content(prepare(config(tmp_path / "whole", folder), tmp_path / "whole"))
    ledger = tmp_path / "dataset.partial" / "work" / "ledger"
    lost: list[int] = []

    def lose() -> None:
        """Remove a machine when some of the examples are finished and others are not."""
        while not (made := len(list(ledger.glob("make-examples-*.json")))) and not over.is_set():
            time.sleep(0.002)
        cluster.lose_a_machine()
        lost.append(made)

    over = threading.Event()
    thread = threading.Thread(target=lose)
    thread.start()
    output = tmp_path / "dataset"
    try:
        prepare(config(output, folder, address=cluster.address), output)
    finally:
        over.set()
        thread.join()
    assert 0 < lost[0] < 12
    assert content(output) == whole


def test_a_job_with_lost_values_is_repeated_a_limited_number_of_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    intact, losses = workers._result, iter(range(3))

    def loses(reference: Any) -> Any:
        if next(losses, None) is not None:
            raise workers.ObjectLostError(reference.hex(), None, "")
        return intact(reference)

    monkeypatch.setattr(workers, "_result", loses)
    with Workers(WorkersConfig(count=1), Console(), Ledger(tmp_path, RESULTS)) as started:
        assert started.map("a stage", os.path.basename, [("a/b",), ("c/d",), ("e/f",)]) == ["b", "d", "f"]
        assert next(losses, None) is None
        monkeypatch.setattr(workers, "RETRIES", 1)
        losses = iter(range(100))
        with pytest.raises(workers.ObjectLostError):
            started.map("another stage", os.path.basename, [("a/b",)])


def join(address: str, folder: Path) -> None:
    with Workers(WorkersConfig(address=address), Console(), Ledger(folder, RESULTS)):
        pass


def test_an_address_without_a_cluster_is_rejected(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(ConfigError, match=rf"{address}: no Ray cluster answers there .*workers.address empty"):
            join(address, tmp_path)


@pytest.mark.parametrize("address", ["ray://host:1", "host", "host:port", "a b:1"])
def test_an_invalid_address_is_rejected(address: str) -> None:
    with pytest.raises(ConfigError, match=r"'workers\.address'"):
        config(Path("output"), Path("text"), address=address)


def test_a_machine_without_access_to_the_folder_is_reported(
    cluster: RunningCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_module, "_exists", lambda path: os.path.exists(path + "-elsewhere"))
    with pytest.raises(DatasetError, match=r"cannot be seen by machine [\d.]+ of the Ray cluster; put --output on"):
        join(cluster.address, tmp_path)
    assert not list(tmp_path.iterdir())
    assert not workers.ray.is_initialized()


def test_a_machine_without_sesame_is_reported(
    cluster: RunningCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def imports(path: str) -> bool:
        raise ModuleNotFoundError("No module named 'data_pipeline'")

    monkeypatch.setattr(cluster_module, "_exists", imports)
    with pytest.raises(ConfigError, match=r"machine [\d.]+ of .* cannot run Sesame \(.*No module named"):
        join(cluster.address, tmp_path)


@pytest.mark.slow
def test_a_wrong_token_is_reported_in_one_sentence(cluster: RunningCluster, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "corpus.toml"
    values = configs.dump(config(tmp_path / "dataset", folder, address=cluster.address))
    path.write_text(
        f"output = '{values['output']}'\n[source]\nkind = 'json_lines'\npaths = ['{folder}']\n"
        f"[workers]\naddress = '{cluster.address}'\n"
    )
    environment = os.environ | {"RAY_AUTH_TOKEN": "0" * 64, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    words = [sys.executable, "-m", "sesame", "prepare", str(path)]
    ended = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    message = f"sesame: workers.address {cluster.address}: the Ray cluster refused"
    assert ended.stderr.splitlines()[-1].startswith(message)
    assert "set RAY_AUTH_TOKEN" in ended.stderr
