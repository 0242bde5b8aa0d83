"""``sesame submit``: a stage's file -> a Slurm script -> a job; several files are jobs that wait for each other."""

import importlib
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field

from sesame import configs
from sesame.configs import Section
from sesame.configs.errors import ConfigError, package_error

TEMPLATES = Path(__file__).resolve().with_name("slurm")
STAGES = {"source": "prepare", "model": "pretrain", "suite": "evaluate"}
"""The section that only files of this stage have."""
CLASSES = {
    "prepare": ("sesame.data_pipeline.config", "CorpusConfig"),
    "pretrain": ("sesame.pretrain.config", "RunConfig"),
    "evaluate": ("sesame.evaluation.config", "EvaluationConfig"),
}
"""Stage -> module and name of the class of its files."""


class ClusterConfig(Section):
    """The habits of a cluster, written once for all jobs."""

    partition: str = ""
    account: str = ""
    qos: str = ""
    options: tuple[str, ...] = ()
    """Further options of sbatch, such as "--exclusive" or "--constraint=a100"."""
    srun_options: tuple[str, ...] = ()
    """Further options of srun; of pyxis for example "--container-image=IMAGE.sqsh" and "--container-mounts=DIR:DIR"."""
    setup: tuple[str, ...] = ()
    """Commands of the shell before the first stage, such as "module load cuda" or ". /shared/venv/bin/activate"."""
    container: tuple[str, ...] = ()
    """Words before each command, such as ["apptainer", "exec", "--nv", "/shared/sesame.sif"]."""
    variables: dict[str, str] = Field(default_factory=dict)
    """Environment variables, such as NCCL_SOCKET_IFNAME."""
    signal_seconds: int = Field(default=180, gt=0)
    """Slurm sends its signal so long before the end of a job's time: time for a step and two checkpoints."""
    log_folder: str = "logs"
    """Folder for the output of the jobs."""


TIME = re.compile(r"\d+|\d+:\d\d(:\d\d)?|\d+-\d+(:\d\d){0,2}")


class Allocation(NamedTuple):
    """What a job asks for."""

    nodes: int
    gpus_per_node: int
    time: str
    """As sbatch takes it: minutes, HH:MM:SS or D-HH:MM."""
    cpus_per_node: int = 0
    """Processors on each machine; 0: what the cluster gives, which may be one."""


class Job(NamedTuple):
    """One stage as a Slurm job."""

    stage: str
    output: Path
    command: tuple[str, ...]


def jobs(
    files: Sequence[Path],
    overrides: Sequence[str],
    processes: int,
    checkpoint: Path | None = None,
    data_dir: Path | None = None,
    nodes: int = 1,
) -> list[Job]:
    """The jobs of configuration files, in their order.

    Args:
        overrides: for ``--set``, of a single file.
        processes: trainers on each node, or workers of a suite that does not say how many.
        checkpoint: what a suite evaluates; None: what the file before it trains.
        data_dir: the tasks of a suite.
        nodes: machines of each job.

    Raises:
        ConfigError: a file does not exist, is for no stage or has a wrong value, something that it needs is not given,
            or a run cannot be divided over its processes.
    """
    if overrides and len(files) > 1:
        raise ConfigError(
            "--set and --output are for one file; write what differs into copies of the files, or submit one by one"
        )
    found: list[Job] = []
    for file in files:
        values = configs.read(file)
        for override in overrides:
            configs.apply_override(values, override)
        stage = _stage_of(file, values)
        _check_values(file, values, stage)
        trained = checkpoint or next((each.output for each in reversed(found) if each.stage == "pretrain"), None)
        output = values.get("output")
        if stage == "evaluate":
            if trained is None or data_dir is None:
                raise ConfigError(f"{file}: is evaluated with --data-dir, and --checkpoint or a training before it")
            output = output or str(trained / "evaluation" / file.stem)
        if not isinstance(output, str):
            raise ConfigError(f"{file}: has no 'output'; give the folder to write with --output")
        if stage == "pretrain":
            _check_division(file, values, nodes * processes)
        command = ["sesame", stage, str(file), *(word for each in overrides for word in ("--set", each))]
        command += _options(stage, values, processes, trained, data_dir, output)
        found.append(Job(stage, Path(output), tuple(command)))
    return found


def _options(
    stage: str, values: dict[str, Any], processes: int, trained: Path | None, data_dir: Path | None, output: str
) -> list[str]:
    """Return the options of a stage's command."""
    if stage == "pretrain":
        return ["--processes", str(processes)]
    if stage != "evaluate":
        return []
    has_workers = processes == 1 or values.get("queue", {}).get("workers")
    workers = [] if has_workers else ["--workers", str(processes)]
    return ["--checkpoint", str(trained), "--data-dir", str(data_dir), "--output", output, *workers]


def _stage_of(file: Path, values: dict[str, Any]) -> str:
    """Return the stage that a configuration file is for, by the section that only it has."""
    for section, stage in STAGES.items():
        if section in values:
            return stage
    raise ConfigError(f"{file}: has none of the sections {', '.join(STAGES)}, so it is for no stage of Sesame")


def _check_values(file: Path, values: dict[str, Any], stage: str) -> None:
    """Refuse a file that its job would refuse, after it has waited.

    Raises:
        ConfigError: a key is unknown, missing or of the wrong type, or a value is invalid.
    """
    module, name = CLASSES[stage]
    try:
        kind = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        # A login node may have no torch.
        if package_error(error) is None:
            raise
        return
    configs.parse(values, kind, str(file))


def _check_division(file: Path, values: dict[str, Any], processes: int) -> None:
    """Refuse a run that cannot be divided over its job's processes.

    Raises:
        ConfigError: the processes or the batch do not divide as the run's layout says.
    """
    # The sections alone: login nodes may have no torch.
    from sesame.pretrain.data.config import DataConfig
    from sesame.pretrain.parallel.config import ParallelConfig

    parallel = configs.parse(values.get("parallel", {}), ParallelConfig, f"{file}: parallel")
    data = configs.parse(values.get("data", {}), DataConfig, f"{file}: data")
    replicas, rest = divmod(processes, parallel.tensor)
    if rest or replicas % parallel.expert:
        raise ConfigError(
            f"{file}: {processes} processes do not divide by parallel.tensor {parallel.tensor} x parallel.expert "
            f"{parallel.expert}; change --nodes, --gpus-per-node, --processes or one of the two"
        )
    try:
        data.batch_plan(replicas)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}, or --nodes, --gpus-per-node or --processes") from None


def render(job: Job, allocation: Allocation, cluster: ClusterConfig, folder: Path) -> str:
    """The Slurm script of a job that is submitted from ``folder``."""
    whole = allocation if job.stage != "evaluate" else allocation._replace(nodes=1)
    header = {
        "job-name": f"sesame-{job.stage}",
        "nodes": whole.nodes,
        "ntasks-per-node": 1,
        "cpus-per-task": whole.cpus_per_node,
        "gpus-per-node": whole.gpus_per_node if job.stage != "prepare" else 0,
        "time": whole.time,
        "chdir": folder,
        "output": f"{cluster.log_folder}/%x-%j.log",
        "open-mode": "append",
        "signal": f"B:USR1@{cluster.signal_seconds}",
        "partition": cluster.partition,
        "account": cluster.account,
        "qos": cluster.qos,
    }
    lines = [f"#SBATCH --{name}={value}" for name, value in header.items() if value]
    lines += ["#SBATCH --requeue", *(f"#SBATCH {option}" for option in cluster.options)]
    # The program that submits, where neither `setup` nor the container has another one.
    path = [] if cluster.container else [f"PATH=$PATH:{shlex.quote(str(Path(sys.executable).parent))}"]
    exports = [f"export {name}={shlex.quote(value)}" for name, value in cluster.variables.items()]
    settings = [
        f"OUTPUT={shlex.quote(str(job.output))}",
        f"SRUN_OPTIONS=({shlex.join(_srun_options(cluster, folder))})",
        f"CONTAINER=({shlex.join(cluster.container)})",
        f'COMMAND=("${{CONTAINER[@]}}" {shlex.join(job.command)})',
        'mkdir -p "$(dirname "$OUTPUT")"',
    ]
    parts = ["#!/bin/bash", *lines, "", *cluster.setup, *exports, *path, "set -u", *settings, ""]
    return "\n".join(parts) + "\n" + _template("stage") + "\n" + _template(job.stage)


def _srun_options(cluster: ClusterConfig, folder: Path) -> list[str]:
    """The options of srun; a container of pyxis would start in the folder that its image names, not in the job's."""
    names = {each.partition("=")[0] for each in cluster.srun_options}
    is_needed = names & {"--container-image", "--container-name"} and "--container-workdir" not in names
    return [*cluster.srun_options, *([f"--container-workdir={folder}"] if is_needed else [])]


def submit(chain: Sequence[Job], allocation: Allocation, cluster: ClusterConfig, *, dry_run: bool) -> list[str]:
    """Submit jobs, each after the one before has succeeded -> a line about each.

    Raises:
        ConfigError: Slurm refuses a job, or is not there.
    """
    if not TIME.fullmatch(allocation.time):
        raise ConfigError(f"--time {allocation.time}: write it as minutes, HH:MM:SS or D-HH:MM")
    lines: list[str] = []
    number: str | None = None
    folder = Path.cwd()
    for position, each in enumerate(chain, 1):
        script = render(each, allocation, cluster, folder)
        if dry_run and position > 1:
            number = f"JOB{position - 1}"
        dependency = [f"--dependency=afterok:{number}", "--kill-on-invalid-dep=yes"] if number else []
        if dry_run:
            if len(chain) > 1:
                words = " ".join(["sbatch", *dependency])
                lines.append(f"# Job {position} of {len(chain)}: {each.stage} -> {each.output}, submitted by {words}")
            lines.append(script)
            continue
        (folder / cluster.log_folder).mkdir(parents=True, exist_ok=True)
        after = f" after {number}" if number else ""
        number = _sbatch(script, dependency)
        lines.append(f"job {number}: {each.stage} -> {each.output}{after}")
    return lines


def _sbatch(script: str, options: Sequence[str]) -> str:
    if shutil.which("sbatch") is None:
        raise ConfigError("sbatch is not installed here; submit from a login node of the cluster, or use --dry-run")
    words = ["sbatch", "--parsable", *options]
    result = subprocess.run(words, input=script, text=True, capture_output=True, check=False)
    if result.returncode:
        reason = result.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise ConfigError(f"Slurm refuses the job ({reason[0]}); see the script with --dry-run")
    return result.stdout.strip().partition(";")[0]


def _template(name: str) -> str:
    return (TEMPLATES / f"{name}.sh").read_text(encoding="utf-8")
