"""Answers that are parts of a text: windows, the loss, and the best span, each computed again in another way."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.evaluation.finetune_config import FinetuneConfig
from sesame.evaluation.finetuning.answers import answers
from sesame.evaluation.finetuning.encoding import load_task
from sesame.evaluation.finetuning.finetune import finetune, scores_of
from sesame.evaluation.finetuning.kinds import Extract, best_spans
from sesame.evaluation.finetuning.windows import windows
from sesame.evaluation.reading.tables import Examples, read_table
from sesame.evaluation.tasks import TASKS
from sesame.pretrain.models.bert import Bert

TASK = TASKS["CMRC2018"]


def _examples(question: str, text: str, answer: tuple[int, int]) -> Examples:
    return Examples([(question, text)], np.array([text[slice(*answer)]]), ["0"], counts=None, answer_ranges=[answer])


@pytest.mark.parametrize("length", range(60))
def test_windows_cover_the_text_and_have_the_answer(length: int, letter_tokenizer: Tokenizer) -> None:
    """One token for each character: a window of 20 has room for 20 - 3 - 4 = 13, and each begins 5 after the last."""
    text = "".join(chr(97 + place % 26) for place in range(length))
    answer = (length // 3, length // 3 + 4)
    encoded = windows(_examples("who?", text, answer), letter_tokenizer, 20, 5)
    assert encoded.counts is not None and encoded.targets is not None and encoded.answer_texts is not None
    starts = [0]
    while starts[-1] + 13 < length:
        starts.append(starts[-1] + 5)
    assert encoded.counts.tolist() == [len(starts)]
    question = letter_tokenizer.encode("who?")
    for start, tokens, first, target, ranges in zip(
        starts, encoded.tokens, encoded.first_segment_lengths, encoded.targets, encoded.ranges or [],
        strict=True,
    ):  # fmt: skip
        part = letter_tokenizer.encode(text[start : start + 13])
        assert tokens.tolist() == [2, *question, 3, *part, 3] and first == 6
        assert ranges[:6].tolist() == [[-1, -1]] * 6 and ranges[-1].tolist() == [-1, -1]
        assert [text[a:b] for a, b in ranges[6:-1]] == list(text[start : start + 13])
        inside = answer[0] >= start and min(answer[1], length) <= start + 13 and length > answer[0]
        expected = [6 + answer[0] - start, 6 + min(answer[1], length) - 1 - start] if inside else [0, 0]
        assert target.tolist() == expected


def test_the_loss_is_the_mean_of_both_cross_entropies() -> None:
    lengths, targets = [4, 7, 2], torch.tensor([[1, 2], [0, 0], [1, 1]])
    outputs = torch.full((3, 7, 2), float("-inf"))
    rows = [torch.randn(length, 2, requires_grad=True) for length in lengths]
    for number, row in enumerate(rows):
        outputs[number, : len(row)] = row
    loss = Extract().loss(outputs, targets, torch.tensor([1, 2]))
    terms = [
        -row[:, side].log_softmax(0)[target[side]] for row, target in zip(rows, targets, strict=True) for side in (0, 1)
    ]
    torch.testing.assert_close(loss, torch.stack(terms).mean())
    loss.backward()
    assert all(row.grad is not None and torch.isfinite(row.grad).all() for row in rows)


def _run_qa(logits: np.ndarray, first: int, end: int, longest: int, n_best: int) -> list[tuple[float, int, int]]:
    """The spans of transformers' run_qa: the n best starts times the n best ends, those that are possible, by score."""
    candidates = []
    for start in sorted(range(len(logits)), key=lambda place: -logits[place, 0])[:n_best]:
        for last in sorted(range(len(logits)), key=lambda place: -logits[place, 1])[:n_best]:
            if first <= start <= last < end and last - start + 1 <= longest:
                candidates.append((float(logits[start, 0] + logits[last, 1]), start, last))
    return sorted(candidates, reverse=True)


def test_the_best_span_is_that_of_run_qa() -> None:
    """With n best as many as there are tokens both search all spans; with fewer, run_qa's best is never better."""
    generator = np.random.default_rng(1)
    for _ in range(60):
        length = int(generator.integers(3, 30))
        first = int(generator.integers(1, length))
        end, longest = int(generator.integers(first, length)), int(generator.integers(1, 12))
        logits = generator.normal(size=(length, 2)).astype(np.float32)
        outputs = torch.full((2, length + 3, 2), float("-inf"))
        outputs[0, :length], outputs[1, :2] = torch.from_numpy(logits), 0.0
        found = best_spans(outputs, torch.tensor([first, 1]), torch.tensor([end, 1]), longest).tolist()
        expected = [*_run_qa(logits, first, end, longest, length), (-math.inf, 0, 0)][0]
        assert found[0] == [pytest.approx(expected[0]), *expected[1:]]
        assert found[1] == [-math.inf, 0, 0]
        few = _run_qa(logits, first, end, longest, 3)
        assert not few or few[0][0] <= expected[0] + 1e-6


def test_the_best_window_of_a_row_answers(letter_tokenizer: Tokenizer) -> None:
    text = "abcdefghijklmnopqrstuvwxyz"
    examples = Examples(
        [("q", text), ("q", text[:3])], np.array(["x", "y"]), ["0", "1"], answer_ranges=[(0, 1), (0, 1)]
    )
    encoded = windows(examples, letter_tokenizer, 14, 10)
    assert encoded.counts is not None and encoded.counts.tolist() == [3, 1]
    outputs = np.zeros((4, 3), np.float32)
    # Score, first and last token: after [CLS] q [SEP]; the second window begins with the 11th letter.
    for row, best in enumerate([(1, 3, 4), (2.5, 5, 7), (2, 3, 3), (-1, 4, 5)]):
        outputs[row, :3] = best
    assert answers(TASK, encoded, outputs).tolist() == ["mno", "bc"]
    outputs[3] = -np.inf, 0, 0
    assert answers(TASK, encoded, outputs).tolist() == ["mno", ""]
    earlier = np.concatenate([outputs, np.ones((4, 57), np.float32)], 1)
    assert answers(TASK, encoded, earlier).tolist() == ["mno", ""], "earlier versions stored 20 spans"


@pytest.mark.parametrize("name", ["bert-base-chinese-vocab.txt", "albert-30k-spiece.model"])
def test_the_target_tokens_say_the_answer(name: str, shared: Path, tmp_path: Path) -> None:
    """By a WordPiece and a sentencepiece vocabulary: what is between the targets is the answer, or as little more as
    whole tokens allow."""
    context = "  范廷颂（1919年6月15日－2009年），圣名保禄，Café ﬁne U.S. Army，河内总教区宗座署理。" * 4
    texts = ["圣名保禄", "1919年6月15日", "U.S. Army", "ﬁne", "署理"]
    queries = [
        {"id": f"Q{number}", "question": "他？", "answers": [{"text": text, "answer_start": context.rindex(text)}]}
        for number, text in enumerate(texts)
    ]
    path = tmp_path / "CMRC2018" / "dev.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"data": [{"paragraphs": [{"id": "D", "context": context, "qas": queries}]}]}))
    tokenizer = Tokenizer.load(shared / "vectors" / name)
    encoded = windows(read_table(tmp_path, TASK.dev[""], TASK), tokenizer, 64, 24)
    assert encoded.targets is not None and encoded.counts is not None and encoded.answer_texts is not None
    outputs = np.zeros((len(encoded.tokens), 3), np.float32)
    outputs[:, 0], outputs[:, 1:3] = encoded.targets.any(1), encoded.targets
    found = answers(TASK, encoded, outputs)
    for text, answer in zip(texts, found, strict=True):
        assert text in answer and len(answer) <= len(text) + 16, (text, answer)
    if name.startswith("bert"):
        assert found.tolist() == texts


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_place_of_a_word_is_learned(
    precision: Literal["fp32", "bf16"],
    tmp_path: Path,
    letter_tokenizer: Tokenizer,
    make_backbone: Callable[[int], Bert],
) -> None:
    """The answer is the word of z in a text of several windows."""
    generator = np.random.default_rng(1)
    for split, rows in (("train", 240), ("dev", 40)):
        paragraphs = []
        for row in range(rows):
            words = ["".join(generator.choice(list("bcdefgh"), 3)) for _ in range(12)]
            place = int(generator.integers(12))
            words[place] = "zzz"
            answer = {"text": "zzz", "answer_start": 4 * place}
            query = {"id": f"{row}", "question": "?", "answers": [answer]}
            paragraphs.append({"id": f"{row}", "context": " ".join(words), "qas": [query]})
        path = tmp_path / "CMRC2018" / f"{split}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))
    config = FinetuneConfig(
        learning_rate=3e-3, epochs=5, batch_size=16, sequence_length=32, window_stride=12, precision=precision,
        longest_answer=6,
    )  # fmt: skip
    data = load_task(TASK, config, tmp_path, letter_tokenizer, False)
    assert data.train is not None and len(data.train.tokens) > 2 * data.train.rows
    outcome = finetune(make_backbone(1), data, config, 1, torch.device("cpu"))
    scores = scores_of(data, outcome.dev)
    assert scores["cmrc_em"] > 0.9 and scores["cmrc_f1"] >= scores["cmrc_em"]


def test_padding_of_a_batch_changes_no_output(
    make_backbone: Callable[[int], Bert], letter_tokenizer: Tokenizer
) -> None:
    from sesame.evaluation.finetuning.batches import pack_rows
    from sesame.evaluation.finetuning.finetune import TaskModel

    examples = Examples(
        [("q", "abc"), ("q", "abcdefgh")], np.array(["a", "b"]), ["0", "1"], answer_ranges=[(0, 1), (0, 2)]
    )
    encoded = windows(examples, letter_tokenizer, 32, 8)
    model = TaskModel(make_backbone(1), TASK, FinetuneConfig(precision="fp32")).eval()
    with torch.no_grad():
        both = model(pack_rows(encoded, np.array([0, 1])))
        alone = [model(pack_rows(encoded, np.array([row]))) for row in (0, 1)]
    assert both.shape == (2, 12, 2) and (both[0, 7:] == -math.inf).all()
    torch.testing.assert_close(both[0, :7], alone[0][0])
    torch.testing.assert_close(both[1], alone[1][0])
    assert F.softmax(both[0, :, 0], 0).isfinite().all()


def test_the_dropout_of_a_head_is_that_of_the_head(make_backbone: Callable[[int], Bert]) -> None:
    from sesame.evaluation.finetuning.finetune import TaskModel

    model = TaskModel(make_backbone(1), TASK, FinetuneConfig(dropout=0.3, head_dropout=0.2))
    assert {module.p for module in model.head.modules() if isinstance(module, nn.Dropout)} == {0.2}
