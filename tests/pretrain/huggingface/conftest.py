"""Saved transformers models."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pretrain.huggingface.damage import SEEDS


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a saved model of a model type, which tests must not change."""
    random_models = pytest.importorskip("tests.pretrain.huggingface.random_models")
    folders: dict[str, Path] = {}

    def get(model_type: str) -> Path:
        if model_type not in folders:
            folder = tmp_path_factory.mktemp(model_type) / "model"
            case = random_models.drawn(SEEDS[model_type], folder)
            assert case.architecture.startswith(model_type) and not case.refused
            folders[model_type] = folder
        return folders[model_type]

    return get


@pytest.fixture
def model(saved: Callable[[str], Path], tmp_path: Path) -> Path:
    """A copy of a BERT, which tests may change."""
    return Path(shutil.copytree(saved("Bert"), tmp_path / "model"))
