"""The images, built and run: any user, a read-only root file system, no network, nothing compiled, signals answered.

These need an engine, and either a base image with Python 3.11 or newer, or the images themselves under a tag:

    SESAME_BASE_IMAGE=python:3.12-slim-bookworm pytest -m slow tests/docker/test_images.py
    SESAME_ENGINE=podman SESAME_IMAGE_TAG=latest pytest -m slow tests/docker/test_images.py

``SESAME_BUILD_OPTIONS`` and ``SESAME_RUN_OPTIONS`` are further options of the engine's ``build`` and ``run``, such as
``--secret id=pip,src=pip.conf`` for an index of one's own.
"""

import os
import re
import shlex
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from sesame.configs.stopping import CONTINUE
from tests.docker.dockerfiles import REPOSITORY

pytestmark = pytest.mark.slow
BASE = os.environ.get("SESAME_BASE_IMAGE")
TAG = os.environ.get("SESAME_IMAGE_TAG")
ENGINE = shlex.split(os.environ.get("SESAME_ENGINE", "docker"))
SMALL = ("--set", "source.limit_megabytes=1", "--set", "tokenizer.vocabulary_size=800", "--set", "workers.count=2")


@pytest.fixture(scope="session")
def images() -> dict[str, str]:
    """Image -> its name, built from the Dockerfiles or given."""
    if not (BASE or TAG) or not shutil.which(ENGINE[0]):
        pytest.skip("neither SESAME_BASE_IMAGE nor SESAME_IMAGE_TAG is set, or the engine is not there")
    if TAG:
        return {image: f"sesame-{image}:{TAG}" for image in ("data", "train")}
    options = shlex.split(os.environ.get("SESAME_BUILD_OPTIONS", ""))
    tags = {image: f"sesame-{image}:test" for image in ("data", "train")}
    for image, tag in tags.items():
        command = [*ENGINE, "build", *options, "--build-arg", f"BASE_IMAGE={BASE}"]
        subprocess.run(
            [*command, "-f", f"docker/{image}.Dockerfile", "-t", tag, "."], cwd=REPOSITORY, check=True, timeout=3000
        )
    return tags


class Container:
    """A container on a read-only root file system without network, whose /data/runs and /tmp are folders here."""

    def __init__(self, image: str, runs: Path, temporary: Path, user: str):
        for folder in (runs, temporary):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o1777)
        self.name = f"sesame-{uuid.uuid4().hex[:12]}"
        options = shlex.split(os.environ.get("SESAME_RUN_OPTIONS", ""))
        mounts = ["-v", f"{runs}:/data/runs", "-v", f"{temporary}:/tmp"]
        limits = ["--read-only", "--network", "none", "--user", user, "--name", self.name]
        self._command = [*ENGINE, "run", "--rm", *options, *limits, *mounts, image]

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self._command, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
        )

    def run(self, *words: str) -> tuple[int, str]:
        process = self.start(*words)
        printed, _ = process.communicate(timeout=900)
        return process.returncode, printed

    def signal(self, name: str) -> None:
        subprocess.run([*ENGINE, "kill", "--signal", name, self.name], check=True, capture_output=True)


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """(folder of runs, folder of temporary files); what other users have written there is removed."""
    yield tmp_path / "runs", tmp_path / "temporary"
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.mark.parametrize("user", ["1000:0", "12345:0", "12345:54321"])
def test_any_user_prepares_a_dataset_and_compiles_nothing(
    user: str, images: dict[str, str], folders: tuple[Path, Path]
) -> None:
    code, printed = Container(images["data"], *folders, user).run("prepare", "demo", "--output", "runs/dataset", *SMALL)
    assert code == 0, printed
    assert "compil" not in printed
    assert "cannot be" not in printed
    runs, temporary = folders
    assert (runs / "dataset" / "manifest.json").stat().st_uid == int(user.partition(":")[0])
    assert [path.name for path in temporary.rglob("*") if path.suffix in (".nbc", ".nbi", ".so", ".o")] == []


def test_the_data_image_says_what_it_cannot_do(images: dict[str, str], folders: tuple[Path, Path]) -> None:
    for words in (["pretrain", "demo"], ["evaluate", "probe"], ["demo"], ["export", "a", "b"]):
        code, printed = Container(images["data"], *folders, "1000:0").run(*words)
        assert (code, printed.count("\n")) == (2, 1), printed
        assert printed.startswith("sesame: this command needs torch, which is not installed here"), printed


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_training_that_is_stopped_writes_a_checkpoint_and_continues(
    processes: str, images: dict[str, str], folders: tuple[Path, Path]
) -> None:
    """The container gets SIGTERM, as from `docker stop`, a preemption or an eviction."""
    prepared = Container(images["train"], *folders, "12345:0").run("prepare", "demo", "--output", "runs/data", *SMALL)
    assert prepared[0] == 0, prepared[1]
    words = ["pretrain", "demo", "--output", "runs/run", "--processes", processes, "--set", "data.dataset=runs/data"]
    words += ["--set", "report.every_steps=1", "--set", "parallel.threads=1"]
    container = Container(images["train"], *folders, "12345:0")
    process = container.start(*words, "--set", "steps=100000", "--set", "stop.minutes=20")
    assert process.stdout
    printed = []
    for line in process.stdout:
        printed.append(line)
        if re.search(r"\bstep 3/", line):
            break
    container.signal("TERM")
    start = time.monotonic()
    printed += process.stdout.readlines()
    assert process.wait(timeout=60) == CONTINUE, "".join(printed)
    assert time.monotonic() - start < 60
    runs, temporary = folders
    assert list(runs.glob("run/checkpoints/*/checkpoint.json")), "".join(printed)

    code, again = Container(images["train"], *folders, "54321:0").run(*words, "--set", "steps=5")
    assert code in (0, 2), again
    assert [path.name for path in temporary.rglob("*") if path.suffix in (".nbc", ".so", ".o")] == []
