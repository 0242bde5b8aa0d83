"""Datasets that tests of verification change."""

import shutil
from pathlib import Path

import pytest

from sesame.data_pipeline.dataset.shards import Dataset
from tests.data_pipeline.given_prose import prepared
from tests.data_pipeline.verification.changed_datasets import TEXTS, Write


@pytest.fixture
def plain(in_process: None, json_lines: Write, tmp_path: Path) -> Dataset:
    """Full sentences without masks."""
    path = json_lines(TEXTS)
    return prepared(path, tmp_path / "plain", "full_sentences", corrupt={"kind": "nothing"})


@pytest.fixture
def pairs(in_process: None, json_lines: Write, tmp_path: Path) -> Dataset:
    return prepared(json_lines(TEXTS), tmp_path / "pairs")


@pytest.fixture
def copy(dataset: Path, tmp_path: Path) -> Path:
    """A dataset that a test may damage."""
    return Path(shutil.copytree(dataset, tmp_path / "copy"))
