"""Output that the documents show is what the commands print, in its values where these do not depend on the machine."""

import re
import shlex

import pytest

from sesame.launch.doctor.check import Level
from sesame.launch.doctor.checks import CHECKS
from sesame.launch.doctor.report import SUMMARIES
from tests import documents
from tests.documents import REPOSITORY
from tests.launch.conftest import Command


def sample(page: str, begins: str) -> str:
    """Return the block of output that begins so."""
    (found,) = (block.text for block in documents.blocks(page) if re.match(begins, block.text))
    return found


def shown(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.slow
def test_the_plan_of_the_guide(sesame: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setenv("COLUMNS", "120")
    code, out, _ = sesame("plan", "configs/pretrain/megatron_8.3b.toml", "--gpus", "64", "--gpu", "h100-80gb")
    assert code == 0
    assert shown(out).startswith(shown(sample("docs/planning.md", "run ")))


@pytest.mark.slow
def test_the_refusal_of_the_guide(sesame: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    first, _, message = sample("docs/planning.md", r"\$ sesame plan").partition("\n")
    code, _, error = sesame(*shlex.split(first)[2:])
    assert (code, shown(error)) == (2, shown(message))


def test_the_examination_of_the_guide_has_every_check() -> None:
    lines = sample("docs/clusters.md", r"\d\d:\d\d:\d\d processes").splitlines()
    levels = "|".join(level.value for level in Level)
    checks = [found[1] for line in lines if (found := re.match(rf"\d\d:\d\d:\d\d ([\w -]+): (?:{levels}): \S", line))]
    assert checks == [check.name for check in CHECKS]
    assert lines[-2] in SUMMARIES.values() and lines[-1] == "machine: machine.json"
