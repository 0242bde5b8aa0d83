"""The Dockerfiles without an engine: what is copied exists, what is installed is what is imported, nothing floats."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sesame.configs.errors import TRAINING_PACKAGES
from tests.docker.dockerfiles import IMAGES, REPOSITORY, context, instructions
from tests.test_packaging import DISTRIBUTIONS, normalized_name, project, third_party_imports

JUNK = (
    ".git/config",
    ".venv/lib/site.py",
    ".venv-3.12/lib/site.py",
    ".pytest_cache/README.md",
    ".ruff_cache/0.1/a",
    "runs/demo/dataset/train-00000.arrow",
    "tests/conftest.py",
    "docs/errors.md",
    "benchmarks/RESULTS.md",
    "docker/compose.yaml",
    "build/lib/a.py",
    "dist/sesame-0.1.0-py3-none-any.whl",
    "sesame.egg-info/PKG-INFO",
    "configs/__pycache__/errors.cpython-311.pyc",
    "data_pipeline/compiled/__pycache__/loops-1-2/a.nbc",
    "pretrain/train.pyc",
    "notes.log",
    ".env",
)
"""What must not get into a build: large, private, or compiled for another machine."""


def requirements(image: str, *extras: str) -> set[str]:
    """What docker/requirements.py prints, as names of distributions."""
    command = [sys.executable, "-I", "docker/requirements.py", image, *extras]
    printed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    return {normalized_name(line) for line in printed.splitlines()}


def imported(*folders: str) -> set[str]:
    return {normalized_name(DISTRIBUTIONS.get(name, name)) for name in third_party_imports(folders)}


def declared() -> set[str]:
    return {normalized_name(each) for each in project()["project"]["dependencies"]}


@pytest.mark.parametrize("image", IMAGES)
def test_what_is_copied_exists_and_is_sent_to_the_build(image: str) -> None:
    sent = set(context(REPOSITORY))
    copies = [each for each in instructions(image) if each.name == "COPY" and not each.text.startswith("--from")]
    assert len(copies) >= 3
    for copy in copies:
        for source in copy.words[:-1]:
            assert source == "." or source in sent, copy


@pytest.mark.parametrize("image", IMAGES)
def test_each_base_has_a_tag_that_stays(image: str) -> None:
    arguments = [each.text.partition("=") for each in instructions(image) if each.name == "ARG" and not each.stage]
    bases = {name: value for name, _, value in arguments}
    assert set(bases) <= {"BASE_IMAGE", "BUILD_IMAGE"}
    stages = {each.stage for each in instructions(image)}
    for line in (each for each in instructions(image) if each.name == "FROM"):
        base = line.words[0]
        assert base in stages or base.strip("${}") in bases, line
    for value in bases.values():
        assert value == "${BASE_IMAGE}" or re.search(r":(?!latest)[a-z0-9.-]*[0-9]", value), value


@pytest.mark.parametrize("image", IMAGES)
def test_each_installation_is_pinned(image: str) -> None:
    commands = [each for each in instructions(image) if "pip install" in each.text]
    assert len(commands) >= 3
    for command in commands:
        is_pinned = "-c /list/constraints.txt" in command.text or "--no-index" in command.text
        assert is_pinned or command.stage == "extensions", command


def test_the_data_image_installs_what_the_data_side_imports_and_no_more() -> None:
    # launch is the command itself; what only trains is imported by pretrain and evaluation.
    # sesame doctor measures with torch where that is installed.
    assert requirements("data") == (imported("configs", "data_pipeline", "launch") & declared()) - {"torch"}
    assert requirements("train") == declared()
    assert requirements("data", "cluster") == {*requirements("data"), "ray"}


def test_the_message_about_missing_packages_knows_those_that_are_left_out() -> None:
    left_out = {normalized_name(DISTRIBUTIONS.get(name, name)) for name in TRAINING_PACKAGES}
    assert left_out == declared() - requirements("data")


@pytest.mark.parametrize("image", IMAGES)
def test_the_extras_exist(image: str) -> None:
    (line,) = (each.text for each in instructions(image) if each.name == "ARG" and each.text.startswith("EXTRAS="))
    extras = line.partition("=")[2].strip('"').split()
    assert set(extras) <= set(project()["project"]["optional-dependencies"])
    requirements(image, *extras)


@pytest.mark.parametrize(
    ("options", "installed"),
    [
        ({}, []),
        ({"FLASH_ATTENTION": "2.8.3"}, ["flash-attn==2.8.3"]),
        ({"TRANSFORMER_ENGINE": "2.20"}, ["transformer-engine[core_cu13,pytorch]==2.20"]),
        (
            {"FLASH_ATTENTION": "2.8.3", "TRANSFORMER_ENGINE": "2.20"},
            ["flash-attn==2.8.3", "transformer-engine[core_cu13,pytorch]==2.20"],
        ),
    ],
)
def test_the_extensions_are_installed_where_they_are_asked_for(
    options: dict[str, str], installed: list[str], tmp_path: Path
) -> None:
    (run,) = (each for each in instructions("train") if each.stage == "extensions" and each.name == "RUN")
    for program in ("apt-get", "pip"):
        (tmp_path / program).write_text('#!/bin/sh\necho "$(basename "$0") $*"\n')
        (tmp_path / program).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"} | {"FLASH_ATTENTION": "", "TRANSFORMER_ENGINE": ""} | options
    script = re.sub(r"^--mount=\S+ ", "", run.text)
    done = subprocess.run(["sh", "-euc", script], env=environment, capture_output=True, text=True, check=True)
    pip = [line.split() for line in done.stdout.splitlines() if line.startswith("pip ")]
    assert [word for words in pip for word in words if "==" in word] == installed
    assert ("apt-get" in done.stdout) == bool(installed), "the compiler's packages are installed for these only"


@pytest.mark.parametrize("image", IMAGES)
def test_it_runs_as_a_user_without_rights_and_gets_signals(image: str) -> None:
    last = instructions(image)[-1].stage
    final = [each for each in instructions(image) if each.stage == last]
    assert [each.text for each in final if each.name == "USER"] == ["1000:0"], "a number, so that it can be checked"
    assert [json.loads(each.text) for each in final if each.name == "ENTRYPOINT"] == [["sesame"]]
    # Else each user would compile the loops again.
    assert any("--no-index /wheel/*.whl && sesame compile" in each.text for each in final)


@pytest.mark.parametrize("image", IMAGES)
def test_its_labels_are_those_of_the_project(image: str) -> None:
    (label,) = (each for each in instructions(image) if each.name == "LABEL")
    labels = dict(word.split("=", 1) for word in label.words)
    prefix = "org.opencontainers.image."
    assert labels[f"{prefix}version"] == project()["project"]["version"]
    assert labels[f"{prefix}licenses"] == project()["project"]["license"]
    assert labels[f"{prefix}title"] == f"sesame-{image}"


def test_only_what_is_installed_is_sent_to_a_build(tmp_path: Path) -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    packages = {path.partition("/")[0] for path in tracked.stdout.split() if path.endswith((".py", ".toml", ".sh"))}
    for name in (*tracked.stdout.split(), *JUNK):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    sent = set(context(tmp_path))
    assert sent & set(JUNK) == set()
    assert {name.partition("/")[0] for name in sent} <= packages | {"LICENSE", "README.md", "constraints.txt"}
    code = {name for name in tracked.stdout.split() if name.startswith(("sesame/", "configs/", "launch/", "pretrain/"))}
    assert code <= sent


def test_a_pattern_decides_as_the_engines_do(tmp_path: Path) -> None:
    for name in ("configs/a.toml", "configs/deep/__pycache__/b", "other", "docker/requirements.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert list(context(tmp_path)) == ["configs/a.toml", "docker/requirements.py"]
