"""Fine-tuning takes the steps of transformers: the same losses and outputs from the same weights and rows, to 1e-5."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.evaluation.finetune_config import FinetuneConfig
from sesame.evaluation.finetuning.batches import shuffled_batches
from sesame.evaluation.finetuning.encoded import EncodedExamples
from sesame.evaluation.finetuning.encoding import TaskData, load_task
from sesame.evaluation.finetuning.finetune import TaskModel, finetune
from sesame.evaluation.tasks import TASKS
from sesame.pretrain.checkpoints.load import load_backbone
from sesame.pretrain.huggingface.from_hf import import_model

transformers = pytest.importorskip("transformers", reason="the exchange extra is not installed")

CPU = torch.device("cpu")
SLOW = ("CoLA", "MRPC", "RTE")
SEED, BATCH, RATE, STEPS = 3, 8, 1e-3, 8
CONFIG = FinetuneConfig(
    learning_rate=RATE,
    batch_size=BATCH,
    epochs=1,
    warmup_fraction=0.25,
    weight_decay=0.1,
    dropout=0.0,
    attention_dropout=0.0,
    sequence_length=128,
    precision="fp32",
    limit_train_rows=STEPS * BATCH,
    limit_dev_rows=40,
)


@pytest.fixture(scope="module")
def model_folder(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random BERT of transformers with the vocabulary of bert-base-uncased."""
    folder = tmp_path_factory.mktemp("bert")
    words = (shared / "vectors" / "bert-base-uncased-vocab.txt").read_text(encoding="utf-8")
    (folder / "vocab.txt").write_text(words, encoding="utf-8")
    shape: dict[str, Any] = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    torch.manual_seed(5)
    config = transformers.BertConfig(**shape, intermediate_size=128, max_position_embeddings=128, initializer_range=0.1)
    model = transformers.BertForSequenceClassification(config)
    torch.nn.init.normal_(model.bert.pooler.dense.bias, std=0.1)
    model.bert.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("task", ["STS-B", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_losses_and_outputs_are_those_of_transformers(
    model_folder: Path, shared: Path, tmp_path: Path, task: str
) -> None:
    checkpoint = import_model(model_folder, tmp_path / "checkpoint").folder
    data = load_task(TASKS[task], CONFIG, shared / "glue", Tokenizer.load(checkpoint / "tokenizer.model"), False)
    assert data.train is not None
    outcome = finetune(load_backbone(checkpoint).backbone, data, CONFIG, SEED, CPU)
    model = _their_model(model_folder, checkpoint, data)
    losses, logits = _their_steps(model, data.train, data.dev[""])
    assert len(outcome.losses) == STEPS
    np.testing.assert_allclose(outcome.losses, losses, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(outcome.dev[""], logits, rtol=1e-5, atol=1e-5)
    assert np.ptp(losses) > 0.01 and np.abs(logits - logits[0]).max() > 0.01, "nothing was learned or told apart"


def _their_model(folder: Path, checkpoint: Path, data: TaskData) -> Any:
    """The classifier of transformers with our head's initial output layer."""
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        folder,
        num_labels=data.task.outputs,
        attn_implementation="eager",
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    ).float()
    torch.manual_seed(SEED)
    ours = TaskModel(load_backbone(checkpoint).backbone, data.task, CONFIG)
    model.classifier.load_state_dict(ours.get_submodule("head.output").state_dict())
    return model


def _their_steps(model: Any, train: EncodedExamples, dev: EncodedExamples) -> tuple[list[float], np.ndarray]:
    """Losses of one epoch, and outputs for the dev rows in the unit of the labels."""
    is_regression = train.labels.dtype == np.float32
    mean, std = (float(train.labels.mean()), float(train.labels.std())) if is_regression else (0.0, 1.0)
    bare = ("bias", "LayerNorm.weight")
    named = list(model.named_parameters())
    groups = [
        {"params": [each for name, each in named if not name.endswith(bare)], "weight_decay": 0.1},
        {"params": [each for name, each in named if name.endswith(bare)], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, RATE, eps=1e-6)
    # Warm-up over 2 of 8 steps, then linear to 0.
    rates = [0.5, 1.0, 1.0, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]
    losses = []
    model.train()
    for rows, rate in zip(shuffled_batches(train.lengths, BATCH, np.random.default_rng(SEED)), rates, strict=True):
        for group in optimizer.param_groups:
            group["lr"] = RATE * rate
        labels = torch.from_numpy((train.labels[rows] - mean) / std if is_regression else train.labels[rows])
        loss = model(**_padded(train, rows), labels=labels).loss
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()
    with torch.no_grad():
        logits = model(**_padded(dev, np.arange(dev.rows))).logits
    return losses, (logits * std + mean).numpy()


def _padded(examples: EncodedExamples, rows: np.ndarray) -> dict[str, torch.Tensor]:
    longest = max(len(examples.tokens[row]) for row in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask, types = torch.zeros_like(ids), torch.zeros_like(ids)
    for place, row in enumerate(rows):
        length, first = len(examples.tokens[row]), int(examples.first_segment_lengths[row])
        ids[place, :length] = torch.from_numpy(examples.tokens[row]).long()
        mask[place, :length] = 1
        types[place, first:length] = 1
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
