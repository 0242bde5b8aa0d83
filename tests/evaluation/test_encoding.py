"""Special tokens, cutting, the split of a dev set and the limit on training rows."""

import numpy as np

from evaluation.config import FinetuneConfig
from evaluation.encoding import encode, load_task
from evaluation.reading import Examples
from evaluation.tasks import TASKS


def _encode(texts, tokenizer, length=64):
    return encode(Examples(texts, np.zeros(len(texts), np.int64), ["0"] * len(texts), 0), tokenizer, length)


def test_a_single_sentence(tokenizer):
    encoded = _encode([("ab",)], tokenizer)
    assert encoded.tokens[0].tolist() == [2, *tokenizer.encode("ab"), 3]
    assert encoded.first_segment_lengths.tolist() == [4]


def test_a_pair(tokenizer):
    encoded = _encode([("ab", "cde")], tokenizer)
    assert encoded.tokens[0].tolist() == [2, *tokenizer.encode("ab"), 3, *tokenizer.encode("cde"), 3]
    assert encoded.first_segment_lengths.tolist() == [4]


def test_the_longer_text_of_a_pair_is_cut(tokenizer):
    for first, second, kept in ((20, 3, (10, 3)), (3, 20, (3, 10)), (20, 20, (7, 6)), (6, 7, (6, 7)), (0, 30, (0, 13))):
        encoded = _encode([("a" * first, "b" * second)], tokenizer, 16)
        assert encoded.first_segment_lengths[0] - 2 == kept[0]
        assert len(encoded.tokens[0]) == sum(kept) + 3 <= 16


def test_an_even_cut_takes_from_the_longer_text_token_by_token(tokenizer):
    """The same lengths as the loop of BERT's published code."""
    for first in range(12):
        for second in range(12):
            a, b = first, second
            while a + b > 9:
                a, b = (a - 1, b) if a > b else (a, b - 1)
            encoded = _encode([("a" * first, "b" * second)], tokenizer, 12)
            mine = encoded.first_segment_lengths[0] - 2
            assert mine == a and len(encoded.tokens[0]) == a + b + 3


def test_a_split_dev_set_is_disjoint_and_named(letters, tokenizer):
    (letters / "SST-2" / "train.tsv").unlink()
    data = load_task(TASKS["SST-2"], FinetuneConfig(split_dev=True, sequence_length=64), letters, tokenizer, False)
    assert data.title == "SST-2 (dev split 80/20)" and data.notes
    assert (len(data.train.tokens), len(data.dev[""].tokens)) == (40, 10)
    assert not set(data.train.indices) & set(data.dev[""].indices)
    again = load_task(TASKS["SST-2"], FinetuneConfig(split_dev=True, sequence_length=64), letters, tokenizer, False)
    assert again.train.indices == data.train.indices


def test_limited_rows_are_the_same_each_time_and_noted(letters, tokenizer):
    config = FinetuneConfig(limit_train_rows=30, sequence_length=64)
    first, second = (load_task(TASKS["SST-2"], config, letters, tokenizer, True) for _ in range(2))
    assert first.train.indices == second.train.indices and len(first.train.tokens) == 30
    assert first.notes == ["trained on 30 of 200 rows, drawn at random"]
    assert len(first.test["SST-2"].tokens) == 20
