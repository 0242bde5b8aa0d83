"""Fixtures that run the command ``sesame`` in the process of the test, and the files of tiny runs."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sesame.launch.__main__ import main

Command = Callable[..., tuple[int, str, str]]
UserError = Callable[..., str]
TINY_BERT = """[model]
family = "bert"
layers = 1
width = 32
heads = 2
feed_forward_width = 64
positions = 128
"""
"""Section of a run's file; two processes can split it."""
TINY_RUN = (
    """
output = "unused"
steps = {steps}
objectives = {{masked_lm = 1.0}}
[data]
dataset = "{dataset}"
global_batch = 4
[optimizer]
learning_rate = 1e-3
[parallel]
precision = "fp32"
threads = 1
"""
    + TINY_BERT
)
"""File of a run whose sections of reports and checkpoints are the defaults."""


@pytest.fixture
def sesame(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """``sesame(*arguments)`` runs the command and returns (exit code, stdout, stderr)."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sesame", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_info:
            main()
        printed = capsys.readouterr()
        return int(exit_info.value.code or 0), printed.out, printed.err

    return run


@pytest.fixture
def user_error(sesame: Command, tmp_path: Path) -> UserError:
    """``user_error(*arguments)`` returns the error message of a command, which is one line with exit code 2 and leaves
    ``tmp_path`` unchanged."""

    def run(*arguments: str | Path) -> str:
        before = sorted(tmp_path.rglob("*"))
        code, _, error = sesame(*arguments)
        assert code == 2, error
        assert error.startswith("sesame: "), error
        assert error.count("\n") == 1, error
        assert sorted(tmp_path.rglob("*")) == before
        return error

    return run
