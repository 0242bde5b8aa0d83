"""Nats per held-out word, compared with one piece at a time, and the words that are asked for."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks.speedrun.held_out import Word, fitting, measure, windows
from sesame import configs
from sesame.configs.errors import CheckpointError
from sesame.configs.storage import digest_of
from sesame.data_pipeline.dataset.shards import DOCUMENTS
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.evaluation.zero_shot.language_model import load_language_model
from sesame.pretrain import learner
from sesame.pretrain.batch import Batch
from sesame.pretrain.checkpoints.record import CheckpointMetadata
from sesame.pretrain.checkpoints.save import write_weights
from sesame.pretrain.data.packing import pack
from sesame.pretrain.initialization import random_value
from sesame.pretrain.models import parse_model
from sesame.pretrain.models.family import Vocabulary

FAMILIES = {"masked_lm": "bert", "masked_next": "bert", "causal_lm": "gpt"}
SHAPE = {"layers": 1, "width": 16, "heads": 2, "feed_forward_width": 16, "positions": 1024, "dropout": 0.0}


@pytest.fixture
def checkpoint(dataset: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Name of an objective -> a random checkpoint that has it."""

    def make(objective: str) -> Path:
        path = dataset / "tokenizer.model"
        content, pieces = path.read_bytes(), len(Tokenizer.load(path))
        model = parse_model({"family": FAMILIES[objective], **SHAPE}, "test")
        module = learner.build(model, {objective: 1.0}, Vocabulary(pieces, path))
        draw = random_value(3, lambda name, shape: 0.5)
        metadata = CheckpointMetadata(
            step=1, samples=8, seed=1, vocabulary_size=pieces, tokenizer_sha256=digest_of(content),
            config={"model": configs.dump(model), "objectives": {objective: 1.0}},
        )  # fmt: skip
        folder = tmp_path / objective
        folder.mkdir()
        write_weights(folder, {n: draw(n, p.shape) for n, p in module.named_parameters()}, content, metadata)
        return folder

    return make


@pytest.mark.parametrize("objective", ["masked_lm", "masked_next"])
def test_nats_are_sums_over_single_pieces(
    checkpoint: Callable[[str], Path], objective: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.speedrun.held_out.of_device", lambda device: SimpleNamespace(name="fp32"))
    folder = checkpoint(objective)
    texts = ["the unbelievable cat\nsees  another incomprehensible dog " * 9, "one two three internationally"]
    documents = tmp_path / DOCUMENTS
    documents.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    tokenizer = Tokenizer.load(folder / "tokenizer.model")
    model, _ = load_language_model(folder)
    total, words, pieces = 0.0, 0, 0
    for text in texts:
        split = text.split()
        for start in range(0, len(split), 48):
            window = [tokenizer.encode(word) for word in split[start : start + 48]]
            for number in range(3, len(window), 6):
                words += 1
                for piece in range(len(window[number])):
                    total += _log_probability(model, objective, tokenizer, window, number, piece)
                    pieces += 1
    assert words == 8 + 2 + 1 and pieces > 1.5 * words
    found = measure(folder, documents)
    assert found.words == words and found.nats_per_word == pytest.approx(-total / words, rel=1e-5)


def _log_probability(
    model: learner.Learner, objective: str, tokenizer: Tokenizer, window: list[list[int]], number: int, piece: int
) -> float:
    """log p of one piece of one word, with every sixth word masked and the word's earlier pieces shown."""
    mask, ids, place = tokenizer.special.mask, [tokenizer.special.cls], 0
    assert mask is not None
    for each, pieces in enumerate(window):
        if each == number:
            place = len(ids) + piece
            ids += pieces[:piece] + [mask] * (len(pieces) - piece)
        else:
            ids += [mask] * len(pieces) if each % 6 == 3 else pieces
    ids.append(tokenizer.special.sep)
    batch = pack([np.array(ids)], [len(ids)])
    batch = Batch(batch.layout, {**batch.columns, "mask_positions": torch.tensor([place])})
    with torch.no_grad():
        logits = model.objectives[objective].logits(model.backbone(batch), batch)
    return float(logits.log_softmax(-1)[0, window[number][piece]])


def test_a_model_without_masks_is_refused(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / DOCUMENTS).write_text('{"text": "one two three four"}\n')
    with pytest.raises(CheckpointError, match="causal_lm, but held-out words need masked_lm or masked_next"):
        measure(checkpoint("causal_lm"), tmp_path / DOCUMENTS)


def test_a_window_of_many_pieces_is_halved_and_keeps_its_words(dataset: Path) -> None:
    tokenizer = Tokenizer.load(dataset / "tokenizer.model")
    (window,) = windows(" ".join(["extraordinarily"] * 48), tokenizer)
    assert sum(word.is_predicted for word in window) == 8
    parts = list(fitting(window, 60))
    assert [word for part in parts for word in part] == window and len(parts) > 1
    assert all(sum(len(word.pieces) for word in part) <= 60 for part in parts)
    (cut,) = fitting([Word([7] * 100, True)], 60)
    assert cut == [Word([7] * 60, True)]
