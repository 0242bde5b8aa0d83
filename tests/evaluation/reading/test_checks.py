"""Files of a task that are in the place of another, training rows of one class, and tasks that cannot be."""

import math
from pathlib import Path

import numpy as np
import pytest

from sesame.configs.errors import ConfigError, TaskError
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.evaluation.finetune_config import FinetuneConfig
from sesame.evaluation.finetuning.encoding import load_task
from sesame.evaluation.scores import ANSWER_SCORES, METRICS, score
from sesame.evaluation.tasks import TASKS, Table, Task

SHORT = FinetuneConfig(sequence_length=64)


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines(keepends=True)


@pytest.mark.parametrize(("source", "target"), [("dev", "test"), ("train", "dev"), ("dev", "train")])
def test_a_file_in_the_place_of_another_is_an_error(
    source: str, target: str, letters: Path, letter_tokenizer: Tokenizer
) -> None:
    rows = [line.split("\t") for line in _lines(letters / "SST-2" / f"{source}.tsv")[1:]]
    if target == "test":
        lines = ["index\tsentence\n", *(f"{number}\t{row[0]}\n" for number, row in enumerate(rows))]
    else:
        lines = _lines(letters / "SST-2" / f"{source}.tsv")
    (letters / "SST-2" / f"{target}.tsv").write_text("".join(lines))
    with pytest.raises(TaskError, match=r"all of its rows are in .*, so one of the two is in the wrong place"):
        load_task(TASKS["SST-2"], SHORT, letters, letter_tokenizer, True)


def test_training_rows_of_one_class_are_an_error(letters: Path, letter_tokenizer: Tokenizer) -> None:
    path = letters / "SST-2" / "train.tsv"
    head, *rows = _lines(path)
    path.write_text("".join([head, *(row for row in rows if row.endswith("1\n"))]))
    with pytest.raises(TaskError, match="every row to train on has the label '1', so there is nothing to learn"):
        load_task(TASKS["SST-2"], SHORT, letters, letter_tokenizer, False)


def test_a_dev_set_of_one_class_is_not_split(letters: Path, letter_tokenizer: Tokenizer) -> None:
    path = letters / "SST-2" / "dev.tsv"
    head, *rows = _lines(path)
    path.write_text("".join([head, *(row for row in rows if row.endswith("1\n"))]))
    with pytest.raises(TaskError, match=r"dev\.tsv: every row to train on has the label '1'"):
        load_task(TASKS["SST-2"], SHORT.model_copy(update={"split_dev": True}), letters, letter_tokenizer, False)


def test_rows_that_two_files_share_are_noted(letters: Path, letter_tokenizer: Tokenizer) -> None:
    with (letters / "SST-2" / "dev.tsv").open("a") as file:
        file.write(_lines(letters / "SST-2" / "train.tsv")[1])
    data = load_task(TASKS["SST-2"], SHORT, letters, letter_tokenizer, False)
    assert any("rows of SST-2/dev.tsv are in SST-2/train.tsv, too" in note for note in data.notes)


def test_a_test_set_of_another_size_than_the_official_one_is_noted(letters: Path, letter_tokenizer: Tokenizer) -> None:
    data = load_task(TASKS["SST-2"], SHORT, letters, letter_tokenizer, True)
    assert "SST-2/test.tsv has 20 rows, the official release 1821" in data.notes


@pytest.mark.parametrize("metric", METRICS)
def test_a_dev_set_of_one_row_has_a_score(metric: str) -> None:
    kind = str if metric in ANSWER_SCORES else int
    pairs = [(kind(label), kind(prediction)) for label in (0, 1) for prediction in (0, 1)]
    values = [score(metric, np.array([label]), np.array([prediction])) for label, prediction in pairs]
    assert all(math.isnan(value) or 0 <= value <= 1 for value in values)


def test_the_f1_of_three_classes_is_refused_and_macro_f1_is_computed() -> None:
    table = Table("T/train.tsv", ("text",), "label")
    with pytest.raises(ConfigError, match="f1 is defined for two labels; use macro_f1 for 3"):
        Task("T", ("f1",), table, {"": table}, labels=("a", "b", "c"))
    # Classes 0, 1, 2: F1 of 1, 2/3 and 0.
    found = score("macro_f1", np.array([0, 1, 1, 2]), np.array([0, 1, 1, 1]))
    assert found == pytest.approx((1 + 4 / 5 + 0) / 3)
