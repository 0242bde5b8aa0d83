"""The fuzzer itself: planted faults are found."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from configs.errors import ConfigError
from tests.fuzz import harness
from tests.fuzz.harness import failures


def fine(folder: Path) -> None:
    raise ConfigError("run.toml: 'a' is wrong; mend it")


def silent(folder: Path) -> str:
    return "read without a word"


def crash(folder: Path) -> None:
    raise KeyError("model")


def leave(folder: Path) -> None:
    (folder.parent / "left").write_text("half")


def hang(folder: Path) -> None:
    while True:
        pass


def no_sentence(folder: Path) -> None:
    raise ConfigError("")


def fill_memory(folder: Path) -> None:
    bytearray(harness.MEMORY + 2**28)


def leave_by_exit(folder: Path) -> None:
    raise SystemExit(0)


PLANTED: dict[Callable[[Path], Any], str] = {
    silent: "read without a word",
    crash: "KeyError",
    leave: "files were made",
    hang: "CPU time",
    no_sentence: "no sentence",
    fill_memory: "MemoryError",
    leave_by_exit: "SystemExit",
}


@pytest.mark.parametrize("fault", PLANTED, ids=lambda fault: fault.__name__)
def test_a_planted_fault_is_found(
    fault: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness, "CPU_SECONDS", 1)
    kinds = {0: fine, 1: fault}

    def case(draw: random.Random, folder: Path) -> Callable[[], Any]:
        return lambda: kinds[int(folder.name)](folder)

    (found,) = failures(case, tmp_path, count=2)
    assert found.seed == 1 and PLANTED[fault] in found.what
