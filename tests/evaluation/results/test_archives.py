"""Archives of SuperGLUE, CLUE and FewCLUE: those in the servers' forms pass, and every planted fault is found.

The counts stand here apart from the tables that are checked with, and the archives are made without the writer.
"""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sesame.evaluation.reading.tables import read_table
from sesame.evaluation.results.check import check_submission, faults_of
from sesame.evaluation.results.predictions import Predictions, content, write_predictions
from sesame.evaluation.tasks import TASKS
from sesame.evaluation.tasks.suites import SUITES

Files = dict[str, Any]
"""By name: records of JSON lines, or one object."""

# Rows and a label of each file: SuperGLUE by the files of its release, CLUE 1.1 and FewCLUE by their releases.
SUPERGLUE = {
    "BoolQ": (3245, "true"), "CB": (250, "neutral"), "COPA": (500, 1), "ReCoRD": (10000, "Puerto Rico"),
    "RTE": (3000, "entailment"), "WiC": (1400, "false"), "WSC": (146, "true"), "AX-b": (1104, "entailment"),
    "AX-g": (356, "not_entailment"),
}  # fmt: skip
CLUE = {
    "afqmc": (3861, "1"), "tnews11": (10000, "116"), "iflytek": (2600, "118"), "ocnli_50k": (3000, "neutral"),
    "cmnli": (13880, "entailment"), "csl": (3000, "0"), "cluewsc11": (2574, "false"), "c311": (1625, 3),
}  # fmt: skip
FEWCLUE = {
    "bustm": (2000, "1", 3000), "chidf": (2000, 6, 3000), "cluewscf": (290, "true", 1), "iflytekf": (2600, "7", 0),
    "ocnlif": (3000, "neutral", 0), "tnewsf": (1500, "100", 0),
}  # fmt: skip


def _lines(rows: int, label: Any, first: int = 0, index: str = "id", key: str = "label") -> list[dict[str, Any]]:
    return [{index: first + row, key: label} for row in range(rows)]


def _superglue(shared: Path) -> Files:
    files: Files = {f"{name}.jsonl": _lines(*row, index="idx") for name, row in SUPERGLUE.items()}
    records = []
    for line in (shared / "superglue" / "MultiRC" / "test.jsonl").read_text().splitlines():
        record = json.loads(line)
        questions = [
            {"idx": question["idx"], "answers": [{"idx": each["idx"], "label": 0} for each in question["answers"]]}
            for question in record["passage"]["questions"]
        ]
        records.append({"idx": record["idx"], "passage": {"questions": questions}})
    return {**files, "MultiRC.jsonl": records}


def _clue(shared: Path) -> Files:
    files: Files = {f"{name}_predict.json": _lines(*row) for name, row in CLUE.items()}
    files["chid11_predict.json"] = {f"#idiom{623377 + row}#": row % 10 for row in range(23_000)}
    files["cmrc2018_predict.json"] = {f"TEST_{row // 4}_QUERY_{row % 4}": "范廷颂" for row in range(2000)}
    return files


def _fewclue(shared: Path) -> Files:
    files: Files = {f"{name}_predict.json": _lines(*row) for name, row in FEWCLUE.items()}
    files["chidf_predict.json"] = _lines(*FEWCLUE["chidf"], key="answer")
    ids = [json.loads(line)["id"] for line in (shared / "clue/FewCLUE/csl/test.json").read_text().splitlines()]
    files["cslf_predict.json"] = [{"id": each, "label": "1"} for each in ids]
    return files


MADE: dict[str, Callable[[Path], Files]] = {"SuperGLUE": _superglue, "CLUE": _clue, "FewCLUE": _fewclue}
UNKNOWN = {"FewCLUE": ("eprstmt_predict.json", "csldcp_predict.json")}
"""Files whose order of indices only their test sets have, which are not among the test data."""


@pytest.fixture(scope="module")
def made(shared: Path) -> dict[str, Files]:
    return {suite: make(shared) for suite, make in MADE.items()}


def _write(path: Path, files: Files) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, values in files.items():
            is_object = isinstance(values, dict)
            text = json.dumps(values) if is_object else "".join(json.dumps(value) + "\n" for value in values)
            archive.writestr(name, values if isinstance(values, str) else text)
    return path


@pytest.mark.parametrize("suite", MADE)
def test_a_right_archive_passes(suite: str, made: dict[str, Files], tmp_path: Path) -> None:
    path = _write(tmp_path / "right.zip", made[suite])
    missing = [f"{name} is missing" for name in UNKNOWN.get(suite, ())]
    assert faults_of(path) == missing
    if not missing:
        assert f"a complete submission to {suite} with {len(made[suite])} files" in check_submission(path)
        if suite == "CLUE":
            optional = {name: values for name, values in made[suite].items() if name != "cmnli_predict.json"}
            assert "with 9 files" in check_submission(_write(tmp_path / "optional.zip", optional))


def _less(name: str, count: int = 1) -> Callable[[Files], object]:
    return lambda files: files.update({name: files[name][:-count]})


def _changed(name: str, row: int, **changes: Any) -> Callable[[Files], object]:
    def change(files: Files) -> None:
        rows = list(files[name])
        rows[row] = {**rows[row], **changes}
        files[name] = rows

    return change


def _keyed(name: str, **changes: Any) -> Callable[[Files], object]:
    return lambda files: files.update({name: {**files[name], **changes}})


def _renamed(name: str, old: str, new: str) -> Callable[[Files], object]:
    return lambda files: files.update({name: {new if key == old else key: value for key, value in files[name].items()}})


def _nested(files: Files) -> None:
    """Two answers of MultiRC change places."""
    text = json.dumps(files["MultiRC.jsonl"][0]).replace('"idx": 1,', '"idx": -2,').replace('"idx": 2,', '"idx": 1,')
    files["MultiRC.jsonl"] = [json.loads(text.replace('"idx": -2,', '"idx": 2,')), *files["MultiRC.jsonl"][1:]]


Fault = tuple[Callable[[Files], object], str]
FAULTS: dict[str, dict[str, Fault]] = {
    "SuperGLUE": {
        "missing file": (lambda files: files.pop("ReCoRD.jsonl"), "ReCoRD.jsonl is missing"),
        "foreign file": (lambda files: files.update({"WNLI.tsv": []}), "WNLI.tsv does not belong to SuperGLUE"),
        "a query is missing": (_less("ReCoRD.jsonl"), "has 9999 rows where the test set has 10000"),
        "an answer that is a number": (_changed("ReCoRD.jsonl", 9, label=3), "row 9: 3 is not a text"),
        "an empty answer": (_changed("ReCoRD.jsonl", 9, label=" "), "row 9: the answer is empty"),
        "a query twice": (_changed("ReCoRD.jsonl", 9, idx=8), "ReCoRD.jsonl, has an index twice"),
        "another query": (_changed("ReCoRD.jsonl", 9, idx=10000), "row 9: has index '10000' where 9 is expected"),
        "a third candidate": (_changed("COPA.jsonl", 0, label=2), "COPA.jsonl, row 0: 2 is not one of 2 candidates"),
        "a candidate as text": (_changed("COPA.jsonl", 0, label="0"), "'0' is not the number of a candidate"),
        "a passage is missing": (_less("MultiRC.jsonl"), "MultiRC.jsonl, has "),
        "answers in another order": (_nested, "MultiRC.jsonl, its indices are not those of the test set"),
        "a truth value": (_changed("BoolQ.jsonl", 4, label=True), "row 4: True is not one of the labels false, true"),
        "no label": (lambda files: files.update({"CB.jsonl": [{"idx": 0}]}), "not a record with an index and a label"),
        "a capital letter": (_changed("WSC.jsonl", 4, label="True"), "'True' is not one of the labels"),
    },
    "CLUE": {
        "missing file": (lambda files: files.pop("chid11_predict.json"), "chid11_predict.json is missing"),
        "version 1.0": (
            lambda files: files.update({"chid10_predict.json": files.pop("chid11_predict.json")}),
            "chid10_predict.json does not belong to CLUE",
        ),
        "290 rows of version 1.0": (_less("cluewsc11_predict.json", 2284), "has 290 rows where the test set has 2574"),
        "too few gaps": (
            lambda files: files.update({"chid11_predict.json": {"#idiom623377#": 1}}),
            "has 1 rows where the test set has at least 3447",
        ),
        "an eleventh idiom": (_keyed("chid11_predict.json", **{"#idiom623377#": 10}), "10 is not one of 10 candidates"),
        "an idiom as text": (_keyed("chid11_predict.json", **{"#idiom623377#": "一日千里"}), "is not the number of"),
        "a gap that is none": (
            _renamed("chid11_predict.json", "#idiom623377#", "idiom623377"),
            "has the index 'idiom623377', which is not of the form #idiom",
        ),
        "a gap twice": (
            lambda files: files.update({"chid11_predict.json": '{"#idiom623377#": 1, ' * 2 + "}"}),
            "chid11_predict.json, not one JSON object",
        ),
        "an object twice the same key": (
            lambda files: files.update({"chid11_predict.json": "{" + ", ".join(['"#idiom623377#": 1'] * 4000) + "}"}),
            "chid11_predict.json, has an index twice",
        ),
        "lines in place of an object": (
            lambda files: files.update({"cmrc2018_predict.json": _lines(2000, "范廷颂")}),
            "cmrc2018_predict.json, not one JSON object",
        ),
        "an answer that is a list": (_keyed("cmrc2018_predict.json", TEST_0_QUERY_0=["范廷颂"]), "is not a text"),
        "a question of dev": (
            _renamed("cmrc2018_predict.json", "TEST_0_QUERY_0", "DEV_0_QUERY_0"),
            "has the index 'DEV_0_QUERY_0', which is not of the form TEST_",
        ),
        "too many questions": (
            _keyed("cmrc2018_predict.json", TEST_9999_QUERY_0="x"),
            "has 2001 rows where the test set has 2000",
        ),
        "a fifth candidate": (_changed("c311_predict.json", 0, label=4), "4 is not one of 4 candidates"),
        "a class that is a number": (_changed("tnews11_predict.json", 0, label=116), "116 is not one of the labels"),
        "rows in another order": (
            lambda files: files.update({"afqmc_predict.json": files["afqmc_predict.json"][::-1]}),
            "afqmc_predict.json, row 0: has index '3860' where 0 is expected",
        ),
    },
    "FewCLUE": {
        "missing file": (lambda files: files.pop("bustm_predict.json"), "bustm_predict.json is missing"),
        "CLUE's name": (
            lambda files: files.update({"ocnli_50k_predict.json": files.pop("ocnlif_predict.json")}),
            "ocnli_50k_predict.json does not belong to FewCLUE",
        ),
        "indices from 0": (
            lambda files: files.update({"bustm_predict.json": _lines(2000, "1")}),
            "bustm_predict.json, row 0: has index '0' where 3000 is expected",
        ),
        "a row is missing": (_less("cluewscf_predict.json"), "has 289 rows where the test set has 290"),
        "an eighth idiom": (_changed("chidf_predict.json", 0, answer=7), "7 is not one of 7 candidates"),
        "label in place of answer": (
            lambda files: files.update({"chidf_predict.json": _lines(2000, 1, 3000)}),
            "chidf_predict.json, line 1: not a record with an index and a label ('answer')",
        ),
        "abstracts in order": (
            lambda files: files.update(
                {"cslf_predict.json": sorted(files["cslf_predict.json"], key=lambda row: row["id"])}
            ),
            "cslf_predict.json, its indices are not those of the test set, in the order of its file",
        ),
        "an index twice": (_changed("tnewsf_predict.json", 5, id=4), "tnewsf_predict.json, has an index twice"),
        "unknown class": (_changed("tnewsf_predict.json", 5, label="105"), "'105' is not one of the labels"),
        "120th class": (_changed("iflytekf_predict.json", 5, label="119"), "'119' is not one of the labels"),
        "a label twice": (
            lambda files: files.update({"bustm_predict.json": '{"id": 3000, "label": "1", "label": "0"}\n'}),
            "bustm_predict.json, line 1: not a record with an index and a label (duplicate key 'label')",
        ),
        "not JSON": (lambda files: files.update({"iflytekf_predict.json": "x"}), "line 1: not a record"),
    },
}


@pytest.mark.parametrize("suite", FAULTS)
def test_each_planted_fault_is_found(suite: str, made: dict[str, Files], tmp_path: Path) -> None:
    small = sorted(made[suite], key=lambda name: len(made[suite][name]))[:2]
    for name, (plant, sentence) in FAULTS[suite].items():
        files = dict(made[suite])
        plant(files)
        # Without large files that are as they were: reading them again takes long.
        files = {each: value for each, value in files.items() if each in small or value is not made[suite].get(each)}
        found = faults_of(_write(tmp_path / "fault.zip", files))
        assert any(sentence in fault for fault in found), (name, found)


def _indices(suite: str, name: str, shared: Path) -> list[str]:
    """Of a test set: from its file where it is among the test data, else as they are published."""
    task, table = SUITES[suite].files[name]
    folder = shared / ("superglue" if suite == "SuperGLUE" else "clue")
    if (folder / table.file).exists() and not table.also:
        return read_table(folder, table, task).indices
    if "idiom" in table.indices.pattern:
        return [f"#idiom{623377 + row}#" for row in range(5000)]
    if "QUERY" in table.indices.pattern:
        return [f"TEST_{row}_QUERY_0" for row in range(2000)]
    return [str(table.indices.first + row) for row in range(table.rows or 0)]


@pytest.mark.parametrize("suite", MADE)
def test_what_is_written_passes(suite: str, shared: Path, tmp_path: Path) -> None:
    sets = {}
    for name, (task, table) in SUITES[suite].files.items():
        if name not in UNKNOWN.get(suite, ()):
            indices = _indices(suite, name, shared)
            values = np.full(len(indices), "Ada") if task.has_texts else np.zeros(len(indices), np.int64)
            sets[name] = Predictions(task, table, indices, values)
    notes = write_predictions(tmp_path, sets)
    if suite in UNKNOWN:
        assert notes[-1].endswith(f"also requires {', '.join(UNKNOWN[suite])}.")
        assert faults_of(tmp_path / "predictions") == [f"{name} is missing" for name in UNKNOWN[suite]]
        return
    assert notes[-1].startswith(f"`{suite}.zip` is complete")
    assert "a complete submission" in check_submission(tmp_path / f"{suite}.zip")


def test_forms_of_answers() -> None:
    record, chid, cmrc, few = TASKS["ReCoRD"], TASKS["CHID"], TASKS["CMRC2018"], TASKS["chid-few-shot"]
    text = content(Predictions(record, record.test["ReCoRD"], ["7", "8"], np.array(["Ada", "Bob Lee"])))
    assert text == '{"idx": 7, "label": "Ada"}\n{"idx": 8, "label": "Bob Lee"}\n'
    indices = ["#idiom000001#", "#idiom000002#"]
    text = content(Predictions(chid, chid.test["chid11_predict"], indices, np.array([3, 0])))
    assert json.loads(text) == {"#idiom000001#": 3, "#idiom000002#": 0}
    text = content(Predictions(cmrc, cmrc.test["cmrc2018_predict"], ["TEST_0_QUERY_0"], np.array(["范廷颂"])))
    assert text == '{\n  "TEST_0_QUERY_0": "范廷颂"\n}\n'
    text = content(Predictions(few, few.test["chidf_predict"], ["3000"], np.array([6])))
    assert json.loads(text) == {"id": 3000, "answer": 6}
