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
from typing import Any, NamedTuple

import pytest

from tests.launch.conftest import TINY_BERT
from tests.launch.slurm_cluster import kill_node, slurm, start_node, why_not

pytestmark = [pytest.mark.slow, pytest.mark.skipif(why_not() is not None, reason=why_not() or "")]
ROOT = Path(__file__).parents[2]
SMALL = (
    "source.limit_megabytes=1.5",
    "shards.validation_fraction=0.4",
    "workers.count=1",
    "tokenizer.vocabulary_size=2048",
)
STEPS = 3000
"""Some ten seconds on two quiet cores: a run must not end before it is interrupted."""
INTERRUPTIONS = 3
RUN = f"""
output = "run"
steps = {STEPS}
[data]
dataset = "dataset"
global_batch = 16
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
save_every_steps = 100
"""
Submit = Callable[..., list[str]]


class Undisturbed(NamedTuple):
    """A run that nothing has interrupted."""

    losses: dict[int, dict[str, float]]
    starting: float
    """Seconds from the start of the job until the first step is reported."""
    training: float
    """Seconds from the first step to the last one."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("slurm")
    (made / "run.toml").write_text(RUN + TINY_BERT)
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


@pytest.fixture(scope="module")
def submitted(folder: Path, cluster: dict[str, str]) -> Submit:
    def run(*words: str) -> list[str]:
        command = [sys.executable, "-m", "sesame", "submit", *words, "--time", "30"]
        result = subprocess.run(command, cwd=folder, env=cluster, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        return [line.split()[1].rstrip(":") for line in result.stdout.splitlines()]

    return run


def shown(field: str, job: str, cluster: dict[str, str]) -> str:
    """What Slurm shows of a job."""
    words = ["scontrol", "--oneliner", "show", "job", job]
    fields = subprocess.run(words, env=cluster, capture_output=True, text=True, check=True).stdout.split()
    return next(each.partition("=")[2] for each in fields if each.startswith(f"{field}="))


def state(job: str, cluster: dict[str, str]) -> str:
    return shown("JobState", job, cluster)


def wait(job: str, cluster: dict[str, str], *, until: tuple[str, ...] = ("COMPLETED",)) -> None:
    for _ in range(600):
        now = state(job, cluster)
        if now in until:
            return
        assert now not in ("FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"), now
        time.sleep(1)
    raise AssertionError(f"job {job} is still {now}")


def wait_for_attempt(number: int, job: str, cluster: dict[str, str]) -> None:
    """Wait until a job runs that was requeued so often; the attempt before it may take long to stop."""
    for _ in range(600):
        if (shown("Restarts", job, cluster), state(job, cluster)) == (str(number), "RUNNING"):
            return
        time.sleep(0.2)
    raise AssertionError(f"job {job} has not begun attempt {number} but is {state(job, cluster)}")


def logs(folder: Path) -> str:
    return "\n".join(path.read_text() for path in sorted((folder / "logs").glob("*.log")))


def tensors(output: Path) -> dict[str, str]:
    """Hash of each file of weights and optimizer state of the last checkpoint."""
    newest = max((output / "checkpoints").iterdir())
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in newest.rglob("*.safetensors")}


def rows(output: Path) -> list[dict[str, Any]]:
    """Reports of training; a line that is being written is left out."""
    lines = (output / "metrics.jsonl").read_text().rpartition("\n")[0].splitlines()
    return [row for row in map(json.loads, lines) if "train" in row]


def losses(output: Path) -> dict[int, dict[str, float]]:
    return {row["step"]: row["train"] for row in rows(output)}


@pytest.fixture(scope="module")
def undisturbed(submitted: Submit, folder: Path, cluster: dict[str, str]) -> Undisturbed:
    """Prepare the dataset on both nodes, and train."""
    changes = [word for change in SMALL for word in ("--set", change)]
    (job,) = submitted(str(ROOT / "configs/corpus/demo.toml"), "--nodes", "2", "--output", "dataset", *changes)
    wait(job, cluster)
    assert "Ray: 2 of 2 machines" in logs(folder), logs(folder)
    (job,) = submitted("run.toml", "--nodes", "2")
    wait(job, cluster, until=("RUNNING",))
    start = time.monotonic()
    wait(job, cluster)
    seconds = time.monotonic() - start
    first, *_, last = rows(folder / "run")
    training = last["seconds"] - first["seconds"]
    print(f"undisturbed: {seconds:.1f} s, of which {training:.1f} s from the first step to the last", flush=True)
    return Undisturbed(losses(folder / "run"), seconds - training, training)


def test_text_becomes_a_score_on_two_nodes(
    submitted: Submit, folder: Path, cluster: dict[str, str], undisturbed: Undisturbed
) -> None:
    assert " on 2 x cpu " in logs(folder)
    assert max(undisturbed.losses) == STEPS
    words = [sys.executable, "-m", "sesame", "probe-tasks", "dataset", "tasks"]
    subprocess.run(words, cwd=folder, env=cluster, check=True, capture_output=True)
    suite = ["evaluation/probe", "--checkpoint", "run", "--data-dir", "tasks", "--output", "scores"]
    changes = ["--set", "suite.tasks=['WordsKept']", "--set", "suite.seeds=[1]", "--set", "finetune.epochs=1"]
    (job,) = submitted(*suite, *changes)
    wait(job, cluster)
    assert "WordsKept" in (folder / "scores" / "report.md").read_text()


@pytest.mark.parametrize("seed", range(int(os.environ.get("SESAME_SLURM_RUNS", "2"))))
def test_requeued_at_random_moments_it_ends_as_undisturbed(
    seed: int, submitted: Submit, folder: Path, cluster: dict[str, str], undisturbed: Undisturbed
) -> None:
    """Signals as before a time limit, and requeues by a person, which kill after KillWait.

    Each attempt gets less than a share of the training, so that none ends before it is interrupted.
    """
    draw = random.Random(seed)
    output = f"run-{seed}"
    (job,) = submitted("run.toml", "--nodes", "2", "--output", output)
    for number in range(INTERRUPTIONS):
        wait_for_attempt(number, job, cluster)
        # Bash needs a moment until it answers signals.
        delay = draw.uniform(2, 2 + undisturbed.starting + undisturbed.training / (INTERRUPTIONS + 1))
        time.sleep(delay)
        words = draw.choice([["scancel", "--batch", "--signal=USR1", job], ["scontrol", "requeue", job]])
        done = max(losses(folder / output), default=0) if (folder / output / "metrics.jsonl").exists() else 0
        print(f"interruption {number} after {delay:.1f} s, at step {done}: {' '.join(words)}", flush=True)
        assert state(job, cluster) == "RUNNING"
        subprocess.run(words, env=cluster, check=True, capture_output=True)
    wait_for_attempt(INTERRUPTIONS, job, cluster)
    wait(job, cluster)
    assert losses(folder / output) == undisturbed.losses
    assert tensors(folder / output) == tensors(folder / "run")


def test_tasks_that_would_train_alone_are_refused(folder: Path, cluster: dict[str, str]) -> None:
    words = ["srun", "--nodes=1", "--ntasks=2", "--overcommit", sys.executable, "-m", "sesame", "pretrain", "run.toml"]
    result = subprocess.run(words, cwd=folder, env=cluster, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "SLURM_NTASKS" in result.stderr


def staged(name: str, command: str, folder: Path, cluster: dict[str, str], *options: str) -> str:
    """Submit a job whose stage is a command of the shell -> its number; the output is in NAME.log."""
    stage = (ROOT / "launch" / "slurm" / "stage.sh").read_text()
    header = "".join(
        f"#SBATCH {each}\n" for each in ("--requeue", "--open-mode=append", f"--output={name}.log", *options)
    )
    script = f"#!/bin/bash\n{header}{stage}\nstage {name} {name} {command}\n"
    words = ["sbatch", "--parsable"]
    done = subprocess.run(words, input=script, cwd=folder, env=cluster, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_job_that_makes_no_progress_is_not_requeued(folder: Path, cluster: dict[str, str]) -> None:
    wait(staged("idle", 'bash -c "exit 75"', folder, cluster), cluster, until=("FAILED",))
    text = (folder / "idle.log").read_text()
    assert text.count("requeued") == 3
    assert "two attempts have finished nothing" in text


STOPS = """bash -c 'trap "exit 75" USR1 TERM; touch started-$SLURM_JOB_ID-$SLURM_RESTART_COUNT; sleep 300 & wait'"""
"""A command that answers signals as a stage does."""


def wait_for(path: Path) -> None:
    for _ in range(2400):
        if path.exists():
            return
        time.sleep(0.1)
    raise AssertionError(f"{path.name} does not appear")


def test_a_cancelled_job_is_not_started_again(folder: Path, cluster: dict[str, str]) -> None:
    job = staged("cancelled", f"srun {STOPS}", folder, cluster, "--nodes=1")
    wait_for(folder / f"started-{job}-")
    subprocess.run(["scancel", job], env=cluster, check=True)
    for _ in range(60):
        if state(job, cluster) == "CANCELLED":
            break
        time.sleep(0.5)
    time.sleep(2)
    assert (state(job, cluster), shown("Restarts", job, cluster)) == ("CANCELLED", "0")
    assert "exit code 75" in (folder / "cancelled.log").read_text()


def test_a_job_whose_time_ends_is_requeued(folder: Path, cluster: dict[str, str]) -> None:
    """With Slurm's signal before the end, and when only the end itself stops it."""
    options = {"early": ("--signal=B:USR1@45",), "late": ()}
    jobs = {
        name: staged(name, f"srun {STOPS}", folder, cluster, "--nodes=1", "--time=1", *each)
        for name, each in options.items()
    }
    for name, job in jobs.items():
        wait_for(folder / f"started-{job}-1")
        subprocess.run(["scancel", job], env=cluster, check=True)
        assert ("TIME LIMIT" in (folder / f"{name}.log").read_text()) == (name == "late")


def test_a_run_goes_on_after_a_node_was_killed(
    submitted: Submit, folder: Path, cluster: dict[str, str], undisturbed: Undisturbed
) -> None:
    (job,) = submitted("run.toml", "--nodes", "2", "--output", "run-killed")
    metrics = folder / "run-killed" / "metrics.jsonl"
    for _ in range(3000):
        if metrics.exists() and max(losses(metrics.parent), default=0) > 130:
            break
        time.sleep(0.05)
    kill_node("n2", cluster)
    print(f"the node was killed after step {max(losses(metrics.parent))}", flush=True)
    wait(job, cluster, until=("PENDING", "REQUEUED"))
    assert max(losses(metrics.parent)) < STEPS
    node = start_node("n2", cluster)
    try:
        wait(job, cluster)
    finally:
        node.terminate()
        node.wait()
    assert "restart 1" in logs(folder).rpartition("run-killed")[2]
    assert losses(metrics.parent) == undisturbed.losses
    assert tensors(metrics.parent) == tensors(folder / "run")
