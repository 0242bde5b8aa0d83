"""The fuzzing harness finds planted faults."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sesame.configs.errors import ConfigError
from tests.fuzz import harness
from tests.fuzz.harness import failures


def refused(folder: Path) -> None:
    raise ConfigError("run.toml: 'a' is wrong; correct it")


def wrong_result(folder: Path) -> str:
    return "the damage was not noticed"


def crash(folder: Path) -> None:
    raise KeyError("model")


def leave_a_file(folder: Path) -> None:
    (folder.parent / "rest").write_text("half")


def hang(folder: Path) -> None:
    while True:
        pass


def empty_message(folder: Path) -> None:
    raise ConfigError("")


def fill_memory(folder: Path) -> None:
    bytearray(harness.MEMORY + 2**28)


def exit_with_success(folder: Path) -> None:
    raise SystemExit(0)


PLANTED: dict[Callable[[Path], Any], str] = {
    wrong_result: "the damage was not noticed",
    crash: "KeyError",
    leave_a_file: "files were made",
    hang: "CPU time",
    empty_message: "not one sentence",
    fill_memory: "MemoryError",
    exit_with_success: "SystemExit",
}


@pytest.mark.parametrize("fault", PLANTED, ids=lambda fault: fault.__name__)
def test_a_planted_fault_is_found(
    fault: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness, "CPU_SECONDS", 1)
    readers = {0: refused, 1: fault}

    def case(draw: random.Random, folder: Path) -> Callable[[], Any]:
        return lambda: readers[int(folder.name)](folder)

    (found,) = failures(case, tmp_path, count=2)
    assert found.seed == 1 and PLANTED[fault] in found.fault
