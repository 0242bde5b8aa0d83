"""Loss, greedy answers and weights of text to text equal those of transformers, for imported T5 and Switch models."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.evaluation.finetune_config import FinetuneConfig
from sesame.evaluation.finetuning.batches import pack_rows, with_targets
from sesame.evaluation.finetuning.decoder import greedy
from sesame.evaluation.finetuning.encoded import EncodedExamples
from sesame.evaluation.finetuning.finetune import TaskModel
from sesame.evaluation.results.result import fingerprint
from sesame.evaluation.tasks import TASKS
from sesame.evaluation.tasks.text_forms import as_text
from sesame.pretrain.checkpoints.load import load_backbone, randomized
from sesame.pretrain.huggingface.from_hf import import_model

transformers = pytest.importorskip("transformers")
random_models = pytest.importorskip("tests.pretrain.huggingface.random_models")
CONFIG = FinetuneConfig(form="text", precision="fp32")
FIRST_SEEDS = {"tied": 5, "untied": 5, "switch": 6}


def _model(kind: str, root: Path) -> Path:
    """Folder of a random model."""
    for seed in range(FIRST_SEEDS[kind], 500, 7):
        folder = root / str(seed)
        if random_models.drawn(seed, folder).refused:
            continue
        is_untied = "lm_head.weight" in load_file(folder / "model.safetensors")
        if kind == "switch" or is_untied == (kind == "untied"):
            return folder
    raise AssertionError(f"no seed gives a {kind} model")


@pytest.mark.slow
@pytest.mark.parametrize("kind", FIRST_SEEDS)
@torch.no_grad()
def test_loss_and_answers_equal_those_of_transformers(kind: str, tmp_path: Path) -> None:
    folder = _model(kind, tmp_path)
    architecture = "SwitchTransformersForConditionalGeneration" if kind == "switch" else "T5ForConditionalGeneration"
    other = getattr(transformers, architecture).from_pretrained(folder, attn_implementation="eager").eval()
    loaded = load_backbone(import_model(folder, tmp_path / "checkpoint").folder)
    assert (loaded.backbone.decoder_projection is not None) == (not loaded.backbone.ties_output)
    tokenizer = Tokenizer.load(loaded.tokenizer_path)
    special, generator = tokenizer.special, np.random.default_rng(1)
    tokens = [
        np.append(generator.choice(tokenizer.ordinary, length), special.sep).astype(np.int32) for length in (5, 9, 7)
    ]
    targets = [
        np.array([special.pad, *generator.choice(tokenizer.ordinary, length), special.sep]) for length in (1, 3, 2)
    ]
    examples = EncodedExamples(tokens, np.array([len(each) for each in tokens]), np.zeros(3), list("012"))
    batch = pack_rows(examples, np.arange(3))
    model = TaskModel(loaded.backbone, as_text(TASKS["RTE"]), CONFIG).eval()
    pad = torch.nn.utils.rnn.pad_sequence
    ids = pad([torch.from_numpy(each).long() for each in tokens], batch_first=True, padding_value=special.pad)
    mask = pad([torch.ones(len(each)).long() for each in tokens], batch_first=True)
    labels = pad([torch.from_numpy(each[1:]).long() for each in targets], batch_first=True, padding_value=-100)
    theirs = other(input_ids=ids, attention_mask=mask, labels=labels)
    logits = theirs.logits.log_softmax(-1)
    expected = -logits.gather(-1, labels.clamp(min=0)[..., None])[..., 0][labels >= 0].mean()
    torch.testing.assert_close(model(with_targets(batch, targets)), expected, rtol=1e-4, atol=1e-4)
    said = other.generate(
        input_ids=ids, attention_mask=mask, max_new_tokens=8, do_sample=False, num_beams=1, eos_token_id=special.sep,
        decoder_start_token_id=special.pad, pad_token_id=special.pad, use_cache=False,
    )  # fmt: skip
    found = greedy(model, batch, loaded.backbone(batch).hidden_TD, tokenizer, 8)
    for ours, row in zip(found, said.tolist(), strict=True):
        after = row[1:]
        assert ours == (after[: after.index(special.sep)] if special.sep in after else after)


@pytest.mark.slow
def test_the_projection_of_the_baseline_is_random_and_changes_the_fingerprint(tmp_path: Path) -> None:
    checkpoint = import_model(_model("untied", tmp_path), tmp_path / "checkpoint").folder
    loaded = load_backbone(checkpoint)
    kept = loaded.backbone.decoder_projection
    before = fingerprint(loaded.backbone, loaded.tokenizer_path, loaded.model)
    head = TaskModel(loaded.backbone, as_text(TASKS["RTE"]), CONFIG).head
    torch.testing.assert_close(head.projection.weight, kept)  # pyright: ignore[reportAttributeAccessIssue]
    loaded.backbone.decoder_projection = kept.flip(0)
    assert fingerprint(loaded.backbone, loaded.tokenizer_path, loaded.model) != before
    random = load_backbone(checkpoint, seed=1).backbone
    assert random.decoder_projection is None
    assert randomized(loaded.backbone, loaded.model, 1).decoder_projection is None
    head = TaskModel(random, as_text(TASKS["RTE"]), CONFIG).head
    assert not torch.isclose(dict(head.named_parameters())["projection.weight"], kept).all()
