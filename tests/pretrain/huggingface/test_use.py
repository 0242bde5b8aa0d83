"""Exported models give the same answers in transformers' pipelines as in Sesame."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sesame.data_pipeline.dataset.shards import Ragged
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.pretrain.data.packing import assemble
from sesame.pretrain.huggingface.to_hf import export
from sesame.pretrain.learner import Learner
from tests.pretrain import family_runs

transformers = pytest.importorskip("transformers", reason="the exchange extra is not installed")

Drawn = Callable[..., Learner]
ENCODER = family_runs.EXCHANGED
MODERN = {**ENCODER, **family_runs.MODERNBERT}
ENCODER_DECODER = family_runs.EXCHANGED_STACKS
TEXT = "The bada is not under fegu."


def ragged(ids: list[int]) -> Ragged:
    return Ragged(np.array(ids), np.array([0, len(ids)]))


@pytest.mark.parametrize(
    ("family", "model"),
    [
        ("bert", ENCODER),
        ("bert", {**ENCODER, "segments": 1, "first_position": 2}),
        ("bert", MODERN),
        ("albert", {**ENCODER, "embedding_width": 16}),
    ],
    ids=["bert", "roberta", "modernbert", "albert"],
)
def test_fill_mask(family: str, model: dict[str, Any], drawn: Drawn, tmp_path: Path) -> None:
    ours = drawn(tmp_path / "checkpoint", family, model, ("masked_lm",))
    export(tmp_path / "checkpoint", tmp_path / "model")
    pipeline = transformers.pipeline("fill-mask", model=str(tmp_path / "model"))
    answers = pipeline(f"{TEXT} [MASK]", top_k=3)
    tokenizer = Tokenizer.load(tmp_path / "model" / _sentencepiece(family))
    special = tokenizer.special
    assert special.mask is not None
    ids = [special.cls, *tokenizer.encode(TEXT), special.mask, special.sep]
    columns = {
        "tokens": ragged(ids),
        "first_segment_length": np.array([len(ids)]),
        "mask_positions": ragged([len(ids) - 2]),
        "mask_labels": ragged([0]),
    }
    batch = assemble(columns, (*ours.reads, "segments"), {})
    objective = ours.objectives["masked_lm"]
    best = objective.logits(ours.backbone(batch), batch).softmax(-1)[0].topk(3)
    assert [answer["token"] for answer in answers] == best.indices.tolist()
    torch.testing.assert_close(torch.tensor([answer["score"] for answer in answers]), best.values.detach())


def _sentencepiece(family: str) -> str:
    return "spiece.model" if family == "albert" else "tokenizer.model"


def test_text_generation(drawn: Drawn, tmp_path: Path) -> None:
    ours = drawn(tmp_path / "checkpoint", "gpt", ENCODER, ("causal_lm",))
    export(tmp_path / "checkpoint", tmp_path / "model")
    pipeline = transformers.pipeline("text-generation", model=str(tmp_path / "model"))
    answer = pipeline(TEXT, max_new_tokens=8, do_sample=False, return_tensors=True)[0]["generated_token_ids"]
    tokenizer = Tokenizer.load(tmp_path / "model" / "tokenizer.model")
    ids = [tokenizer.special.cls, *tokenizer.encode(TEXT)]
    assert answer[: len(ids)] == ids and len(answer) > len(ids)
    weight = ours.backbone.token_embedding.weight
    for _ in range(len(answer) - len(ids)):
        state = ours.backbone(assemble({"tokens": ragged(ids)}, ("tokens", "positions"), {})).hidden_TD[-1]
        ids.append(int((weight @ state).argmax()))
    assert answer == ids
    assert ids[-1] == tokenizer.special.sep or len(ids) == len(answer)


@pytest.mark.parametrize(
    ("family", "model"),
    [("t5", ENCODER_DECODER), ("switch", {**ENCODER_DECODER, "experts": 3, "evaluation_capacity_factor": 100.0})],
    ids=["t5", "switch"],
)
def test_generate(family: str, model: dict[str, Any], drawn: Drawn, tmp_path: Path) -> None:
    ours = drawn(tmp_path / "checkpoint", family, model, ("span_corruption",))
    export(tmp_path / "checkpoint", tmp_path / "model")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    other = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "model")
    given = tokenizer(TEXT, return_tensors="pt")
    answer = other.generate(**given, max_new_tokens=6, do_sample=False)[0].tolist()
    here = Tokenizer.load(tmp_path / "model" / "spiece.model")
    ids = [here.special.cls, *here.encode(TEXT), here.special.sep]
    assert given["input_ids"][0].tolist() == ids
    written: list[int] = []
    reads, objective = ("tokens", "decoder_tokens", "target_labels"), ours.objectives["span_corruption"]
    for _ in answer[1:]:
        columns = {"tokens": ragged(ids), "target_tokens": ragged([*written, 0])}
        batch = assemble(columns, reads, {}, here.special.pad)
        written.append(int(objective.logits(ours.backbone(batch), batch)[-1].argmax()))
    assert answer == [here.special.pad, *written]
