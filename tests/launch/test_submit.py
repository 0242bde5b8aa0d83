"""Slurm scripts are rendered from a stage's file; jobs wait for each other; wrong requests are refused."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from sesame import configs
from sesame.configs.errors import ConfigError
from sesame.launch import submit

SHIPPED = Path(configs.__file__).parent
RUN, CORPUS, SUITE = (
    SHIPPED / stage / name
    for stage, name in (("pretrain", "demo.toml"), ("corpus", "demo.toml"), ("evaluation", "probe.toml"))
)
ALLOCATION = submit.Allocation(nodes=4, gpus_per_node=8, time="12:00:00")
CLUSTER = submit.ClusterConfig(
    partition="gpu",
    account="lab",
    options=("--exclusive",),
    srun_options=("--container-image=/images/a b.sqsh",),
    setup=("module load cuda",),
    variables={"NCCL_SOCKET_IFNAME": "ib 0"},
)


def rendered(file: Path, cluster: submit.ClusterConfig = CLUSTER, overrides: Sequence[str] = ()) -> str:
    (job,) = submit.jobs([file], overrides, 8, Path("run"), Path("tasks"))
    return submit.render(job, ALLOCATION, cluster, Path("/here"))


def test_a_script_is_valid_bash_with_all_that_a_job_needs(tmp_path: Path) -> None:
    script = rendered(RUN)
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
    for line in (
        "#SBATCH --nodes=4",
        "#SBATCH --ntasks-per-node=1",
        "#SBATCH --gpus-per-node=8",
        "#SBATCH --time=12:00:00",
        "#SBATCH --requeue",
        "#SBATCH --open-mode=append",
        "#SBATCH --signal=B:USR1@180",
        "#SBATCH --partition=gpu",
        "#SBATCH --account=lab",
        "#SBATCH --exclusive",
        "module load cuda",
        "export NCCL_SOCKET_IFNAME='ib 0'",
        "SRUN_OPTIONS=('--container-image=/images/a b.sqsh' --container-workdir=/here)",
        "OUTPUT=runs/demo/pretrain",
    ):
        assert line in script.splitlines()
    assert f"sesame pretrain {RUN} --processes 8)" in script


@pytest.mark.parametrize(("file", "nodes", "has_gpus"), [(CORPUS, 4, False), (RUN, 4, True), (SUITE, 1, True)])
def test_each_stage_gets_what_it_can_use(file: Path, nodes: int, has_gpus: bool) -> None:
    script = rendered(file)
    assert f"#SBATCH --nodes={nodes}\n" in script
    assert ("--gpus-per-node" in script) == has_gpus
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0


def test_a_suite_evaluates_the_run_before_it() -> None:
    chain = submit.jobs([CORPUS, RUN, SUITE], (), 1, None, Path("tasks"))
    assert [job.stage for job in chain] == ["prepare", "pretrain", "evaluate"]
    assert chain[2].command[3:5] == ("--checkpoint", "runs/demo/pretrain")


def test_a_suite_evaluates_the_nearest_run_before_it(tmp_path: Path) -> None:
    second = tmp_path / "second.toml"
    second.write_text(RUN.read_text().replace('"runs/demo/pretrain"', '"runs/second"'))
    chain = submit.jobs([RUN, second, SUITE], (), 1, None, Path("tasks"))
    assert chain[2].command[3:5] == ("--checkpoint", "runs/second")


def test_the_processors_that_are_asked_for_reach_every_stage() -> None:
    for job in submit.jobs([CORPUS, RUN, SUITE], (), 1, None, Path("tasks")):
        script = submit.render(job, ALLOCATION._replace(cpus_per_node=64), CLUSTER, Path("/here"))
        assert "#SBATCH --cpus-per-task=64\n" in script
        assert "cpus-per-task" not in submit.render(job, ALLOCATION, CLUSTER, Path("/here"))


def test_a_container_of_pyxis_starts_in_the_folder_of_the_job() -> None:
    chosen = submit.ClusterConfig(srun_options=("--container-image=a", "--container-workdir=/there"))
    assert "SRUN_OPTIONS=(--container-image=a --container-workdir=/there)" in rendered(RUN, chosen)
    assert "SRUN_OPTIONS=()" in rendered(RUN, submit.ClusterConfig())


def test_a_job_finds_the_program_that_submitted_it() -> None:
    line = f"PATH=$PATH:{Path(sys.executable).parent}"
    assert line in rendered(RUN, submit.ClusterConfig()).splitlines()
    assert line not in rendered(RUN, submit.ClusterConfig(container=("apptainer", "exec", "a.sif")))


@pytest.mark.parametrize(
    ("shown", "is_requeued"),
    [
        ("RUNNING None", True),
        ("SIGNALING None", True),
        ("COMPLETING TimeLimit", True),
        ("", True),
        ("COMPLETING None", False),
        ("CANCELLED None", False),
    ],
)
def test_a_stage_that_was_stopped_is_requeued_unless_its_job_was_cancelled(
    shown: str, is_requeued: bool, tmp_path: Path
) -> None:
    for name, line in {"squeue": f"echo '{shown}'", "scontrol": 'echo "asked: $*"', "sleep": ":"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    script = (submit.TEMPLATES / "stage.sh").read_text() + f"\nstage train {tmp_path}/run sh -c 'exit 75'"
    slurm = {"SLURM_JOB_ID": "7", "SLURM_NNODES": "1", "SLURM_CPUS_ON_NODE": "1"}
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"} | slurm
    done = subprocess.run(["bash", "-u"], input=script, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 75, done.stderr
    assert ("asked: requeue 7" in done.stdout) == is_requeued
    assert ("cancelled" in done.stdout) != is_requeued


def test_jobs_wait_for_each_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[list[str]] = []

    def sbatch(script: str, options: Sequence[str]) -> str:
        asked.append(list(options))
        return str(70 + len(asked))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(submit, "_sbatch", sbatch)
    lines = submit.submit(submit.jobs([CORPUS, RUN], (), 1), ALLOCATION, CLUSTER, dry_run=False)
    assert asked == [[], ["--dependency=afterok:71", "--kill-on-invalid-dep=yes"]]
    assert lines == ["job 71: prepare -> runs/demo/dataset", "job 72: pretrain -> runs/demo/pretrain after 71"]


@pytest.mark.parametrize(
    ("files", "overrides", "sentence"),
    [
        (["none.toml"], (), "none.toml: no such configuration file"),
        ([CORPUS, RUN], ("seed=1",), "--set and --output are for one file"),
        ([SUITE], (), "--data-dir"),
        (["other.toml"], (), "none of the sections"),
        ([CORPUS], ("tokenizer.size=1",), "demo.toml: unknown key 'tokenizer.size'"),
        ([RUN], ('steps="ten"',), "demo.toml: 'steps' = 'ten'"),
        ([RUN], ('optimiser.name="lamb"',), "unknown key 'optimiser'"),
    ],
)
def test_a_wrong_request_is_refused(files: list[Path], overrides: Sequence[str], sentence: str, tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text("a = 1")
    with pytest.raises(ConfigError, match=sentence):
        submit.jobs([tmp_path / file for file in files], overrides, 1)


def test_without_slurm_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="sbatch is not installed here"):
        submit.submit(submit.jobs([RUN], (), 1), ALLOCATION, CLUSTER, dry_run=False)


@pytest.mark.parametrize(
    ("file", "overrides", "output"),
    [
        (RUN, ('output="it\'s here"',), "it's here"),
        (SUITE, ("output=scores",), "scores"),
        (SUITE, (), "run/evaluation/probe"),
    ],
)
def test_the_output_is_the_one_that_the_command_writes(file: Path, overrides: Sequence[str], output: str) -> None:
    (job,) = submit.jobs([file], overrides, 1, Path("run"), Path("tasks"))
    assert job.output == Path(output)
    if file == SUITE:
        assert job.command[-2:] == ("--output", output)


@pytest.mark.parametrize("time", ["12h", "1:2:3:4", "ten", ""])
def test_a_time_that_slurm_does_not_take_is_refused(time: str) -> None:
    chain = submit.jobs([SHIPPED / "pretrain" / "demo.toml"], [], 1)
    with pytest.raises(ConfigError, match="--time"):
        submit.submit(chain, submit.Allocation(1, 0, time), submit.ClusterConfig(), dry_run=True)


def test_scripts_of_a_chain_are_told_apart() -> None:
    chain = submit.jobs([SHIPPED / "corpus" / "demo.toml", SHIPPED / "pretrain" / "demo.toml"], [], 1)
    lines = submit.submit(chain, submit.Allocation(1, 0, "1-12:00"), submit.ClusterConfig(), dry_run=True)
    assert lines[0].startswith("# Job 1 of 2: prepare -> ")
    assert lines[0].endswith(", submitted by sbatch")
    assert lines[2].startswith("# Job 2 of 2: pretrain -> ")
    assert lines[2].endswith(" sbatch --dependency=afterok:JOB1 --kill-on-invalid-dep=yes")


@pytest.mark.parametrize(
    ("nodes", "overrides", "sentence"),
    [
        (1, (), None),
        (2, ("parallel.tensor=4",), None),
        (
            3,
            (),
            r"demo.toml: data.global_batch \d+ does not divide by .* x 24 data-parallel processes = \d+; .*--nodes",
        ),
        (1, ("parallel.tensor=3",), "8 processes do not divide by parallel.tensor 3 x parallel.expert 1"),
        (1, ("parallel.expert=16",), "8 processes do not divide by parallel.tensor 1 x parallel.expert 16"),
        (1, ("data.micro_batch=5",), "demo.toml.*micro_batch"),
    ],
)
def test_a_run_that_its_processes_do_not_divide_is_refused(
    nodes: int, overrides: Sequence[str], sentence: str | None
) -> None:
    if sentence is None:
        assert submit.jobs([RUN], overrides, 8, nodes=nodes)
        return
    with pytest.raises(ConfigError, match=sentence):
        submit.jobs([RUN], overrides, 8, nodes=nodes)
