"""Where a process stands in a job, by the variables of its scheduler."""

import os
from pathlib import Path

import pytest

from sesame.configs.errors import ConfigError
from sesame.launch.place import gpus, machine
from sesame.launch.processes import Machine

SLURM = {
    "SLURM_JOB_ID": "12345",
    "SLURM_NNODES": "2",
    "SLURM_NODEID": "1",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.1",
}


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, Machine(4)),
        ({"MASTER_PORT": "29501"}, Machine(4, port=29501)),
        (SLURM, Machine(4, "10.0.0.1", 22345, 2, 1)),
        (SLURM | {"MASTER_ADDR": "n1", "MASTER_PORT": "7"}, Machine(4, "n1", 7, 2, 1)),
        ({"NNODES": "3", "NODE_RANK": "0", "MASTER_ADDR": "a"}, Machine(4, "a", 20000, 3, 0)),
        (SLURM | {"SLURM_NNODES": "1", "SLURM_NODEID": "0", "SLURM_STEP_NUM_TASKS": "1"}, Machine(4)),
    ],
)
def test_a_machine_knows_its_place(variables: dict[str, str], expected: Machine) -> None:
    assert machine(4, variables) == expected


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        (SLURM | {"SLURM_STEP_NUM_TASKS": "8"}, "SLURM_NTASKS"),
        ({**SLURM, "SLURM_NNODES": "1", "SLURM_STEP_NUM_TASKS": "2"}, "srun has started 2 tasks on 1 machines"),
        ({key: value for key, value in SLURM.items() if key != "SLURM_STEP_ID"}, "only the first one runs"),
        ({"NNODES": "two"}, "NNODES is 'two'"),
        ({"NNODES": "2", "NODE_RANK": "2", "MASTER_ADDR": "a"}, "numbered from 0 to 1"),
        ({"NNODES": "2", "NODE_RANK": "0"}, "need MASTER_ADDR"),
        ({"NNODES": "2"}, "need NODE_RANK and MASTER_ADDR"),
    ],
)
def test_a_wrong_start_is_refused(variables: dict[str, str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        machine(2, variables)


@pytest.mark.parametrize(
    ("lists", "first"),
    [
        ({"SLURM_JOB_NODELIST": "n1 n2 n3"}, "address-of-n1"),
        ({"SLURM_JOB_NODELIST": "n1 n2 n3", "SLURM_STEP_NODELIST": "n2 n3"}, "address-of-n2"),
    ],
)
def test_the_first_machine_is_the_step_s(
    lists: dict[str, str], first: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "scontrol"
    program.write_text('#!/bin/sh\n[ "$2" = hostnames ] && echo "$3" || echo "NodeName=$4 NodeAddr=address-of-$4"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert machine(4, SLURM | lists).address == first


@pytest.mark.parametrize(("visible", "count"), [("", 0), ("0", 1), ("0,2,5", 3), ("-1", 0)])
def test_gpus_are_counted_by_what_is_visible(visible: str, count: int) -> None:
    assert gpus({"CUDA_VISIBLE_DEVICES": visible}) == count
