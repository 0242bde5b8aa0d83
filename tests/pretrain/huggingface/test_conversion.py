"""Exported models compute the same with padding in transformers as with packing in Sesame (hidden states, logits, loss
and gradients), and export then import gives the same bytes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from sesame.data_pipeline.dataset.shards import Ragged
from sesame.pretrain.checkpoints.load import load_backbone
from sesame.pretrain.data.packing import assemble
from sesame.pretrain.huggingface import COUNTERPARTS, WITHOUT_COUNTERPART
from sesame.pretrain.huggingface.counterpart import Counterpart
from sesame.pretrain.huggingface.from_hf import import_model
from sesame.pretrain.huggingface.to_hf import export
from sesame.pretrain.huggingface.weights import normalized_names, weights_from_hf
from sesame.pretrain.learner import Learner
from sesame.pretrain.models import FAMILIES
from tests.pretrain import family_runs
from tests.pretrain.huggingface.padding import padded

transformers = pytest.importorskip("transformers", reason="the exchange extra is not installed")

Drawn = Callable[..., Learner]
LENGTHS, TARGET_LENGTHS = [9, 9, 9, 9, 17, 18, 40], [5, 3, 8, 8, 8, 2, 11]
ENCODER = {**family_runs.EXCHANGED, "vocabulary_multiple": 7}
MODERN = {**ENCODER, **family_runs.MODERNBERT, "rotary_base": 160_000.0, "norm_epsilon": 1e-5}
ENCODER_DECODER = family_runs.EXCHANGED_STACKS
SWITCH = {**ENCODER_DECODER, "experts": 3, "evaluation_capacity_factor": 100.0}
PAIRS, MASKED = ("masked_lm", "sentence_pairs"), ("masked_lm",)
SPARSE = ("span_corruption", "expert_balance")


class Case(NamedTuple):
    architecture: str
    family: str
    model: dict[str, Any]
    objectives: tuple[str, ...]


CASES = [
    Case("BertForPreTraining", "bert", ENCODER, PAIRS),
    Case("BertForPreTraining", "bert", {**ENCODER, "activation": "gelu_tanh"}, PAIRS),
    Case("BertForMaskedLM", "bert", {**ENCODER, "segments": 1}, MASKED),
    Case("BertForNextSentencePrediction", "bert", ENCODER, ("sentence_pairs",)),
    Case("RobertaForMaskedLM", "bert", {**ENCODER, "first_position": 1, "segments": 1, "norm_epsilon": 1e-5}, MASKED),
    Case("ModernBertForMaskedLM", "bert", MODERN, MASKED),
    Case("AlbertForPreTraining", "albert", {**ENCODER, "embedding_width": 16}, PAIRS),
    Case("AlbertForMaskedLM", "albert", {**ENCODER, "embedding_width": 16}, MASKED),
    Case("GPT2LMHeadModel", "gpt", {**ENCODER, "feed_forward_width": 96}, ("causal_lm",)),
    Case("T5ForConditionalGeneration", "t5", {**ENCODER_DECODER, "decoder_layers": 3}, ("span_corruption",)),
    Case(
        "T5ForConditionalGeneration",
        "t5",
        {**ENCODER_DECODER, "gated": True, "tied": False, "activation": "gelu_tanh"},
        ("span_corruption",),
    ),
    Case("SwitchTransformersForConditionalGeneration", "switch", SWITCH, SPARSE),
    Case("SwitchTransformersForConditionalGeneration", "switch", {**SWITCH, "tied": False, "sparse_every": 1}, SPARSE),
]


def counterpart_of(case: Case) -> Counterpart:
    """Return the counterpart with the class and configuration of the case."""
    return next(
        counterpart
        for counterpart in COUNTERPARTS[case.family]
        if case.architecture in counterpart.class_names
        and all(case.model.get(name, allowed[0]) in allowed for name, allowed in counterpart.supported_values.items())  # type: ignore[index]
    )


def make_learner(drawn: Drawn, case: Case, folder: Path) -> Learner:
    """Return the case's learner, with its checkpoint in ``folder``."""
    # T5's attention scores are not scaled; in untied models neither are the logits, and rounding dominates gradients.
    return drawn(folder, case.family, case.model, case.objectives, 0.1 if case.model.get("gated") else 0.2)


def load_transformers(architecture: str, folder: Path) -> Any:
    kind = getattr(transformers, architecture)
    model, report = kind.from_pretrained(folder, output_loading_info=True, attn_implementation="eager")
    assert not any(report.values()), report
    return model.float().eval()


def ragged(draw: np.random.Generator, lengths: list[int]) -> Ragged:
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Ragged(draw.integers(5, 300, offsets[-1]), offsets)


def rows(lengths: list[int], target_lengths: list[int]) -> dict[str, Any]:
    draw = np.random.default_rng(0)
    counts = [max(1, length // 5) for length in lengths]
    places = [np.sort(draw.choice(length, count, False)) for length, count in zip(lengths, counts, strict=True)]
    labels = ragged(draw, counts)
    return {
        "tokens": ragged(draw, lengths),
        "first_segment_length": np.array(lengths) // 2,
        "mask_positions": Ragged(np.concatenate(places), labels.offsets),
        "mask_labels": labels,
        "pair_labels": draw.integers(0, 2, len(lengths)),
        "target_tokens": ragged(draw, target_lengths),
    }


def inputs(columns: dict[str, Any], case: Case) -> dict[str, torch.Tensor]:
    """Return the same rows as inputs of transformers."""
    tokens = columns["tokens"]
    ids = padded(tokens, 0)
    real = padded(Ragged(np.ones_like(tokens.values), tokens.offsets), 0)
    given = {"input_ids": ids, "attention_mask": real}
    if case.family in ("t5", "switch"):
        return {**given, "labels": padded(columns["target_tokens"], -100)}
    if case.family == "gpt":
        return {**given, "labels": ids.masked_fill(real == 0, -100)}
    if case.model.get("segments", 2) == 2:
        later = torch.arange(ids.shape[1]) >= torch.from_numpy(columns["first_segment_length"])[:, None]
        given["token_type_ids"] = later.long() * real
    pairs = torch.from_numpy(columns["pair_labels"])
    if case.objectives == ("sentence_pairs",):
        return {**given, "labels": pairs}
    if "sentence_pairs" in case.objectives:
        given["next_sentence_label" if case.family == "bert" else "sentence_order_label"] = pairs
    labels = torch.full_like(ids, -100)
    places = columns["mask_positions"]
    row = np.repeat(np.arange(len(ids)), np.diff(places.offsets))
    labels[row, places.values] = torch.from_numpy(columns["mask_labels"].values)
    return {**given, "labels": labels}


def denominators(columns: dict[str, Any]) -> dict[str, float]:
    return {
        "tokens": float(len(columns["tokens"].values)),
        "mask_labels": float(len(columns["mask_labels"].values)),
        "pair_labels": float(len(columns["pair_labels"])),
        "next_labels": float(len(columns["tokens"].values) - len(columns["pair_labels"])),
        "target_labels": float(len(columns["target_tokens"].values)),
    }


def assert_close(ours: torch.Tensor, other: torch.Tensor) -> None:
    torch.testing.assert_close(ours, other, rtol=1e-5, atol=1e-5)


def assert_logits_close(ours: Learner, encoded: Any, batch: Any, reference: Any, labels: torch.Tensor) -> None:
    """Compare the logits at all labels, for objectives that predict tokens."""
    expected = reference.get("prediction_logits", reference.get("logits"))
    for objective in ours.objectives.values():
        if objective.label_column == "next_labels":
            expected, labels = expected[:, :-1], labels[:, 1:]
        if objective.predicts_tokens:
            assert_close(objective.logits(encoded, batch), expected[labels != -100])


def gradients(other: Any, case: Case, ours: Learner) -> dict[str, torch.Tensor]:
    """Return the gradients of transformers' parameters under Sesame's names; they are converted like weights."""
    found = {
        name: torch.zeros_like(value) if value.grad is None else value.grad for name, value in other.named_parameters()
    }
    counterpart, shapes = counterpart_of(case), {name: tuple(value.shape) for name, value in ours.named_parameters()}
    names = normalized_names(counterpart, list(found))
    mappings = [mapping for component in counterpart.components.values() for mapping in component.mappings]
    return weights_from_hf(mappings, shapes, names, lambda name: found[names[name]], counterpart.tied_tensors)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.architecture}-{len(case.model)}")
def test_transformers_computes_the_same(case: Case, drawn: Drawn, tmp_path: Path) -> None:
    ours = make_learner(drawn, case, tmp_path / "checkpoint")
    written = export(tmp_path / "checkpoint", tmp_path / "model")
    assert written.architecture == case.architecture
    other = load_transformers(case.architecture, tmp_path / "model")
    columns = rows(LENGTHS, TARGET_LENGTHS)
    batch = assemble(columns, ours.reads, denominators(columns))
    given = inputs(columns, case)
    reference = other(**given, output_hidden_states=True)
    encoded = ours.backbone(batch)
    last = (
        reference.encoder_last_hidden_state if "encoder_last_hidden_state" in reference else reference.hidden_states[-1]
    )
    assert_close(encoded.hidden_TD, last[given["attention_mask"] == 1])
    assert_logits_close(ours, encoded, batch, reference, given["labels"])
    losses = {
        name: objective(encoded, batch) / batch.denominators[objective.label_column]
        for name, objective in ours.objectives.items()
    }
    loss: Any = sum(loss for name, loss in losses.items() if name != "expert_balance")
    torch.testing.assert_close(loss, reference.loss, rtol=1e-5, atol=1e-6)
    loss.backward()
    reference.loss.backward()
    if case.family == "switch" and not case.model.get("tied", True):
        return  # One embedding in Sesame is three parameters in transformers, whose gradients add up.
    expected = gradients(other, case, ours)
    for name, parameter in ours.named_parameters():
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(
            gradient, expected[name], rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.architecture}-{len(case.model)}")
def test_export_and_import_give_the_same_bytes(case: Case, drawn: Drawn, tmp_path: Path) -> None:
    ours = make_learner(drawn, case, tmp_path / "checkpoint")
    export(tmp_path / "checkpoint", tmp_path / "model")
    result = import_model(tmp_path / "model", tmp_path / "imported")
    assert set(result.objectives) == set(case.objectives)
    export(tmp_path / "imported", tmp_path / "again")
    names = sorted(file.name for file in (tmp_path / "model").iterdir())
    assert names == sorted(file.name for file in (tmp_path / "again").iterdir())
    for name in names:
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "model" / name).read_bytes(), name
    weights = "weights-00000-000.safetensors"
    assert (tmp_path / "imported" / weights).read_bytes() == (tmp_path / "checkpoint" / weights).read_bytes()
    loaded = load_backbone(tmp_path / "imported")
    assert loaded.step == 0 and loaded.model.family == case.family
    for name, value in loaded.backbone.named_parameters():
        assert torch.equal(value, ours.get_parameter(f"backbone.{name}")), name


def test_every_class_has_a_case() -> None:
    assert FAMILIES.keys() == COUNTERPARTS.keys() | WITHOUT_COUNTERPART.keys()
    untested = {"BertModel", "RobertaModel", "AlbertModel", "ModernBertModel"}
    classes = {
        name
        for counterparts in COUNTERPARTS.values()
        for counterpart in counterparts
        for name in counterpart.class_names
    }
    assert classes == {case.architecture for case in CASES} | untested
    counterparts = [counterpart for counterparts in COUNTERPARTS.values() for counterpart in counterparts]
    assert {id(counterpart_of(case)) for case in CASES} == {id(counterpart) for counterpart in counterparts}


def test_positions_are_counted_from_the_padding_token(drawn: Drawn, tmp_path: Path) -> None:
    """RoBERTa's first position is its padding id + 1; Sesame's padding id is 0, so the rows of the table move."""
    case = CASES[4]._replace(model={**CASES[4].model, "first_position": 2})
    ours = make_learner(drawn, case, tmp_path / "checkpoint")
    export(tmp_path / "checkpoint", tmp_path / "model")
    other = load_transformers("RobertaForMaskedLM", tmp_path / "model")
    columns = rows(LENGTHS, TARGET_LENGTHS)
    given = inputs(columns, case)
    hidden = ours.backbone(assemble(columns, ours.reads, denominators(columns))).hidden_TD
    assert_close(hidden, other(**given, output_hidden_states=True).hidden_states[-1][given["attention_mask"] == 1])
    assert import_model(tmp_path / "model", tmp_path / "imported").family == "bert"
    assert load_backbone(tmp_path / "imported").model.model_dump()["first_position"] == 1


def test_experts_are_balanced_by_the_same_formula(drawn: Drawn, tmp_path: Path) -> None:
    """transformers averages over all sparse layers and sequences; with one of each the loss is the same."""
    case = Case("SwitchTransformersForConditionalGeneration", "switch", {**SWITCH, "sparse_every": 2}, SPARSE)
    ours = make_learner(drawn, case, tmp_path / "checkpoint")
    export(tmp_path / "checkpoint", tmp_path / "model")
    other = load_transformers(case.architecture, tmp_path / "model")
    columns = rows([30], [12])
    reference = other(**inputs(columns, case), output_router_logits=True)
    balance = ours.backbone(assemble(columns, ours.reads, denominators(columns))).balance
    torch.testing.assert_close(balance, reference.encoder_aux_loss + reference.decoder_aux_loss)
