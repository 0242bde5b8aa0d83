"""Changes to model folders, and checks of the import."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sesame.configs.errors import SesameError
from sesame.pretrain.huggingface.from_hf import Imported, import_model
from sesame.pretrain.huggingface.model_folder import WEIGHTS

SEEDS = {"Bert": 14, "Roberta": 1, "ModernBert": 2, "Albert": 3, "GPT2": 4, "T5": 5, "SwitchTransformers": 6}
"""Model type -> seed of a model of ``random_models`` that can be imported."""
QUERY, NORM = "bert.encoder.layer.0.attention.self.query.weight", "bert.embeddings.LayerNorm"


def assert_refused(model: Path, sentence: str) -> None:
    """Check that the import raises one sentence that matches, and leaves no output."""
    before = sorted(model.parent.iterdir())
    with pytest.raises(SesameError, match=sentence) as caught:
        import_model(model, model.parent / "made" / "checkpoint")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 700
    assert sorted(model.parent.iterdir()) == before


def imported(model: Path) -> Imported:
    """Import ``model`` beside it."""
    return import_model(model, model.parent / "checkpoint")


def with_config(model: Path, **changes: Any) -> Path:
    """Change keys of ``config.json``."""
    file = model / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    return model


def with_tensors(model: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> Path:
    """Apply ``change`` to the tensors."""
    tensors = load_file(model / WEIGHTS)
    change(tensors)
    save_file(tensors, model / WEIGHTS)
    return model
