"""How many processes a replay starts on each machine."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sesame.configs.errors import ConfigError
from sesame.launch import replaying
from sesame.launch.processes import Machine
from sesame.pretrain import replay


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Commands and places of what would be started for a run of 16 processes."""
    found: list[Any] = []

    def supervise(command: Sequence[str], place: Machine) -> int:
        found.append((command[-4:], place))
        return 0

    monkeypatch.setattr(replay, "plan", lambda run, step: SimpleNamespace(processes=16))
    monkeypatch.setattr(replaying, "supervise", supervise)
    for name in ("RANK", "SLURM_NNODES", "SLURM_JOB_ID", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    return found


def test_the_processes_of_a_run_are_divided_over_the_machines(
    started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert replaying.start(Path("runs/a"), 5) == 0
    for name, value in {"NNODES": "2", "NODE_RANK": "1", "MASTER_ADDR": "first"}.items():
        monkeypatch.setenv(name, value)
    assert replaying.start(Path("runs/a"), 5) == 0
    assert [(place.machines, place.rank, place.processes) for _, place in started] == [(1, 0, 16), (2, 1, 8)]
    assert all(command == ["replay", "runs/a", "--step", "5"] for command, _ in started)
    monkeypatch.setenv("NNODES", "3")
    with pytest.raises(ConfigError, match="runs/a: was computed by 16 processes, which 3 machines cannot share"):
        replaying.start(Path("runs/a"), 5)
    assert len(started) == 2
