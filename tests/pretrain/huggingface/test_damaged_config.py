"""Damaged or contradictory config.json files: the import is refused with one sentence, and no output remains."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sesame.pretrain.huggingface import COUNTERPARTS
from sesame.pretrain.huggingface.config_keys import IGNORED_KEYS, REQUIRED_VALUES
from tests.pretrain.huggingface.damage import SEEDS, assert_refused, imported, with_config

transformers = pytest.importorskip("transformers", reason="the exchange extra is not installed")


@pytest.mark.parametrize("kind", SEEDS)
def test_unknown_keys_are_refused(kind: str, saved: Callable[[str], Path], tmp_path: Path) -> None:
    model = Path(shutil.copytree(saved(kind), tmp_path / "model"))
    assert_refused(
        with_config(model, attention_sinks=4),
        f"config.json: the key 'attention_sinks' is unknown for {kind[:2].lower()}",
    )


@pytest.mark.parametrize("kind", SEEDS)
def test_all_keys_that_transformers_writes_are_known(kind: str) -> None:
    """A new version of transformers may write more keys; review each of them."""
    config = getattr(transformers, f"{kind}Config")()
    counterparts = [
        counterpart
        for counterparts in COUNTERPARTS.values()
        for counterpart in counterparts
        if counterpart.model_type == config.model_type
    ]
    for counterpart in counterparts:
        known = {
            *counterpart.mapped_keys,
            *counterpart.fixed_values,
            *counterpart.constant_keys,
            *counterpart.extra_keys,
            *counterpart.ignored_keys,
            *IGNORED_KEYS,
        }
        known |= {*REQUIRED_VALUES, *counterpart.required_values, *counterpart.aliases, "model_type", "vocab_size"}
        assert config.to_dict().keys() - known == set()


def test_ignored_keys_may_have_any_value(model: Path) -> None:
    with_config(model, use_cache=False, id2label={"0": "A"}, architectures=["X"], _name_or_path="x", max_length=3)
    assert imported(model).family == "bert"


@pytest.mark.parametrize(
    ("kind", "changes", "sentence"),
    [
        ("Bert", {"num_hidden_layers": 10**6}, "'num_hidden_layers' is 1000000, but the model has only .* tensors"),
        ("Bert", {"num_hidden_layers": True}, "'num_hidden_layers' is True; input should be a valid integer"),
        ("Bert", {"hidden_size": 10**40}, r"'hidden_size' is 10+\.*, more than"),
        ("Bert", {"layer_norm_eps": "1e-5"}, "'layer_norm_eps' is '1e-5'; input should be a valid number"),
        ("Bert", {"layer_norm_eps": 0}, "'layer_norm_eps' is 0; input should be greater than 0"),
        ("Bert", {"hidden_dropout_prob": 1.5}, "'hidden_dropout_prob' is 1.5"),
        ("Bert", {"hidden_act": ["gelu"]}, r"'hidden_act' is \['gelu'\]; supported: "),
        ("Bert", {"vocab_size": 2.0}, "'vocab_size' is 2.0; it must be an integer"),
        ("Bert", {"model_type": ["bert"]}, r"'model_type' is \['bert'\]"),
        ("Bert", {"pruned_heads": {"0": [1]}}, "'pruned_heads' is"),
        ("Bert", {"is_decoder": 0}, "'is_decoder' is 0; only False"),
        ("Roberta", {"pad_token_id": None}, "'pad_token_id' is None; it must be an integer"),
        ("Roberta", {"pad_token_id": 500}, "'max_position_embeddings' is .* but must be larger than"),
        ("ModernBert", {"local_attention": 1}, "'local_attention' is 1; it must be an integer from 2"),
        ("ModernBert", {"rope_parameters": {"x": {}}}, "'rope_parameters' is .* only the keys"),
        ("ModernBert", {"rope_parameters": [1]}, "'rope_parameters' is .* an object or null"),
        ("GPT2", {"n_inner": 0}, "'n_inner' is 0; it must be an integer from 1"),
        ("GPT2", {"hidden_size": 3}, "'hidden_size' is 3, but 'n_embd', another name of it,"),
        ("T5", {"dense_act_fn": "tanh"}, "'dense_act_fn' is 'tanh', but 'feed_forward_proj'"),
        (
            "T5",
            {"relative_attention_max_distance": 9, "relative_attention_num_buckets": 40},
            "larger than 20, the number",
        ),
        ("T5", {"decoder_start_token_id": 3}, "'decoder_start_token_id' is 3"),
        ("T5", {"is_encoder_decoder": False}, "'is_encoder_decoder' is False"),
        ("SwitchTransformers", {"encoder_sparse_step": 7}, "'encoder_sparse_step' is 7"),
        ("SwitchTransformers", {"expert_capacity": 0}, "'expert_capacity' is 0"),
        ("SwitchTransformers", {"num_experts": 10**6}, "'num_experts' is 1000000, but the model has only"),
    ],
)
def test_invalid_values_are_refused(
    kind: str, changes: dict[str, Any], sentence: str, saved: Callable[[str], Path], tmp_path: Path
) -> None:
    model = Path(shutil.copytree(saved(kind), tmp_path / "model"))
    assert_refused(with_config(model, **changes), f"config.json: .*{sentence}")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"model_type": "gpt2", "model_type": "bert"}', "duplicate key 'model_type'"),
        ('{"model_type": "bert", "x": ' + "[" * 200_000 + "]" * 200_000 + "}", "nested too deeply"),
        ('{"model_type": "bert", "layer_norm_eps": NaN}', "NaN is not a JSON number"),
        ('{"model_type": "bert", "hidden_size": ' + "9" * 5000 + "}", "is not valid JSON"),
        (
            '{"model_type": "bert", "layer_norm_eps": 1e999}',
            "the required key 'num_hidden_layers' is missing|infinity|inf",
        ),
        ("[]", "is not a JSON object"),
        ("\ufeff{}", "is not valid JSON"),
        ("{", "is not valid JSON"),
    ],
    ids=["duplicate key", "deep", "nan", "long integer", "infinite", "array", "byte order mark", "truncated"],
)
def test_invalid_json_is_refused(text: str, sentence: str, model: Path) -> None:
    (model / "config.json").write_text(text, encoding="utf-8")
    assert_refused(model, f"config.json: .*({sentence})")


def test_differing_dropout_is_noted(saved: Callable[[str], Path], tmp_path: Path) -> None:
    model = with_config(Path(shutil.copytree(saved("GPT2"), tmp_path / "model")), embd_pdrop=0.25, resid_pdrop=0.5)
    assert (
        "dropout is 0.5 everywhere when the checkpoint is trained; config.json has 0.25 after the embedding"
        in imported(model).notes
    )
