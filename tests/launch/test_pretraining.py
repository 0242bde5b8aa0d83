"""Starting several processes: ``launch/pretrain.sh`` as bash, as Python and under DeepSpeed's launcher."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sesame.launch import pretraining
from sesame.launch.processes import free_port

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")

LAUNCHERS = ("SLURM_", "DS_", "MASTER_", "NNODES", "NODE_RANK", "RANK", "LOCAL_", "WORLD_SIZE", "CROSS_")
"""Prefixes of environment variables that a launcher or a run in this process sets."""

STUB = f"""
import os, pathlib, sys
sys.path[0] = {str(pretraining.SCRIPT.parents[1])!r}
from sesame.launch import pretraining

def train(run, overrides):
    line = f"rank {{os.environ.get('RANK')}} of {{os.environ.get('WORLD_SIZE')}} got {{run}} {{overrides}}"
    os.write(1, line.encode() + bytes([10]))  # in one piece, because the processes share one pipe
    return 0

pretraining.SCRIPT, pretraining.train = pathlib.Path(__file__), train
pretraining.main()
"""


@pytest.fixture
def stub(tmp_path: Path) -> Path:
    """The launch script with a training that prints its rank and arguments."""
    shell, _, _ = pretraining.SCRIPT.read_text(encoding="utf-8").partition('":"""\n')
    script = tmp_path / "pretrain.sh"
    script.write_text(f'{shell}":"""\n{STUB}', encoding="utf-8")
    return script


def run(*words: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    keep = {key: value for key, value in os.environ.items() if not key.startswith(LAUNCHERS)}
    return subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env={**keep, "SESAME_PYTHON": sys.executable, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_both_halves_parse() -> None:
    text = pretraining.SCRIPT.read_text(encoding="utf-8")
    compile(text, "pretrain.sh", "exec")
    shell = text.partition('":"""\n')[0]
    assert subprocess.run(["bash", "-n"], input=shell, text=True, check=False).returncode == 0


def test_bash_starts_as_many_processes_as_asked(stub: Path, tmp_path: Path) -> None:
    result = run("bash", stub, "--config", "a b.toml", "--processes", "2", "--set", "x=1", cwd=tmp_path)
    lines = sorted(line for line in result.stdout.splitlines() if line.startswith("rank"))
    words = "a b.toml ['x=1']"
    assert lines == [f"rank 0 of 2 got {words}", f"rank 1 of 2 got {words}"], result.stderr


def test_one_process_is_not_supervised(stub: Path, tmp_path: Path) -> None:
    result = run("bash", stub, "--config", "run.toml", cwd=tmp_path, CUDA_VISIBLE_DEVICES="")
    assert result.stdout == "rank None of None got run.toml []\n", result.stderr


def test_torchrun_starts_it(stub: Path, tmp_path: Path) -> None:
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--master-port",
        str(free_port()),
    ]
    result = run(*launcher, stub, "--config", "run.toml", cwd=tmp_path)
    assert sorted(result.stdout.splitlines()) == [f"rank {rank} of 2 got run.toml []" for rank in (0, 1)], result.stderr


def test_deepspeed_starts_it_as_typed(stub: Path, tmp_path: Path) -> None:
    launcher = [sys.executable, "-m", "deepspeed.launcher.runner", "--master_port", str(free_port())]
    result = run(*launcher, stub, "--config", "run.toml", cwd=tmp_path)
    assert "rank 0 of" in result.stdout, result.stderr


def test_several_machines_without_ssh(stub: Path, tmp_path: Path) -> None:
    """The second of two machines starts its own two processes only, with the ranks that follow the first's."""
    environment = {"NNODES": "2", "NODE_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29615"}
    result = run("bash", stub, "--config", "run.toml", "--processes", "2", cwd=tmp_path, **environment)
    lines = sorted(line for line in result.stdout.splitlines() if line.startswith("rank"))
    assert lines == ["rank 2 of 4 got run.toml []", "rank 3 of 4 got run.toml []"], result.stderr


@pytest.mark.parametrize("environment", [{}, {"MASTER_ADDR": "127.0.0.1"}, {"NODE_RANK": "1"}])
def test_several_machines_need_an_address_and_a_rank(stub: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    words = ["--config", "run.toml", "--processes", "2"]
    result = run("bash", stub, *words, cwd=tmp_path, NNODES="2", **environment)
    assert result.returncode == 2
    assert "2 machines need" in result.stderr


def test_a_configuration_error_is_one_sentence_and_code_2(tmp_path: Path) -> None:
    words = ["--config", tmp_path / "no.toml", "--processes", "2"]
    result = run("bash", pretraining.SCRIPT, *words, cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    assert result.stderr.count("no such configuration file") == 1
    assert len(result.stderr.splitlines()) == 1
