"""Versions of the libraries: what is installed, what Sesame requires, and what it was tested with."""

import importlib.metadata
import importlib.util
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

from sesame.launch.doctor.check import Answer, Finding, Level, Verdict
from sesame.launch.doctor.context import Context

NEEDED = {
    "torch": "2.11",
    "deepspeed": "0.19",
    "megatron-core": "0.16",
    "ray": "2.52",
    "numba": "0.61",
    "numpy": "1.26",
    "pyarrow": "15",
    "sentencepiece": "0.2.1",
}
"""Distribution -> the oldest version that works. A test compares it with ``pyproject.toml``."""
OLDEST_PYTHON = (3, 11)
CONSTRAINTS = Path(__file__).resolve().parents[2] / "constraints.txt"
"""The versions that the tests ran with; a checkout has the file, a wheel does not."""


def measure(context: Context) -> dict[str, str | None]:
    """Versions by name; None for a distribution that is not installed."""
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for name in NEEDED:
        try:
            versions[name] = context.instruments.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return versions | _of_torch()


def _of_torch() -> dict[str, str | None]:
    """What torch was built with: CUDA, and NCCL where there is a GPU."""
    if importlib.util.find_spec("torch") is None:
        return {}
    import torch

    versions = {"CUDA": torch.version.cuda or torch.version.hip}
    if torch.cuda.is_available():
        from torch.cuda import nccl

        versions["NCCL"] = ".".join(map(str, nccl.version()))
    return versions


def judge(answers: Sequence[Answer]) -> Verdict:
    return verdict(answers, constraints())


def constraints(path: Path = CONSTRAINTS) -> dict[str, str]:
    """Version by distribution, as ``constraints.txt`` pins them; empty where there is no such file."""
    lines = path.read_text(encoding="utf-8").split() if path.is_file() else []
    return {name: version for name, _, version in (line.partition("==") for line in lines)}


def verdict(answers: Sequence[Answer], pinned: Mapping[str, str]) -> Verdict:
    """Compare each process's versions with what is needed, with the pinned ones, and with those of the first."""
    first = answers[0].value
    found: list[Finding] = []
    for answer in answers:
        found += [each for each in _of_process(answer, pinned) if each not in found]
        for name, version in answer.value.items():
            if version != first.get(name):
                what = f"{name} is {version} in {answer.process}, but {first.get(name)} in {answers[0].process}"
                found.append(Finding(Level.BAD, what, f"install the same version of {name} on all machines"))
    shown = ", ".join(f"{name} {version or 'none'}" for name, version in first.items())
    return Verdict(shown, found)


def _of_process(answer: Answer, pinned: Mapping[str, str]) -> list[Finding]:
    found: list[Finding] = []
    if _numbers(answer.value["python"]) < OLDEST_PYTHON:
        what = f"Python {answer.value['python']} on {answer.host} is too old"
        found.append(Finding(Level.BAD, what, "make an environment with Python 3.11 or newer"))
    for name, oldest in NEEDED.items():
        version, install = answer.value.get(name), f"pip install '{name}=={pinned.get(name, oldest)}'"
        if name not in pinned:
            install = f"pip install '{name}>={oldest}'"
        if version is None:
            found.append(Finding(Level.BAD, f"{name} is not installed on {answer.host}", install))
        elif _numbers(version) < _numbers(oldest):
            found.append(Finding(Level.BAD, f"{name} {version} on {answer.host} is older than {oldest}", install))
        elif name in pinned and _numbers(version) != _numbers(pinned[name]):
            what = f"{name} {version} on {answer.host} is not {pinned[name]}, which the tests ran with"
            found.append(Finding(Level.SLOW, what, f"{install}, if something fails"))
    return found


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: "2.13.0+cpu" -> (2, 13)."""
    numbers: list[int] = []
    for part in version.split("+")[0].split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
