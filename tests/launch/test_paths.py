"""A path that cannot be used is a sentence, whatever is wrong with it, and nothing is written."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.launch.test_command import refused, sesame  # noqa: F401 (fixtures)

PREPARE = ["prepare", "configs/corpus/demo.toml", "--set", "workers.count=1"]
RUN = """
steps = 1
output = "unused"
objectives = {{masked_lm = 1.0}}
[data]
dataset = "{dataset}"
global_batch = 4
[model]
family = "bert"
layers = 1
width = 16
heads = 2
feed_forward_width = 32
positions = 64
[optimizer]
learning_rate = 1e-3
[parallel]
precision = "fp32"
threads = 1
"""


@pytest.fixture
def pretrain(dataset: Path, tmp_path: Path) -> list[str]:
    path = tmp_path / "run.toml"
    path.write_text(RUN.format(dataset=dataset))
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
    """Where not even root may make a folder."""
    return Path("/proc/none/x")


WRONG = [a_file, below_a_file, a_link_to_itself, a_long_name, a_long_path, a_read_only_folder, in_proc]


@pytest.mark.parametrize("path", WRONG, ids=lambda path: path.__name__)
def test_an_output_that_cannot_be_written(
    path: Callable[[Path], Path],
    pretrain: list[str],
    refused: Callable[..., str],  # noqa: F811
    tmp_path: Path,
) -> None:
    output = path(tmp_path)
    for words in (PREPARE, pretrain):
        refused(*words, "--output", output)


@pytest.mark.parametrize("path", WRONG, ids=lambda path: path.__name__)
@pytest.mark.parametrize("words", [["inspect"], ["verify"], ["pretrain"], ["prepare"]], ids=lambda words: words[0])
def test_an_input_that_cannot_be_read(
    words: list[str],
    path: Callable[[Path], Path],
    refused: Callable[..., str],  # noqa: F811
    tmp_path: Path,
) -> None:
    refused(*words, path(tmp_path))


@pytest.mark.parametrize("words", [["--output", ""], ["--output", " "], ["--set", "output="]])
def test_an_empty_output(
    words: list[str],
    pretrain: list[str],
    refused: Callable[..., str],  # noqa: F811
) -> None:
    for command in (PREPARE, pretrain):
        assert "empty" in refused(*command, *words)
