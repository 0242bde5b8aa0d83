"""Small checkpoints: the tokenizer file, and a copy of a run that a module has trained."""

import shutil
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    path = tmp_path / "tokenizer"
    path.write_bytes(b"pieces")
    return path


@pytest.fixture
def copied(trained: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """The settings of a copy of the module's run of two steps, with one more step."""
    shutil.copytree(trained["output"], tmp_path / "run")
    return trained | {"output": str(tmp_path / "run"), "steps": 3}
