"""Check of a submission: one that is right passes, and each of the planted faults is found."""

import errno
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sesame.configs.errors import TaskError
from sesame.evaluation.results.check import check_submission, faults_of
from sesame.evaluation.results.predictions import Predictions, content, write_predictions
from sesame.evaluation.tasks.suites import SUITES

# The rows of GLUE's test sets (gluebenchmark.com), apart from the table that is checked with.
ROWS = {
    "AX": 1104, "CoLA": 1063, "MNLI-m": 9796, "MNLI-mm": 9847, "MRPC": 1725, "QNLI": 5463,
    "QQP": 390965, "RTE": 3000, "SST-2": 1821, "STS-B": 1379, "WNLI": 146,
}  # fmt: skip
LABELS = {"QNLI": "entailment", "RTE": "entailment", "STS-B": "3.2", "AX": "neutral"}


@pytest.fixture(scope="module")
def lines() -> dict[str, list[str]]:
    """Lines of each file of a right submission, by its name."""
    found = {}
    for name, rows in ROWS.items():
        label = "neutral" if name.startswith("MNLI") else LABELS.get(name, "1")
        found[f"{name}.tsv"] = ["index\tprediction", *(f"{number}\t{label}" for number in range(rows))]
    return found


def _write(path: Path, lines: dict[str, list[str]]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, each in lines.items():
            archive.writestr(name, "\n".join(each) + "\n")
    return path


def test_a_right_archive_and_folder_pass(lines: dict[str, list[str]], tmp_path: Path) -> None:
    sentence = check_submission(_write(tmp_path / "GLUE.zip", lines))
    assert "a complete submission to GLUE with 11 files" in sentence
    with zipfile.ZipFile(tmp_path / "GLUE.zip") as archive:
        archive.extractall(tmp_path / "folder")
    assert faults_of(tmp_path / "folder") == []


Change = Callable[[dict[str, list[str]]], object]
FAULTS: dict[str, tuple[Change, str]] = {
    "missing file": (lambda files: files.__delitem__("WNLI.tsv"), "WNLI.tsv is missing"),
    "foreign file": (lambda files: files.update({"notes.txt": ["x"]}), "notes.txt does not belong to GLUE"),
    "in a folder": (
        lambda files: files.update({"glue/WNLI.tsv": files.pop("WNLI.tsv")}),
        "glue/WNLI.tsv does not belong to GLUE",
    ),
    "five of 3,000 rows": (lambda files: files.update({"RTE.tsv": files["RTE.tsv"][:6]}), "RTE.tsv, has 5 rows where"),
    "one row of QQP": (lambda files: files.update({"QQP.tsv": files["QQP.tsv"][:2]}), "QQP.tsv, has 1 rows where"),
    "index twice": (
        lambda files: files.update({"RTE.tsv": [*files["RTE.tsv"][:-1], "1\tentailment"]}),
        "RTE.tsv, has an index twice",
    ),
    "index not a number": (
        lambda files: files.update({"RTE.tsv": [*files["RTE.tsv"][:-1], "x\tentailment"]}),
        "row 2999: has index 'x' where 2999",
    ),
    "two rows in another order": (
        lambda files: files.update({"WNLI.tsv": ["index\tprediction", *files["WNLI.tsv"][:0:-1]]}),
        "WNLI.tsv, row 0: has index '145' where 0",
    ),
    "unknown label": (
        lambda files: files.update({"CoLA.tsv": [*files["CoLA.tsv"][:-1], "1062\tentailment"]}),
        "CoLA.tsv, row 1062: 'entailment' is not one of the labels 0, 1",
    ),
    "label of a class number": (
        lambda files: files.update({"RTE.tsv": [row.replace("entailment", "1") for row in files["RTE.tsv"]]}),
        "RTE.tsv, row 0: '1' is not one of the labels",
    ),
    "score out of range": (
        lambda files: files.update({"STS-B.tsv": [*files["STS-B.tsv"][:-1], "1378\t5.01"]}),
        "'5.01' is not a number from 0 to 5",
    ),
    "score not a number": (
        lambda files: files.update({"STS-B.tsv": [*files["STS-B.tsv"][:-1], "1378\tnan"]}),
        "'nan' is not a number from 0 to 5",
    ),
    "no header": (lambda files: files.update({"WNLI.tsv": files["WNLI.tsv"][1:]}), "WNLI.tsv, the first line is"),
    "three cells": (
        lambda files: files.update({"WNLI.tsv": [f"{row}\t" for row in files["WNLI.tsv"]]}),
        "WNLI.tsv, the first line is",
    ),
    "carriage returns": (
        lambda files: files.update({"WNLI.tsv": [f"{row}\r" for row in files["WNLI.tsv"]]}),
        "WNLI.tsv, has carriage returns",
    ),
    "empty": (lambda files: files.update({"WNLI.tsv": [""]}), "WNLI.tsv, the first line is ''"),
}


def test_each_planted_fault_is_found(lines: dict[str, list[str]], tmp_path: Path) -> None:
    small = {name: each for name, each in lines.items() if name != "QQP.tsv"}
    for name, (plant, sentence) in FAULTS.items():
        files = dict(lines if "QQP" in name else small)
        plant(files)
        found = faults_of(_write(tmp_path / f"{name}.zip", files))
        assert any(sentence in fault for fault in found), (name, found)
        assert [fault for fault in found if "QQP" not in fault] or "QQP" in name
        with pytest.raises(TaskError, match="is not a valid submission"):
            check_submission(tmp_path / f"{name}.zip")


def test_what_is_not_a_submission_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("not a zip")
    for path, sentence in (("none.zip", "no such file"), ("text.zip", "not a folder or a zip archive")):
        with pytest.raises(TaskError, match=sentence):
            check_submission(tmp_path / path)
    assert faults_of(tmp_path) == [f"has no file of {' or '.join(SUITES)}"]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_archive_is_one_sentence(method: int, tmp_path: Path) -> None:
    """Whichever byte is damaged; some, such as a date's, change nothing."""
    path, refused = tmp_path / "x.zip", 0
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("RTE.tsv", "".join(f"{row}\tentailment\n" for row in range(60)))
    content = path.read_bytes()
    damaged = [content[:place] + bytes([content[place] ^ 0x80]) + content[place + 1 :] for place in range(len(content))]
    for each in (*damaged, *(content[:end] for end in range(0, len(content), 7))):
        path.write_bytes(each)
        try:
            faults_of(path)
        except TaskError as error:
            refused += 1
            assert re.match(rf"{path}: not a folder or a zip archive \(.+\)", str(error))
    assert refused > len(content) / 2


def test_what_is_written_passes(tmp_path: Path) -> None:
    """The archive of GLUE, from predictions for as many rows as its test sets have."""
    sets, suite = {}, "GLUE"
    for file, (task, table) in SUITES[suite].files.items():
        indices = list(map(str, range(table.rows or 0)))
        values = np.full(len(indices), 0.0 if task.has_scores else 0)
        sets[file] = Predictions(task, table, indices, values)
    notes = write_predictions(tmp_path, sets)
    assert notes[-1].startswith(f"`{suite}.zip` is complete")
    assert f"a complete submission to {suite}" in check_submission(tmp_path / f"{suite}.zip")
    with zipfile.ZipFile(tmp_path / f"{suite}.zip") as archive:
        assert not any("/" in name for name in archive.namelist())


def test_wrong_indices_are_noted_where_other_files_are_missing(tmp_path: Path) -> None:
    task, table = SUITES["GLUE"].files["RTE.tsv"]
    indices = ["x", "1", "1", *map(str, range(3, 3000))]
    notes = write_predictions(tmp_path, {"RTE.tsv": Predictions(task, table, indices, np.zeros(3000, np.int64))})
    assert "No GLUE.zip: RTE.tsv, has an index twice; gluebenchmark.com also requires CoLA.tsv" in notes[-1]
    with pytest.raises(TaskError, match=r"not a valid submission: RTE.tsv, has an index twice; CoLA.tsv is missing"):
        check_submission(tmp_path / "predictions")


def test_predictions_that_cannot_be_written_leave_those_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, table = SUITES["GLUE"].files["RTE.tsv"]
    write_predictions(tmp_path, {"RTE.tsv": Predictions(task, table, ["0"], np.array([0]))})
    (tmp_path / "GLUE.zip").write_bytes(b"of before")
    before = (tmp_path / "predictions" / "RTE.tsv").read_bytes()

    def fail(path: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space left"):
        patched.setattr(Path, "write_bytes", fail)
        write_predictions(tmp_path, {"RTE.tsv": Predictions(task, table, ["0"], np.array([1]))})
    assert (tmp_path / "predictions" / "RTE.tsv").read_bytes() == before
    assert sorted(each.name for each in tmp_path.iterdir()) == ["GLUE.zip", "predictions"]
    write_predictions(tmp_path, {})
    assert not list(tmp_path.iterdir())


def test_nested_predictions_have_the_shape_of_the_test_file() -> None:
    task = SUITES["SuperGLUE"].files["MultiRC.jsonl"][0]
    indices = ["0/0/0", "0/0/1", "0/1/2", "1/2/3"]
    text = content(Predictions(task, task.test["MultiRC"], indices, np.array([1, 0, 1, 0])))
    first, second = map(json.loads, text.splitlines())
    answers = [[{"idx": 0, "label": 1}, {"idx": 1, "label": 0}], [{"idx": 2, "label": 1}]]
    questions = [{"idx": number, "answers": each} for number, each in enumerate(answers)]
    assert first == {"idx": 0, "passage": {"questions": questions}} and second["idx"] == 1


def test_labels_in_json_lines() -> None:
    files = SUITES["SuperGLUE"].files
    for name, value, expected in (("BoolQ", 1, "true"), ("COPA", 1, 1), ("CB", 2, "neutral")):
        task, table = files[f"{name}.jsonl"]
        text = content(Predictions(task, table, ["0"], np.array([value])))
        assert json.loads(text) == {"idx": 0, "label": expected}
    task, table = SUITES["CLUE"].files["tnews11_predict.json"]
    assert json.loads(content(Predictions(task, table, ["0"], np.array([7])))) == {"id": 0, "label": "108"}
