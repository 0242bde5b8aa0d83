"""Random transformers models compute the same after import and after another export."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from sesame import configs
from sesame.configs.errors import ConversionError
from sesame.data_pipeline.dataset.shards import Ragged
from sesame.pretrain.checkpoints.load import open_checkpoint
from sesame.pretrain.data.packing import assemble
from sesame.pretrain.huggingface.from_hf import import_model
from sesame.pretrain.huggingface.to_hf import export
from sesame.pretrain.initialization import materialise
from sesame.pretrain.learner import Learner, build
from sesame.pretrain.models import FAMILIES
from sesame.pretrain.models.family import Vocabulary
from tests.pretrain.huggingface.padding import padded

transformers = pytest.importorskip("transformers", reason="the exchange extra is not installed")
random_models = pytest.importorskip("tests.pretrain.huggingface.random_models")

FEW, MANY = 14, 500
TOLERANCE = 1e-5
"""Relative to the largest absolute value."""
LENGTHS, TARGET_LENGTHS = [19, 7, 12], [5, 9, 3]
SPECIAL = 5
"""Number of special token ids."""


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    largest = theirs.abs().max()
    assert ours.shape == theirs.shape
    assert torch.isfinite(ours).all()
    assert (ours - theirs).abs().max() <= TOLERANCE * largest, ((ours - theirs).abs().max() / largest).item()


def learner(folder: Path) -> Learner:
    """Return the model of a checkpoint with all objectives whose parameters it has."""
    checkpoint = open_checkpoint(folder)
    record = checkpoint.record
    values = record.config["model"]
    config = configs.parse(values, FAMILIES[values["family"]].config, str(folder))
    stored = checkpoint.tensors("weights")
    names = {name.split(".")[1] for name in record.shapes if name.startswith("objectives.")}
    made = build(config, dict.fromkeys({*names, *record.config["objectives"]}, 1.0), Vocabulary(record.vocabulary_size))

    def value(name: str, parameter: torch.nn.Parameter) -> Tensor:
        return stored.whole(name) if name in record.shapes else torch.zeros(parameter.shape)

    materialise(made, value)
    return made.eval()


def ragged(draw: np.random.Generator, lengths: list[int]) -> Ragged:
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Ragged(draw.integers(SPECIAL, len(random_models.PIECES), offsets[-1]), offsets)


def columns(seed: int) -> dict[str, Any]:
    draw = np.random.default_rng(seed)
    tokens, targets = ragged(draw, LENGTHS), ragged(draw, TARGET_LENGTHS)
    places = Ragged(np.concatenate([np.arange(length) for length in LENGTHS]), tokens.offsets)
    return {
        "tokens": tokens,
        "target_tokens": targets,
        "first_segment_length": np.array(LENGTHS) // 2,
        "mask_positions": places,
        "mask_labels": tokens,
        "pair_labels": np.zeros(len(LENGTHS), np.int64),
    }


@torch.no_grad()
def transformers_outputs(model: Any, given: dict[str, Any]) -> dict[str, Tensor]:
    """Return last hidden states and logits of tokens that are not padding, by Sesame's names."""
    config, tokens = model.config, given["tokens"]
    padding = getattr(config, "pad_token_id", None) or 0
    real = padded(Ragged(np.ones_like(tokens.values), tokens.offsets), 0)
    inputs = {"input_ids": padded(tokens, padding), "attention_mask": real}
    if config.is_encoder_decoder:
        targets = given["target_tokens"]
        written = padded(Ragged(np.ones_like(targets.values), targets.offsets), 0) == 1
        output = model(**inputs, labels=padded(targets, -100))
        return {"hidden": output.encoder_last_hidden_state[real == 1], "span_corruption": output.logits[written]}
    if getattr(config, "type_vocab_size", 1) == 2:
        later = torch.arange(real.shape[1]) >= torch.from_numpy(given["first_segment_length"])[:, None]
        inputs["token_type_ids"] = later.long() * real
    output = model(**inputs, output_hidden_states=True)
    last = output.get("last_hidden_state")
    hidden = output.hidden_states[-1] if last is None else last
    found = {"hidden": hidden[real == 1]}
    logits = output.get("prediction_logits", output.get("logits"))
    pairs = output.get("seq_relationship_logits", output.get("sop_logits"))
    if type(model).__name__ == "BertForNextSentencePrediction":
        logits, pairs = None, logits
    name = "causal_lm" if config.model_type == "gpt2" else "masked_lm"
    if logits is not None:
        # Sesame computes no logits for the last token of a sequence, which has no next one.
        kept = real.cumsum(1) < real.sum(1, keepdim=True) if name == "causal_lm" else real
        found[name] = logits[(real == 1) & (kept == 1)]
    if pairs is not None:
        found["sentence_pairs"] = pairs
    if output.get("pooler_output") is not None:
        found["pooler"] = output.pooler_output
    return found


@torch.no_grad()
def sesame_outputs(model: Learner, given: dict[str, Any]) -> dict[str, Tensor]:
    batch = assemble(given, model.reads, {})
    encoded = model.backbone(batch)
    found = {"hidden": encoded.hidden_TD}
    for name, objective in model.objectives.items():
        if objective.predicts_tokens:
            found[name] = objective.logits(encoded, batch)
        elif name == "sentence_pairs":
            found["pooler"] = torch.tanh(objective.pooler(encoded.hidden_TD[batch.layout.starts_B]))
            found[name] = objective.classifier(found["pooler"])
    return found


def check_round_trip(seed: int, folder: Path) -> None:
    case = random_models.drawn(seed, folder / "model")
    if case.refused:
        with pytest.raises(ConversionError, match=case.refused):
            import_model(folder / "model", folder / "checkpoint")
        assert [path.name for path in folder.iterdir()] == ["model"]
        return
    import_model(folder / "model", folder / "checkpoint")
    given = columns(seed)
    wanted, found = transformers_outputs(case.model, given), sesame_outputs(learner(folder / "checkpoint"), given)
    assert wanted.keys() <= found.keys()
    for name, value in wanted.items():
        assert_close(found[name], value)
    exported = export(folder / "checkpoint", folder / "again")
    kind = getattr(transformers, exported.architecture)
    again, report = kind.from_pretrained(folder / "again", output_loading_info=True, attn_implementation="eager")
    assert not any(report.values()), report
    repeated = transformers_outputs(again.eval(), given)
    for name in wanted.keys() & repeated.keys():
        assert_close(repeated[name], wanted[name])
    # GPT-2's head is its embedding, so every imported model has it.
    assert exported.architecture == case.architecture.replace("GPT2Model", "GPT2LMHeadModel")


@pytest.mark.parametrize("seed", range(FEW))
def test_a_model_computes_the_same(seed: int, tmp_path: Path) -> None:
    check_round_trip(seed, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(FEW, FEW + MANY))
def test_many_models_compute_the_same(seed: int, tmp_path: Path) -> None:
    check_round_trip(seed, tmp_path)


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A T5 with an untied output."""
    root = tmp_path_factory.mktemp("t5")
    for seed in range(5, 500, 7):
        case = random_models.drawn(seed, root / str(seed))
        if not case.refused and "lm_head.weight" in load_file(root / str(seed) / "model.safetensors"):
            return root / str(seed)
    raise AssertionError("no seed gives an untied T5")


@pytest.mark.parametrize("output", ["absent", "same", "other"])
@pytest.mark.parametrize("scaled", [None, True, False])
@pytest.mark.parametrize("tied", [None, True, False])
def test_tied_and_scaled_outputs_of_t5(
    tied: bool | None, scaled: bool | None, output: str, t5: Path, tmp_path: Path
) -> None:
    """Versions of transformers differ in the keys for a tied and a scaled output."""
    model = Path(shutil.copytree(t5, tmp_path / "model"))
    values, tensors = json.loads((model / "config.json").read_text()), load_file(model / "model.safetensors")
    for key, value in (("tie_word_embeddings", tied), ("scale_decoder_outputs", scaled)):
        values.pop(key)
        values |= {} if value is None else {key: value}
    made = {"absent": None, "same": tensors["shared.weight"].clone(), "other": tensors["shared.weight"].flip(1).clone()}
    del tensors["lm_head.weight"]
    tensors |= {} if made[output] is None else {"lm_head.weight": made[output]}
    (model / "config.json").write_text(json.dumps(values))
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    other = transformers.T5ForConditionalGeneration.from_pretrained(model, attn_implementation="eager").eval()
    import_model(model, tmp_path / "checkpoint")
    written = export(tmp_path / "checkpoint", tmp_path / "again")
    again = transformers.T5ForConditionalGeneration.from_pretrained(written.folder, attn_implementation="eager").eval()
    given = columns(1)
    wanted = transformers_outputs(other, given)["span_corruption"]
    assert_close(sesame_outputs(learner(tmp_path / "checkpoint"), given)["span_corruption"], wanted)
    assert_close(transformers_outputs(again, given)["span_corruption"], wanted)
