"""Special tokens, truncation, the split of a dev set and the limit on training rows."""

import json
from pathlib import Path

import numpy as np
import pytest

from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.evaluation.finetune_config import FinetuneConfig
from sesame.evaluation.finetuning.encoded import EncodedExamples
from sesame.evaluation.finetuning.encoding import encode, load_task
from sesame.evaluation.reading.tables import Examples
from sesame.evaluation.tasks import TASKS


def _encode(texts: list[tuple[str, ...]], tokenizer: Tokenizer, length: int = 64) -> EncodedExamples:
    return encode(
        Examples(texts, np.zeros(len(texts), np.int64), [str(row) for row in range(len(texts))]), tokenizer, length
    )


def test_a_single_sentence(letter_tokenizer: Tokenizer) -> None:
    encoded = _encode([("ab",)], letter_tokenizer)
    assert encoded.tokens[0].tolist() == [2, *letter_tokenizer.encode("ab"), 3]
    assert encoded.first_segment_lengths.tolist() == [4]


def test_a_pair(letter_tokenizer: Tokenizer) -> None:
    encoded = _encode([("ab", "cde")], letter_tokenizer)
    assert encoded.tokens[0].tolist() == [2, *letter_tokenizer.encode("ab"), 3, *letter_tokenizer.encode("cde"), 3]
    assert encoded.first_segment_lengths.tolist() == [4]


def test_the_longer_text_of_a_pair_is_truncated(letter_tokenizer: Tokenizer) -> None:
    for first, second, kept in ((20, 3, (10, 3)), (3, 20, (3, 10)), (20, 20, (7, 6)), (6, 7, (6, 7)), (0, 30, (0, 13))):
        encoded = _encode([("a" * first, "b" * second)], letter_tokenizer, 16)
        assert encoded.first_segment_lengths[0] - 2 == kept[0]
        assert len(encoded.tokens[0]) == sum(kept) + 3 <= 16


def test_truncation_equals_the_loop_of_bert(letter_tokenizer: Tokenizer) -> None:
    """The lengths are those of the loop in BERT's published code."""
    for first in range(12):
        for second in range(12):
            a, b = first, second
            while a + b > 9:
                a, b = (a - 1, b) if a > b else (a, b - 1)
            encoded = _encode([("a" * first, "b" * second)], letter_tokenizer, 12)
            assert encoded.first_segment_lengths[0] - 2 == a and len(encoded.tokens[0]) == a + b + 3


def test_a_split_dev_set_is_disjoint_and_noted_in_the_title(letters: Path, letter_tokenizer: Tokenizer) -> None:
    (letters / "SST-2" / "train.tsv").unlink()
    config = FinetuneConfig(split_dev=True, sequence_length=64)
    data = load_task(TASKS["SST-2"], config, letters, letter_tokenizer, False)
    assert data.title == "SST-2 (dev split 80/20)" and data.notes
    assert data.train is not None and (data.train.rows, data.dev[""].rows) == (40, 10)
    assert not set(data.train.indices) & set(data.dev[""].indices)
    again = load_task(TASKS["SST-2"], config, letters, letter_tokenizer, False)
    assert again.train is not None and again.train.indices == data.train.indices


def test_limited_rows_are_the_same_each_time_and_noted(letters: Path, letter_tokenizer: Tokenizer) -> None:
    config = FinetuneConfig(limit_train_rows=30, sequence_length=64)
    first, second = (load_task(TASKS["SST-2"], config, letters, letter_tokenizer, True) for _ in range(2))
    assert first.train is not None and second.train is not None
    assert first.train.indices == second.train.indices and first.train.rows == 30
    assert first.notes[-1] == "trained on 30 of 200 rows, drawn at random"
    assert len(first.test["SST-2"].tokens) == 20


@pytest.mark.parametrize("before", [0, 3, 20, 60])
@pytest.mark.parametrize("after", [0, 3, 20, 60])
def test_a_text_is_cut_on_both_sides_of_its_gap(before: int, after: int, letter_tokenizer: Tokenizer) -> None:
    text = "b" * before + "WXYZ" + "a" * after
    examples = Examples([(text,)], np.array([0]), ["0"], gaps=[(0, before, before + 4)])
    tokens = encode(examples, letter_tokenizer, 16).tokens[0].tolist()
    kept = tokens[1:-1]
    assert len(kept) == min(14, len(text)) and (tokens[0], tokens[-1]) == (2, 3)
    gap, whole = letter_tokenizer.encode("WXYZ"), letter_tokenizer.encode(text)
    place = kept.index(gap[0])
    assert kept[place : place + 4] == gap
    assert any(whole[start : start + len(kept)] == kept for start in range(len(whole)))
    # As much on either side as there is, else five tokens.
    assert place >= min(before, 5) and len(kept) - place - 4 >= min(after, 5)


def test_limited_rows_are_those_of_the_whole_file(tmp_path: Path, letter_tokenizer: Tokenizer) -> None:
    """Candidates, gaps and groups of the chosen rows stay with them, and nothing else is encoded."""
    idioms = ["aaaa", "bbbb", "cccc"]
    lines = [{"content": [f"x{row}#idiom{row:06}#y"], "candidates": idioms} for row in range(40)]
    labels = {f"#idiom{row:06}#": row % 3 for row in range(40)}
    (tmp_path / "CHID").mkdir()
    for split in ("train", "dev"):
        records = [{**line, "content": [f"{split}{line['content'][0]}"]} for line in lines]
        (tmp_path / "CHID" / f"{split}.json").write_text("".join(json.dumps(each) + "\n" for each in records))
        (tmp_path / "CHID" / f"{split}_answer.json").write_text(json.dumps(labels))
    whole = load_task(TASKS["CHID"], FinetuneConfig(sequence_length=32), tmp_path, letter_tokenizer, False)
    config = FinetuneConfig(sequence_length=32, limit_train_rows=7, limit_dev_rows=5)
    data = load_task(TASKS["CHID"], config, tmp_path, letter_tokenizer, False)
    assert whole.train is not None and data.train is not None
    for some, all_rows, count in ((data.train, whole.train, 7), (data.dev[""], whole.dev[""], 5)):
        assert some.rows == count and len(some.tokens) == 3 * count
        numbers = [all_rows.indices.index(index) for index in some.indices]
        expected = all_rows.take(np.array(numbers))
        assert [each.tolist() for each in some.tokens] == [each.tolist() for each in expected.tokens]
        assert some.labels.tolist() == expected.labels.tolist() == [number % 3 for number in numbers]
        assert some.groups is not None and len(set(some.groups)) == count
    more = config.model_copy(update={"limit_dev_rows": 40})
    titles = [each.title for each in (whole, data, load_task(TASKS["CHID"], more, tmp_path, letter_tokenizer, False))]
    assert titles == ["CHID", "CHID (5 dev rows)", "CHID"], "a limit above the rows says nothing"
