"""`sesame submit` on a real Slurm of two nodes, which is started here where it is installed."""

import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.launch.slurm_cluster import kill_node, slurm, start_node, why_not

pytestmark = [pytest.mark.slow, pytest.mark.skipif(why_not() is not None, reason=why_not() or "")]
ROOT = Path(__file__).parents[2]
SMALL = (
    "source.limit_megabytes=1.5",
    "shards.validation_fraction=0.4",
    "workers.count=1",
    "tokenizer.vocabulary_size=2048",
)
RUN = """
output = "run"
steps = 60
[data]
dataset = "dataset"
global_batch = 16
[model]
family = "bert"
layers = 1
width = 32
heads = 2
feed_forward_width = 64
positions = 128
[objectives]
masked_lm = 1.0
[optimizer]
name = "adamw"
learning_rate = 1e-3
[parallel]
precision = "fp32"
[report]
every_steps = 1
validation_rows = 64
[checkpoint]
save_every_steps = 20
"""
Submit = Callable[..., list[str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("slurm")
    (made / "run.toml").write_text(RUN)
    return made


@pytest.fixture(scope="module")
def cluster(folder: Path) -> Iterator[dict[str, str]]:
    (folder / "daemons").mkdir()
    drop = ("RANK", "WORLD_SIZE", "LOCAL_", "MASTER_", "SLURM_", "NUMBA_CACHE")
    with slurm(folder / "daemons") as environment:
        kept = {name: value for name, value in environment.items() if not name.startswith(drop)}
        slurm_variables = {"SLURM_CONF": environment["SLURM_CONF"]}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        yield {**kept, **slurm_variables, "PYTHONPATH": str(ROOT), "PATH": path, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def submitted(folder: Path, cluster: dict[str, str]) -> Submit:
    def run(*words: str) -> list[str]:
        command = [sys.executable, "-m", "sesame", "submit", *words, "--time", "30"]
        result = subprocess.run(command, cwd=folder, env=cluster, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        return [line.split()[1].rstrip(":") for line in result.stdout.splitlines()]

    return run


def state(job: str, cluster: dict[str, str]) -> str:
    words = ["scontrol", "--oneliner", "show", "job", job]
    fields = subprocess.run(words, env=cluster, capture_output=True, text=True, check=True).stdout.split()
    return next(field.partition("=")[2] for field in fields if field.startswith("JobState="))


def wait(job: str, cluster: dict[str, str], *, until: tuple[str, ...] = ("COMPLETED",)) -> None:
    for _ in range(600):
        now = state(job, cluster)
        if now in until:
            return
        assert now not in ("FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"), now
        time.sleep(1)
    raise AssertionError(f"job {job} is still {now}")


def logs(folder: Path) -> str:
    return "\n".join(path.read_text() for path in sorted((folder / "logs").glob("*.log")))


def tensors(output: Path) -> dict[str, str]:
    """Hash of each file of weights and optimizer state of the last checkpoint."""
    newest = max((output / "checkpoints").iterdir())
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in newest.rglob("*.safetensors")}


def losses(output: Path) -> dict[int, dict[str, float]]:
    rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: row["train"] for row in rows if "train" in row}


def test_text_becomes_a_score_on_two_nodes(submitted: Submit, folder: Path, cluster: dict[str, str]) -> None:
    changes = [word for change in SMALL for word in ("--set", change)]
    (job,) = submitted(str(ROOT / "configs/corpus/demo.toml"), "--nodes", "2", "--output", "dataset", *changes)
    wait(job, cluster)
    assert "Ray: 2 of 2 machines" in logs(folder), logs(folder)
    (job,) = submitted("run.toml", "--nodes", "2")
    wait(job, cluster)
    assert " on 2 x cpu " in logs(folder)
    assert max(losses(folder / "run")) == 60
    words = [sys.executable, "-m", "sesame", "probe-tasks", "dataset", "tasks"]
    subprocess.run(words, cwd=folder, env=cluster, check=True, capture_output=True)
    suite = ["evaluation/probe", "--checkpoint", "run", "--data-dir", "tasks", "--output", "scores"]
    changes = ["--set", "suite.tasks=['WordsKept']", "--set", "suite.seeds=[1]", "--set", "finetune.epochs=1"]
    (job,) = submitted(*suite, *changes)
    wait(job, cluster)
    assert "WordsKept" in (folder / "scores" / "report.md").read_text()


@pytest.fixture(scope="module")
def undisturbed(folder: Path) -> dict[int, dict[str, float]]:
    """Losses of the run that the first test trains."""
    return losses(folder / "run")


@pytest.mark.parametrize("seed", range(int(os.environ.get("SESAME_SLURM_RUNS", "2"))))
def test_requeued_at_random_moments_it_ends_as_undisturbed(
    seed: int, submitted: Submit, folder: Path, cluster: dict[str, str], undisturbed: dict[int, dict[str, float]]
) -> None:
    """Signals as before a time limit, and requeues by a person, which kill after KillWait."""
    draw = random.Random(seed)
    output = f"run-{seed}"
    (job,) = submitted("run.toml", "--nodes", "2", "--output", output)
    for number in range(3):
        wait(job, cluster, until=("RUNNING", "COMPLETED"))
        time.sleep(draw.uniform(2, 25))
        if state(job, cluster) != "RUNNING":
            break
        words = draw.choice([["scancel", "--batch", "--signal=USR1", job], ["scontrol", "requeue", job]])
        print(f"job {job}, interruption {number}: {' '.join(words)}", flush=True)
        subprocess.run(words, env=cluster, check=False, capture_output=True)
        time.sleep(3)
    wait(job, cluster)
    assert losses(folder / output) == undisturbed
    assert tensors(folder / output) == tensors(folder / "run")


def test_tasks_that_would_train_alone_are_refused(folder: Path, cluster: dict[str, str]) -> None:
    words = ["srun", "--nodes=1", "--ntasks=2", "--overcommit", sys.executable, "-m", "sesame", "pretrain", "run.toml"]
    result = subprocess.run(words, cwd=folder, env=cluster, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "SLURM_NTASKS" in result.stderr


def test_a_job_that_makes_no_progress_is_not_requeued(folder: Path, cluster: dict[str, str]) -> None:
    stage = (ROOT / "launch" / "slurm" / "stage.sh").read_text()
    script = f"#!/bin/bash\n#SBATCH --requeue\n#SBATCH --open-mode=append\n#SBATCH --output=idle.log\n{stage}\n"
    script += 'stage idle idle bash -c "exit 75"\n'
    result = subprocess.run(
        ["sbatch", "--parsable"], input=script, cwd=folder, env=cluster, capture_output=True, text=True, check=True
    )
    wait(result.stdout.strip(), cluster, until=("FAILED",))
    text = (folder / "idle.log").read_text()
    assert text.count("requeued") == 3
    assert "two attempts have finished nothing" in text


def test_a_run_goes_on_after_a_node_was_killed(submitted: Submit, folder: Path, cluster: dict[str, str]) -> None:
    long = ["run.toml", "--nodes", "2", "--set", "steps=6000"]
    (job,) = submitted(*long, "--output", "run-long")
    wait(job, cluster)
    (job,) = submitted(*long, "--output", "run-killed")
    metrics = folder / "run-killed" / "metrics.jsonl"
    for _ in range(1200):
        if metrics.exists() and max(losses(metrics.parent), default=0) > 30:
            break
        time.sleep(0.1)
    kill_node("n2", cluster)
    wait(job, cluster, until=("PENDING", "REQUEUED"))
    node = start_node("n2", cluster)
    try:
        wait(job, cluster)
    finally:
        node.terminate()
        node.wait()
    assert "restart 1" in logs(folder).rpartition("run-killed")[2]
    assert losses(folder / "run-killed") == losses(folder / "run-long")
    assert tensors(folder / "run-killed") == tensors(folder / "run-long")
