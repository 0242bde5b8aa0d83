"""Damaged, contradictory or unusual weights."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sesame.pretrain.checkpoints import save as saving
from sesame.pretrain.checkpoints.load import load_backbone
from sesame.pretrain.huggingface.model_folder import INDEX, WEIGHTS
from sesame.pretrain.huggingface.to_hf import export
from tests.pretrain.huggingface.damage import NORM, QUERY, assert_refused, imported, with_tensors

transformers = pytest.importorskip("transformers", reason="the exchange extra is not installed")


@pytest.mark.parametrize(
    "dtype", [torch.int8, torch.uint8, torch.bool, torch.int64, torch.complex64, torch.float8_e4m3fn], ids=str
)
def test_weights_of_other_dtypes_are_refused(dtype: torch.dtype, model: Path) -> None:
    with_tensors(model, lambda tensors: tensors.update({QUERY: tensors[QUERY].to(dtype)}))
    assert_refused(model, f"tensor {QUERY} has dtype .*; save the model in one of F32, F16, BF16, F64")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_floating_point_weights_are_read_as_fp32(dtype: torch.dtype, model: Path) -> None:
    with_tensors(model, lambda tensors: tensors.update({QUERY: tensors[QUERY].to(dtype)}))
    expected = load_file(model / WEIGHTS)[QUERY].float()
    notes = imported(model).notes
    assert [f"tensors of dtype F64 rounded to fp32: 1, for example {QUERY}"] == list(notes) or dtype != torch.float64
    stored = load_file(model.parent / "checkpoint" / saving.WEIGHTS)
    assert torch.equal(stored["backbone.blocks.0.attention.query.weight"], expected)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_weights_that_are_not_finite_are_refused(value: float, model: Path) -> None:
    def put(tensors: dict[str, torch.Tensor]) -> None:
        tensors[QUERY] = tensors[QUERY].double()
        tensors[QUERY][0, 0] = value

    assert_refused(with_tensors(model, put), f"tensor {QUERY} has infinite or NaN values")


def test_control_characters_of_a_file_are_escaped_in_messages(model: Path) -> None:
    with_tensors(model, lambda tensors: tensors.update({"a\nb": torch.ones(1)}))
    assert_refused(model, r"the tensor name 'a\\nb' contains control characters")
    content = (model / WEIGHTS).read_bytes()
    (model / WEIGHTS).write_bytes(content.replace(b'"F32"', b'"\\nF"', 1))
    assert_refused(model, "is not a valid safetensors file")


def test_two_names_of_one_norm_parameter_are_refused(model: Path) -> None:
    with_tensors(model, lambda tensors: tensors.update({f"{NORM}.gamma": tensors[f"{NORM}.weight"].clone()}))
    assert_refused(model, rf"tensors {NORM}\.\w+ and {NORM}\.\w+: are two names of one tensor")
    with_tensors(model, lambda tensors: tensors.pop(f"{NORM}.weight"))
    assert imported(model).family == "bert"


def with_shards(model: Path, change: Callable[[dict[str, str]], Any] = lambda files: None) -> Path:
    """Split the weights into two files and write an index, which ``change`` damages."""
    tensors = load_file(model / WEIGHTS)
    names = sorted(tensors)
    files = {name: f"part-{number % 2}.safetensors" for number, name in enumerate(names)}
    for file in set(files.values()):
        save_file({name: tensors[name] for name in names if files[name] == file}, model / file)
    (model / WEIGHTS).unlink()
    change(files)
    (model / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": files}))
    return model


def test_shards_are_read(model: Path) -> None:
    assert imported(with_shards(model)).family == "bert"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda files: files.update(dict.fromkeys(files, "part-0.safetensors")),
            "part-0.safetensors: does not contain the tensor",
        ),
        (
            lambda files: files.update({"x": "part-0.safetensors"}),
            "part-0.safetensors: does not contain the tensor x, which",
        ),
        (lambda files: files.pop(QUERY), f"contains the tensor {QUERY}, which .* does not list"),
        (lambda files: files.update({QUERY: "../part-0.safetensors"}), "is not a file name in the same folder"),
        (lambda files: files.update({QUERY: "/dev/zero"}), "is not a file name in the same folder"),
        (lambda files: files.update({QUERY: ".."}), "is not a file name in the same folder"),
        (lambda files: files.update({QUERY: "sub/part-0.safetensors"}), "is not a file name in the same folder"),
        (
            lambda files: files.update({"x": "part-7.safetensors"}),
            "part-7.safetensors: is missing or not a regular file",
        ),
        (lambda files: files.update({QUERY: 3}), "'weight_map' is not an object"),
    ],
    ids=["another", "unknown", "unnamed", "above", "device", "parent", "below", "missing", "number"],
)
def test_a_wrong_index_is_refused(change: Callable[[dict[str, str]], Any], sentence: str, model: Path) -> None:
    assert_refused(with_shards(model, change), sentence)


@pytest.mark.parametrize("kind", ["Bert", "Roberta"])
def test_a_pooler_beside_a_masked_lm_head(kind: str, saved: Callable[[str], Path], tmp_path: Path) -> None:
    """As in roberta-base: the import keeps it for fine-tuning, the export omits it."""
    model, name = Path(shutil.copytree(saved(kind), tmp_path / "model")), kind.lower()

    def only_masked(tensors: dict[str, torch.Tensor]) -> None:
        width = tensors[f"{name}.embeddings.LayerNorm.weight"].shape[0]
        for kind_of_value in ("weight", "bias"):
            tensors.pop(f"cls.seq_relationship.{kind_of_value}", None)
        tensors |= {
            f"{name}.pooler.dense.weight": torch.ones(width, width),
            f"{name}.pooler.dense.bias": torch.ones(width),
        }

    made = imported(with_tensors(model, only_masked))
    assert list(made.objectives) == ["masked_lm"] and any("pooler is kept" in note for note in made.notes)
    assert load_backbone(made.folder).backbone.pooler["bias"].eq(1).all()
    written = export(made.folder, tmp_path / "again")
    assert written.architecture == f"{kind}ForMaskedLM"
    assert f"the pooler is not exported: {kind}ForMaskedLM has none" in written.notes


def test_adapters_are_refused(model: Path) -> None:
    (model / "adapter_config.json").write_text("{}")
    assert_refused(model, "adapter_config.json: the folder contains a PEFT adapter")
