"""``launch/pretrain.sh`` as a bash script, as a Python script and with DeepSpeed's launcher."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from launch import pretraining

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")

LAUNCHERS = ("SLURM_", "DS_", "MASTER_", "NNODES", "NODE_RANK", "RANK", "LOCAL_", "WORLD_SIZE", "CROSS_")
"""Prefixes of the environment variables that a launcher, or a run in this process, sets."""

RANK_SCRIPT = """
import os, sys
line = f"rank {os.environ['RANK']} of {os.environ['WORLD_SIZE']} got {sys.argv[2:]}\\n"
os.write(1, line.encode())  # one write, because the processes share one pipe
"""


@pytest.fixture
def stub(tmp_path: Path) -> Path:
    """The launch script, with its Python part replaced by one that prints its rank and arguments."""
    shell, _, _ = pretraining.SCRIPT.read_text(encoding="utf-8").partition('":"""\n')
    script = tmp_path / "pretrain.sh"
    script.write_text(f'{shell}":"""\n{RANK_SCRIPT}', encoding="utf-8")
    return script


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(LAUNCHERS)}
    return subprocess.run(
        [str(argument) for argument in command],
        cwd=cwd,
        env={**inherited, "SESAME_PYTHON": sys.executable, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_script_is_valid_bash_and_python() -> None:
    text = pretraining.SCRIPT.read_text(encoding="utf-8")
    compile(text, "pretrain.sh", "exec")
    shell = text.partition('":"""\n')[0]
    assert subprocess.run(["bash", "-n"], input=shell, text=True, check=False).returncode == 0


def test_bash_starts_the_given_number_of_processes(stub: Path, tmp_path: Path) -> None:
    result = run("bash", stub, "--config", "a b.toml", "--processes", "2", "--set", "x=1", cwd=tmp_path)
    printed = sorted(line for line in result.stdout.splitlines() if line.startswith("rank"))
    arguments = "['--config', 'a b.toml', '--set', 'x=1']"
    assert printed == [f"rank 0 of 2 got {arguments}", f"rank 1 of 2 got {arguments}"], result.stderr


def test_the_deepspeed_launcher_starts_the_script(stub: Path, tmp_path: Path) -> None:
    launcher = [sys.executable, "-m", "deepspeed.launcher.runner", "--master_port", "29614"]
    result = run(*launcher, stub, "--config", "run.toml", cwd=tmp_path)
    assert "rank 0 of" in result.stdout, result.stderr


def test_several_machines_without_ssh(stub: Path, tmp_path: Path) -> None:
    """The second of two machines starts its two processes, with the ranks after those of the first machine."""
    environment = {"NNODES": "2", "NODE_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29615"}
    result = run("bash", stub, "--processes", "2", cwd=tmp_path, **environment)
    printed = sorted(line for line in result.stdout.splitlines() if line.startswith("rank"))
    assert printed == ["rank 2 of 4 got []", "rank 3 of 4 got []"], result.stderr


@pytest.mark.parametrize("environment", [{}, {"MASTER_ADDR": "127.0.0.1"}, {"NODE_RANK": "1"}])
def test_several_machines_need_an_address_and_a_rank(stub: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    result = run("bash", stub, "--processes", "2", cwd=tmp_path, NNODES="2", **environment)
    assert result.returncode == 2
    assert "MASTER_ADDR" in result.stderr


def test_a_user_error_is_one_sentence_and_exit_code_2(tmp_path: Path) -> None:
    arguments = ["--config", tmp_path / "no.toml", "--processes", "1"]
    result = run("bash", pretraining.SCRIPT, *arguments, cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    assert "no such configuration file" in result.stderr
    assert "Traceback" not in result.stderr
