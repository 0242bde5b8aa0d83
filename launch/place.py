"""Where this process stands in a job of several machines, by the variables of its scheduler."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from sesame.configs.errors import ConfigError
from sesame.launch.processes import Machine

FIRST_PORT, PORTS = 20_000, 10_000
"""A job's own port follows from its number: two jobs on one machine do not meet."""


PRETRAIN = "bash launch/pretrain.sh --config RUN.toml --processes N"


def machine(processes: int | None, variables: Mapping[str, str] = os.environ, *, command: str = PRETRAIN) -> Machine:
    """The machines of this job, from NNODES, NODE_RANK, MASTER_ADDR and MASTER_PORT, or else from Slurm.

    Args:
        processes: trainers on each machine; None: one for each GPU, or one.
        command: that is to be started on each machine, for messages.

    Raises:
        ConfigError: what has to be known is not, or the scheduler starts several tasks that would each train alone.
    """
    machines = _count(variables, "NNODES", "SLURM_NNODES") or 1
    count = processes or gpus(variables) or 1
    _refuse_tasks_that_train_alone(variables, machines, command)
    if machines == 1:
        return Machine(count, port=_count(variables, "MASTER_PORT") or 0)
    rank = _count(variables, "NODE_RANK", "SLURM_NODEID")
    address = variables.get("MASTER_ADDR") or _first_host(variables)
    job = _count(variables, "SLURM_JOB_ID") or 0
    port = _count(variables, "MASTER_PORT") or FIRST_PORT + job % PORTS
    if rank is None or address is None:
        missing = " and ".join(name for name, value in (("NODE_RANK", rank), ("MASTER_ADDR", address)) if value is None)
        raise ConfigError(f"{machines} machines need {missing}; start this once on each with them set: {command}")
    if not 0 <= rank < machines:
        raise ConfigError(f"NODE_RANK is {rank}, but the {machines} machines are numbered from 0 to {machines - 1}")
    return Machine(count, address, port, machines, rank)


def gpus(variables: Mapping[str, str] = os.environ) -> int:
    """GPUs that this process may use, without asking a driver."""
    visible = variables.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([each for each in visible.split(",") if each.strip() not in ("", "-1")])
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


def _refuse_tasks_that_train_alone(variables: Mapping[str, str], machines: int, command: str) -> None:
    tasks = _count(variables, "SLURM_STEP_NUM_TASKS") or 1
    if tasks > machines:
        raise ConfigError(
            f"srun has started {tasks} tasks on {machines} machines (SLURM_NTASKS), and each would train alone into "
            "the same folder; start one task a machine, which starts its own trainers: "
            f"srun --ntasks-per-node=1 {command}"
        )
    if machines > 1 and "SLURM_JOB_ID" in variables and "NNODES" not in variables and "SLURM_STEP_ID" not in variables:
        raise ConfigError(
            f"this job has {machines} machines, but only the first one runs this command; start it on all of them: "
            f"srun --ntasks-per-node=1 {command}"
        )


def _first_host(variables: Mapping[str, str]) -> str | None:
    """The address of the first machine of a Slurm step, which may have some of the job's machines only."""
    hosts = variables.get("SLURM_STEP_NODELIST") or variables.get("SLURM_JOB_NODELIST")
    if hosts is None or shutil.which("scontrol") is None:
        # As in a container. It is the first machine's where srun was called by a batch script.
        return variables.get("SLURM_LAUNCH_NODE_IPADDR")
    first = _scontrol("show", "hostnames", hosts).split()[0]
    # A machine's name in Slurm is not always one that resolves.
    known = re.search(r"\bNodeAddr=(\S+)", _scontrol("--oneliner", "show", "node", first))
    return known[1] if known else first


def _scontrol(*words: str) -> str:
    return subprocess.run(["scontrol", *words], check=True, capture_output=True, text=True).stdout


def _count(variables: Mapping[str, str], *names: str) -> int | None:
    """The first of these variables that is set, as a number."""
    for name in names:
        if value := variables.get(name):
            if not value.isdecimal():
                raise ConfigError(f"the environment variable {name} is '{value}', which is not a number; correct it")
            return int(value)
    return None
