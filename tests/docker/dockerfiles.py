"""The Dockerfiles as the tests read them, and the files that an engine would send to a build."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parents[2]
IMAGES = ("data", "train")


class Instruction(NamedTuple):
    """An instruction of a Dockerfile, its lines joined."""

    name: str
    text: str
    stage: str
    """Name of the stage, or its number."""

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text)


def instructions(image: str) -> list[Instruction]:
    """The instructions of docker/IMAGE.Dockerfile."""
    text = (REPOSITORY / "docker" / f"{image}.Dockerfile").read_text(encoding="utf-8")
    lines = "\n".join(line for line in text.split("\n") if not line.lstrip().startswith("#"))
    found: list[Instruction] = []
    stage, stages = "", 0
    for line in re.sub(r"\\\n\s*", " ", lines).split("\n"):
        if line.strip():
            name, _, rest = line.strip().partition(" ")
            if name == "FROM":
                named = re.search(r" AS (\S+)$", rest)
                stage, stages = named[1] if named else str(stages), stages + 1
            found.append(Instruction(name, rest.strip(), stage))
    return found


def context(folder: Path) -> Iterator[str]:
    """Yield the files below ``folder`` that are sent to a build: the last pattern of .dockerignore that matches a file
    or a folder above it decides (https://docs.docker.com/build/concepts/context/#dockerignore-files)."""
    lines = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").split("\n")
    patterns = [line for line in map(str.strip, lines) if line and not line.startswith("#")]
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder).as_posix()
        if path.is_file() or path.is_symlink():
            decided = [pattern for pattern in patterns if _matches(pattern.removeprefix("!"), relative)]
            if not decided or decided[-1].startswith("!"):
                yield relative


def _matches(pattern: str, path: str) -> bool:
    parts = re.split(r"(\*\*/|\*)", pattern)
    expression = "".join({"**/": "(?:.*/)?", "*": "[^/]*"}.get(part, re.escape(part)) for part in parts)
    return re.fullmatch(f"{expression}(?:/.*)?", path) is not None
