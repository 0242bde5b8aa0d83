"""Commands at the head of configurations, Dockerfiles and files for clusters are understood as they are written."""

import re
from collections.abc import Iterator

import pytest

from sesame import configs
from tests.documents import REPOSITORY, Command
from tests.test_document_commands import PROGRAMS

FILES = [
    path.relative_to(REPOSITORY).as_posix()
    for pattern in ("configs/*/*.toml", "docker/*.Dockerfile", "docker/compose.yaml", "launch/*/*.yaml")
    for path in sorted(REPOSITORY.glob(pattern))
]


def commands(file: str) -> Iterator[Command]:
    """Commands of the comments at the head of a file, without what explains them on the same line."""
    whole = ""
    for number, line in enumerate((REPOSITORY / file).read_text(encoding="utf-8").splitlines(), 1):
        if not line.startswith("#"):
            return
        if found := re.match(r"# {3,}(.*)", line):
            whole += re.split(r"\s{3,}", found[1])[0].removesuffix("\\")
            if not line.endswith("\\") and whole.partition(" ")[0] in PROGRAMS.keys() - {"pip"}:
                yield Command(file, number, whole)
        whole = whole if line.endswith("\\") else ""


COMMANDS = [command for file in FILES for command in commands(file)]


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_it_is_understood(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    program, *words = command.words
    if words[0] == "logs":
        # Of what the file itself starts.
        name = re.split(r"[=/]", words[-1])[-1]
        assert f"name: {name}\n" in (REPOSITORY / command.page).read_text(encoding="utf-8")
        return
    try:
        PROGRAMS[program](words, command)
    except configs.ConfigError as error:
        pytest.fail(f"{command}: {error}")


def test_nearly_every_file_says_how_it_is_used() -> None:
    assert {command.page for command in COMMANDS} >= {
        file for file in FILES if "volume" not in file and "cloud" not in file
    }
