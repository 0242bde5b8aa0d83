"""Reading of the released files of every task, errors of malformed files, and submission files."""

from pathlib import Path

import pytest

from sesame.configs.errors import TaskError
from sesame.data_pipeline.sources.streams import zstd
from sesame.evaluation.reading.tables import Examples, MissingFileError, read_table
from sesame.evaluation.tasks import TASKS
from sesame.evaluation.tasks.own import OwnTable, OwnTask

ROWS = {
    "CoLA": (8551, 1043, 1063),
    "SST-2": (67349, 872, 1821),
    "MRPC": (3668, 408, 1725),
    "STS-B": (5749, 1500, 1379),
    "RTE": (2490, 277, 3000),
    "WNLI": (635, 71, 146),
}


@pytest.mark.parametrize("name", ROWS)
def test_every_row_of_the_released_files_is_read(name: str, glue: Path) -> None:
    task, data_dir = TASKS[name], glue
    examples = [read_table(data_dir, table, task) for table in task.tables]
    assert tuple(len(part.texts) for part in examples) == ROWS[name]
    assert all(text for texts in examples[0].texts for text in texts)
    assert len(examples[0].labels) == ROWS[name][0] and len(examples[2].labels) == 0
    assert examples[2].indices[0] == "0" and examples[2].indices[-1] == str(ROWS[name][2] - 1)


@pytest.mark.parametrize("name", ["MNLI", "QQP", "QNLI"])
def test_column_handling_of_the_large_tasks(name: str, shared: Path) -> None:
    task, data_dir = TASKS[name], shared / "glue_samples"
    for table in [table for table in task.tables if "AX" not in table.file]:
        examples = read_table(data_dir, table, task)
        assert len(examples.texts) == 1 and len(examples.texts[0]) == 2 and all(examples.texts[0])


def test_mnli_reads_the_gold_label_and_plain_sentences(shared: Path) -> None:
    task = TASKS["MNLI"]
    examples = read_table(shared / "glue_samples", task.dev["m"], task)
    assert examples.texts[0] == ("The new rights are nice enough", "Everyone really likes the newest benefits")
    assert task.labels[examples.labels[0]] == "neutral"


def test_the_diagnostic_set_is_a_test_set_of_mnli(glue: Path) -> None:
    task = TASKS["MNLI"]
    examples = read_table(glue, task.test["AX"], task)
    assert len(examples.texts) == 1104
    assert examples.texts[0] == ("The cat sat on the mat.", "The cat did not sit on the mat.")


@pytest.mark.parametrize("damage", ["truncated", "replaced"])
def test_a_damaged_compressed_file_is_named(tmp_path: Path, damage: str) -> None:
    (tmp_path / "RTE").mkdir()
    text = "index\tsentence1\tsentence2\tlabel\n" + "".join(f"{row}\ta{row}\tb\tentailment\n" for row in range(999))
    content = zstd.compress(text.encode())
    kept = {"truncated": content[:-20], "replaced": content[:40] + bytes(40) + content[80:]}
    (tmp_path / "RTE" / "dev.tsv.zst").write_bytes(kept[damage])
    with pytest.raises(TaskError, match=r"RTE/dev\.tsv\.zst: cannot be read \(.+\); correct the file"):
        read_table(tmp_path, TASKS["RTE"].dev[""], TASKS["RTE"])


def test_byte_order_mark_quotes_and_missing_last_line_end(tmp_path: Path) -> None:
    path = _write(
        tmp_path, "MRPC", '\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t1\t2\tHe said " so .\tHe said .'
    )
    examples = _train(path, "MRPC")
    assert examples.texts == [('He said " so .', "He said .")]
    assert examples.labels.tolist() == [1]


def test_unicode_line_separators_are_text(tmp_path: Path) -> None:
    path = _write(tmp_path, "SST-2", "sentence\tlabel\na\u2028b\x85c\t1\n")
    assert _train(path, "SST-2").texts == [("a\u2028b\x85c",)]


def test_texts_of_an_own_task_have_any_order_in_the_header(tmp_path: Path) -> None:
    (tmp_path / "dev.tsv").write_text("title\tbody\tlabel\nA title\tA body\tgood\n")
    train, dev = (OwnTable(file=f"{split}.tsv", texts=("body", "title"), label="label") for split in ("train", "dev"))
    task = OwnTask(name="Own", metrics=("accuracy",), labels=("bad", "good"), train=train, dev=dev).row()
    assert read_table(tmp_path, task.dev[""], task).texts == [("A body", "A title")]


@pytest.mark.parametrize("text", ["title\tbody\tlabel\nA title\n", "title\tbody\tlabel\n", "title\tbody\n"])
def test_a_fault_of_an_own_task_names_no_release(tmp_path: Path, text: str) -> None:
    (tmp_path / "dev.tsv").write_text(text)
    train, dev = (OwnTable(file=f"{split}.tsv", texts=("body", "title"), label="label") for split in ("train", "dev"))
    task = OwnTask(name="Own", metrics=("accuracy",), labels=("bad", "good"), train=train, dev=dev).row()
    with pytest.raises(TaskError, match="correct the file, or fetch it again") as raised:
        read_table(tmp_path, task.dev[""], task)
    assert "release" not in str(raised.value)


BROKEN = {
    "missing column": ("SST-2", "sentence\tquality\nfine\t1\n", "line 1: the header has no column 'label'"),
    "unknown label": ("SST-2", "sentence\tlabel\nfine\t1\nbad\t2\n", "line 3: unknown label '2'; SST-2 has 0, 1"),
    "too few cells": ("SST-2", "sentence\tlabel\nfine\n", "line 2: has 1 tab-separated cells where 2"),
    "too many cells": ("RTE", "index\tsentence1\tsentence2\tlabel\n0\ta\tb\tc\tentailment\n", "line 2: has 5"),
    "no header expected": ("CoLA", "gj04\t1\tfine\n", "line 1: has 3 tab-separated cells where 4"),
    "no rows": ("SST-2", "sentence\tlabel\n", "has no rows"),
    "empty": ("SST-2", "", "line 1: the header has no column 'sentence'"),
    "not a number": ("STS-B", "sentence1\tsentence2\tscore\na\tb\thigh\n", "line 2: the score 'high' is not a number"),
    "not finite": ("STS-B", "sentence1\tsentence2\tscore\na\tb\tnan\n", "line 2: the score nan is outside 0 to 5"),
    "digits with an underscore": (
        "STS-B",
        "sentence1\tsentence2\tscore\na\tb\t0_5\n",
        "line 2: the score '0_5' is not a number",
    ),
    "swapped headers": (
        "RTE",
        "index\tsentence2\tsentence1\tlabel\n0\ta\tb\tentailment\n",
        "line 1: the columns 'sentence1' and 'sentence2' are in the wrong order",
    ),
    "label column twice": (
        "RTE",
        "label\tsentence1\tsentence2\tlabel\nentailment\ta\tb\tnot_entailment\n",
        "line 1: the header has the column 'label' 2 times",
    ),
    "out of range": ("STS-B", "sentence1\tsentence2\tscore\na\tb\t7\n", "line 2: the score 7 is outside 0 to 5"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_an_error_names_the_file_and_the_line(kind: str, tmp_path: Path) -> None:
    name, text, sentence = BROKEN[kind]
    path = _write(tmp_path, name, text)
    with pytest.raises(TaskError) as error:
        _train(path, name)
    assert sentence in str(error.value) and f"{name}/train.tsv" in str(error.value)


def test_invalid_utf8_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "SST-2" / "train.tsv"
    path.parent.mkdir()
    path.write_bytes(b"sentence\tlabel\n" + b"fine\t1\n" * 12 + b"\xff\xfe\t0\n" + b"fine\t1\n" * 3)
    with pytest.raises(TaskError, match="line 14: not valid UTF-8"):
        _train(tmp_path, "SST-2")


def test_a_folder_in_place_of_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "SST-2" / "train.tsv").mkdir(parents=True)
    with pytest.raises(TaskError, match=r"train\.tsv: is a folder where a file is needed"):
        _train(tmp_path, "SST-2")


def test_a_broken_row_of_a_test_set_is_an_error(tmp_path: Path) -> None:
    """A file of predictions without the row would be refused."""
    path = tmp_path / "QQP" / "test.tsv"
    path.parent.mkdir()
    path.write_text("id\tquestion1\tquestion2\n0\ta\tb\n1\tbroken\n2\tc\td\n")
    with pytest.raises(TaskError, match="line 3: has 2 tab-separated cells where 3"):
        read_table(tmp_path, TASKS["QQP"].test["QQP"], TASKS["QQP"])


def test_an_empty_sentence_is_noted(tmp_path: Path) -> None:
    examples = _train(_write(tmp_path, "SST-2", "sentence\tlabel\n \t1\nfine\t0\n"), "SST-2")
    assert examples.texts == [("",), ("fine",)]
    assert examples.notes == ("SST-2/train.tsv: 1 rows have an empty text",)


def test_a_missing_file_has_its_own_error_class(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"SST-2/train\.tsv"):
        _train(tmp_path, "SST-2")


def test_broken_rows_of_qqp_are_skipped_and_counted(tmp_path: Path) -> None:
    head = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
    path = _write(tmp_path, "QQP", head + "1\t1\t2\ta\tb\t1\n2\t3\t4\tbroken\n3\t5\t6\tc\td\t0\n")
    examples = _train(path, "QQP")
    assert examples.skipped == 1 and examples.labels.tolist() == [1, 0]


def _train(data_dir: Path, name: str) -> Examples:
    table = TASKS[name].train
    assert table is not None
    return read_table(data_dir, table, TASKS[name])


def _write(data_dir: Path, name: str, text: str) -> Path:
    path = data_dir / name / "train.tsv"
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8", newline="")
    return data_dir
