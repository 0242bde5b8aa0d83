"""Refused exports and imports: the message names the field, tensor or file, and no output remains."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sesame.configs.errors import CheckpointError, ConfigError, ConversionError
from sesame.pretrain.huggingface.from_hf import import_model
from sesame.pretrain.huggingface.to_hf import export
from sesame.pretrain.learner import Learner

Drawn = Callable[..., Learner]
SMALL = {"layers": 2, "width": 16, "heads": 2, "feed_forward_width": 32}
BERT = {**SMALL, "positions": 64}
SWITCH = {**SMALL, "layers": 6, "decoder_layers": 6, "experts": 2}


@pytest.mark.parametrize(
    ("family", "change", "objective", "sentence"),
    [
        ("bert", {"norm_placement": "pre"}, "masked_lm", "model.norm_placement = 'pre'.*'post'.*BertForPreTraining"),
        ("bert", {"position_kind": "rotary"}, "masked_lm", "model.position_kind = 'rotary'.*RobertaForMaskedLM"),
        ("bert", {"inner_norm": True}, "masked_lm", "model.inner_norm = True.*BertForPreTraining"),
        ("bert", {"segments": 0}, "masked_lm", "model.segments = 0.*1 or 2"),
        (
            "bert",
            {"first_position": 2},
            "sentence_pairs",
            r"sentence_pairs\.classifier\.weight: has no counterpart",
        ),
        (
            "albert",
            {"embedding_width": 8},
            "sentence_pairs",
            "heads pooler, sentence_pairs, which .*AlbertForMaskedLM with",
        ),
        ("gpt", {"local_window": 4}, "causal_lm", "model.local_window = 4.*GPT2LMHeadModel"),
        ("switch", {"gated": True}, "span_corruption", "model.gated = True.*SwitchTransformers"),
        ("switch", {"sparse_every": 3}, "span_corruption", "model.sparse_every = 3.*1 and 2"),
    ],
)
def test_export_without_a_transformers_class_is_refused(
    family: str, change: dict[str, Any], objective: str, sentence: str, drawn: Drawn, tmp_path: Path
) -> None:
    shape = {"switch": SWITCH}.get(family, BERT)
    drawn(tmp_path / "checkpoint", family, {**shape, **change}, (objective,))
    with pytest.raises(ConversionError, match=sentence):
        export(tmp_path / "checkpoint", tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_export_of_elmo_is_refused(drawn: Drawn, tmp_path: Path) -> None:
    shape = {"width": 32, "cells": 24, "filters": [[1, 8], [3, 16]]}
    drawn(tmp_path / "checkpoint", "elmo", shape, ("bidirectional_lm",))
    with pytest.raises(ConversionError, match="transformers has no class for ELMo"):
        export(tmp_path / "checkpoint", tmp_path / "model")


def test_a_nonempty_output_folder_is_not_changed(drawn: Drawn, tmp_path: Path) -> None:
    drawn(tmp_path / "checkpoint", "bert", BERT, ("masked_lm",))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine").write_text("x")
    with pytest.raises(ConversionError, match="model: exists and is not empty"):
        export(tmp_path / "checkpoint", tmp_path / "model")
    assert (tmp_path / "model" / "mine").read_text() == "x"
    with pytest.raises(CheckpointError, match="does not contain a checkpoint"):
        export(tmp_path / "nothing", tmp_path / "other")


@pytest.fixture
def model(drawn: Drawn, tmp_path: Path) -> Path:
    """An exported BERT."""
    drawn(tmp_path / "checkpoint", "bert", BERT, ("masked_lm",))
    return export(tmp_path / "checkpoint", tmp_path / "model").folder


QUERY = "bert.encoder.layer.1.attention.self.query.weight"


def changed(model: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(model / "model.safetensors")
    change(tensors)
    save_file(tensors, model / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda tensors: tensors.pop(QUERY), f"tensor {QUERY}: is missing"),
        (lambda tensors: tensors.update({"bert.extra": torch.ones(2)}), "tensor bert.extra: is unknown"),
        (
            lambda tensors: tensors.update({QUERY: torch.ones(16, 8)}),
            f"tensor {QUERY}: has shape 16x8, .* requires 16x16",
        ),
        (
            lambda tensors: tensors.update({"cls.predictions.decoder.weight": torch.ones(320, 16)}),
            "tensor cls.predictions.decoder.weight: differs from bert.embeddings.word_embeddings.weight",
        ),
    ],
    ids=["missing", "unknown", "shape", "copy"],
)
def test_wrong_tensors_are_refused(change: Any, sentence: str, model: Path, tmp_path: Path) -> None:
    changed(model, change)
    with pytest.raises(ConversionError, match=sentence):
        import_model(model, tmp_path / "imported")
    assert not (tmp_path / "imported").exists() and not (tmp_path / "back.partial").exists()


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("model_type", "llama", "'model_type' is 'llama'; supported: bert, roberta"),
        ("hidden_act", "mish", "'hidden_act' is 'mish'; supported: gelu"),
        ("hidden_size", None, "'hidden_size' is None; input should be a valid integer"),
        ("num_attention_heads", 3, "width 16 is not divisible by heads 3"),
        ("is_decoder", True, "'is_decoder' is True; only False"),
        ("vocab_size", 300, "'vocab_size' is 300, but its tokenizer has 320 tokens"),
    ],
)
def test_wrong_configuration_is_refused(key: str, value: Any, sentence: str, model: Path, tmp_path: Path) -> None:
    values = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**values, key: value}))
    with pytest.raises(ConversionError, match=sentence):
        import_model(model, tmp_path / "imported")


MODERN = {"norm_placement": "pre", "position_kind": "rotary", "gated": True, "bias": False, "segments": 0}
ROTARY = {**BERT, **MODERN, "first_attention_norm": False, "local_window": 4, "layers": 6}


@pytest.mark.parametrize(
    ("family", "shape", "objective", "change", "sentence"),
    [
        (
            "bert",
            {**BERT, "first_position": 1},
            "masked_lm",
            {"max_position_embeddings": None},
            "'max_position_embeddings' is None",
        ),
        ("bert", ROTARY, "masked_lm", {"layer_types": ["full_attention"] * 5}, "'layer_types' is not periodic"),
        ("bert", ROTARY, "masked_lm", {"norm_bias": True}, "'norm_bias' is True; only False"),
        ("gpt", BERT, "causal_lm", {"scale_attn_by_inverse_layer_idx": True}, "'scale_attn_by_inverse_layer_idx' is"),
        ("switch", SWITCH, "span_corruption", {"num_sparse_encoder_layers": 9}, r"sparse layers are \[\] in the enc"),
        (
            "t5",
            {**SMALL, "decoder_layers": 2},
            "span_corruption",
            {"feed_forward_proj": "tanh"},
            "'tanh'; only 'gelu'.* 'relu'",
        ),
        (
            "t5",
            {**SMALL, "decoder_layers": 2},
            "span_corruption",
            {"num_layers": 3},
            "tensor encoder.block.2.* missing",
        ),
    ],
    ids=["roberta", "modernbert", "biases", "gpt2", "switch", "t5", "layers"],
)
def test_wrong_configuration_of_other_model_types_is_refused(
    family: str,
    shape: dict[str, Any],
    objective: str,
    change: dict[str, Any],
    sentence: str,
    drawn: Drawn,
    tmp_path: Path,
) -> None:
    drawn(tmp_path / "checkpoint", family, shape, (objective,))
    file = export(tmp_path / "checkpoint", tmp_path / "model").folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(ConversionError, match=sentence):
        import_model(tmp_path / "model", tmp_path / "imported")


def test_incomplete_folders_are_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"bert-base-uncased: is not a folder.*hf download bert-base-uncased"):
        import_model(Path("bert-base-uncased"), tmp_path / "imported")
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    with pytest.raises(ConversionError, match=r"pytorch_model.bin: is not read, because loading it can execute code"):
        import_model(model, tmp_path / "imported")
    (model / "pytorch_model.bin").rename(model / "other")
    with pytest.raises(ConversionError, match=r"has no model\.safetensors"):
        import_model(model, tmp_path / "imported")
    (model / "model.safetensors").write_bytes(b"short")
    with pytest.raises(ConversionError, match="is not a valid safetensors file"):
        import_model(model, tmp_path / "imported")
    (model / "config.json").unlink()
    with pytest.raises(ConversionError, match=r"config.json: no such file"):
        import_model(model, tmp_path / "imported")


def test_a_folder_without_tokenizer_is_refused(model: Path, tmp_path: Path) -> None:
    for name in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json"):
        (model / name).unlink()
    with pytest.raises(ConfigError, match="has no tokenizer"):
        import_model(model, tmp_path / "imported")


def test_old_files_with_tied_copies_buffers_and_tensorflow_norm_names(model: Path, tmp_path: Path) -> None:
    tensors = {name: value.half() for name, value in load_file(model / "model.safetensors").items()}
    expected = {name: value.float() for name, value in tensors.items()}
    tensors["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"].clone()
    tensors["bert.embeddings.position_ids"] = torch.arange(64)[None]
    for ours, older in (("weight", "gamma"), ("bias", "beta")):
        tensors[f"bert.embeddings.LayerNorm.{older}"] = tensors.pop(f"bert.embeddings.LayerNorm.{ours}")
    half = len(tensors) // 2
    files = {
        f"model-0000{part}-of-00002.safetensors": list(tensors)[part * half : None if part else half] for part in (0, 1)
    }
    for file, names in files.items():
        save_file({name: tensors[name] for name in names}, model / file)
    index = {name: file for file, names in files.items() for name in names}
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    (model / "model.safetensors").unlink()
    import_model(model, tmp_path / "imported")
    again = export(tmp_path / "imported", tmp_path / "again").folder
    found = load_file(again / "model.safetensors")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
