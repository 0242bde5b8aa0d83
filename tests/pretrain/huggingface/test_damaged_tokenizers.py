"""Tokenizer files that contradict the vocabulary or config.json."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.pretrain.huggingface.damage import assert_refused, imported

transformers = pytest.importorskip("transformers", reason="the exchange extra is not installed")


def test_differing_special_ids_are_noted(saved: Callable[[str], Path], tmp_path: Path) -> None:
    model = Path(shutil.copytree(saved("Roberta"), tmp_path / "model"))
    padding = json.loads((model / "config.json").read_text())["pad_token_id"]
    assert padding != 0
    assert (
        f"the tokenizer's pad token 0 is used, not 'pad_token_id' = {padding} of config.json" in imported(model).notes
    )


def token(number: int, content: str, special: bool) -> dict[str, Any]:
    return {"id": number, "content": content, "special": special, **dict.fromkeys(FLAGS, False)}


FLAGS = ("single_word", "lstrip", "rstrip", "normalized")


@pytest.mark.parametrize(
    ("name", "values", "sentence"),
    [
        ("tokenizer.json", {"added_tokens": [token(29, "new", False)]}, "adds 'new' to its vocabulary"),
        ("tokenizer.json", {"added_tokens": [token(99, "new", True)]}, "its ids are not 0 to"),
        ("tokenizer.json", {"added_tokens": [token(5, "b", True)]}, "its ids are not 0 to"),
        ("tokenizer.json", {"vocab": {"[PAD]": 1}}, "the token '.PAD.' the id 1, which contradicts the vocabulary"),
        ("tokenizer.json", {"added_tokens": [token(5, "a", False)]}, "adds 'a' to its vocabulary"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"99": {"content": "new"}}}, "adds 'new' to its vocabulary"),
        ("added_tokens.json", {"new": 99}, "adds 'new' to its vocabulary"),
    ],
    ids=["behind", "far behind", "renamed", "vocabulary", "in words", "settings", "old"],
)
def test_tokens_outside_the_vocabulary_are_refused(
    name: str, values: dict[str, Any], sentence: str, model: Path
) -> None:
    if name == "tokenizer.json":
        whole = json.loads(transformers.BertTokenizerFast(vocab=str(model / "vocab.txt")).backend_tokenizer.to_str())
        whole["added_tokens"] += values.get("added_tokens", [])
        whole["model"]["vocab"] |= values.get("vocab", {})
        values = whole
    (model / name).write_text(json.dumps(values))
    assert_refused(model, sentence)


@pytest.mark.parametrize("token", ["new", {"content": "new"}])
@pytest.mark.parametrize("name", ["tokenizer_config.json", "special_tokens_map.json"])
def test_new_special_tokens_without_an_id_are_refused(name: str, token: Any, model: Path) -> None:
    (model / name).write_text(json.dumps({"additional_special_tokens": ["a", token]}))
    assert_refused(model, f"{name} lists the token 'new', which is not in the vocabulary")
    (model / name).write_text(json.dumps({"additional_special_tokens": ["a"]}))
    assert imported(model).family == "bert"
