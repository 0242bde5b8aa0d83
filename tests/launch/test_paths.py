"""A path that cannot be used is a one-sentence error, and nothing is written."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.launch.conftest import TINY_RUN, UserError

PREPARE = ["prepare", "configs/corpus/demo.toml", "--set", "workers.count=1"]


@pytest.fixture
def pretrain_command(dataset: Path, tmp_path: Path) -> list[str]:
    """Arguments of a tiny pretraining run."""
    path = tmp_path / "run.toml"
    path.write_text(TINY_RUN.format(dataset=dataset, steps=1))
    return ["pretrain", str(path)]


def a_file(folder: Path) -> Path:
    path = folder / "file"
    path.write_text("text")
    return path


def below_a_file(folder: Path) -> Path:
    return a_file(folder) / "below"


def a_link_to_itself(folder: Path) -> Path:
    path = folder / "link"
    path.symlink_to(path)
    return path / "x"


def a_long_name(folder: Path) -> Path:
    return folder / ("x" * 300)


def a_long_path(folder: Path) -> Path:
    return folder.joinpath(*["x" * 200] * 30)


def a_read_only_folder(folder: Path) -> Path:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    path = folder / "read-only"
    path.mkdir()
    path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    return path / "x"


def in_proc(folder: Path) -> Path:
    """A path where not even root can create a folder."""
    return Path("/proc/none/x")


UNUSABLE = [a_file, below_a_file, a_link_to_itself, a_long_name, a_long_path, a_read_only_folder, in_proc]


@pytest.mark.parametrize("path", UNUSABLE, ids=lambda path: path.__name__)
def test_an_output_that_cannot_be_written(
    path: Callable[[Path], Path],
    pretrain_command: list[str],
    user_error: UserError,
    tmp_path: Path,
) -> None:
    output = path(tmp_path)
    for command in (PREPARE, pretrain_command):
        user_error(*command, "--output", output)


@pytest.mark.parametrize("path", UNUSABLE, ids=lambda path: path.__name__)
@pytest.mark.parametrize("command", ["inspect", "verify", "pretrain", "prepare"])
def test_an_input_that_cannot_be_read(
    command: str,
    path: Callable[[Path], Path],
    user_error: UserError,
    tmp_path: Path,
) -> None:
    user_error(command, path(tmp_path))


@pytest.mark.parametrize("option", [["--output", ""], ["--output", " "], ["--set", "output="]])
def test_an_empty_output(
    option: list[str],
    pretrain_command: list[str],
    user_error: UserError,
) -> None:
    for command in (PREPARE, pretrain_command):
        assert "empty" in user_error(*command, *option)


WRONG_KINDS: dict[str, tuple[tuple[str, ...], str]] = {
    "a tokenizer without end": ((*PREPARE, "--set", "tokenizer.model=/dev/zero"), "/dev/zero: is not a regular file"),
    "a page in place of a folder": (("report", "{run}", "--output", "{run}"), "it is a folder, but a file is needed"),
    "speeds in place of a folder": (("doctor", "--output", "{run}"), "is a folder; name a file in it"),
    "a submission without end": (("check-submission", "/dev/zero"), "/dev/zero: is a pipe or a device"),
    "a checkpoint that is a file": (("export", "{run}/metrics.jsonl", "out"), "does not contain a checkpoint"),
    "steps that were not recorded": (("replay", "{run}", "--step", "3"), "does not contain a checkpoint"),
}


@pytest.mark.parametrize("name", WRONG_KINDS)
def test_a_path_of_another_kind(name: str, user_error: UserError, tmp_path: Path) -> None:
    arguments, sentence = WRONG_KINDS[name]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").touch()
    assert sentence in user_error(*(each.format(run=tmp_path / "run") for each in arguments))
