"""The rows of SuperGLUE, CLUE, FewCLUE and BLiMP: every released file is read, and what is read is right."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sesame.configs.errors import TaskError
from sesame.evaluation.reading.tables import Examples, read_table
from sesame.evaluation.tasks import TASKS, blimp, clue, fewclue, superglue
from sesame.evaluation.tasks.task import Table, Task

# Rows of the files in the released folders, counted apart from the reader; a missing file is None.
RELEASED = {
    "BoolQ": (None, 3270, 3245), "CB": (250, 56, 250), "COPA": (400, 100, 500), "MultiRC": (5100, 953, 9693),
    "SuperGLUE-RTE": (2490, 277, 3000), "WiC": (5428, 638, 1400), "WSC": (554, 104, 146),
    "OCNLI-10k": (9985, 2950, None), "AFQMC": (None, 4316, None),
}  # fmt: skip
FOLDERS = {"superglue": superglue.ROWS, "clue": (*clue.ROWS, *fewclue.ROWS), "": blimp.ROWS}


def _read(shared: Path, name: str, table: Table) -> Examples:
    [folder] = [shared / folder for folder, rows in FOLDERS.items() if TASKS[name] in rows]
    if not (folder / table.file).exists() and not (folder / f"{table.file}.zst").exists():
        pytest.skip(f"needs {folder / table.file}")
    return read_table(folder, table, TASKS[name])


@pytest.mark.parametrize("name", RELEASED)
def test_every_row_of_the_released_files_is_read(name: str, shared: Path) -> None:
    task = TASKS[name]
    tables = (task.train, task.dev[""], next(iter(task.test.values()), None))
    for table, rows in zip(tables, RELEASED[name], strict=True):
        if table is not None and rows is not None:
            examples = _read(shared, name, table)
            if name != "MultiRC" or table is tables[2]:
                assert len(examples.indices) == rows
            assert len(examples.labels) == (len(examples.indices) if table.label else 0)
            assert all(all(texts) for texts in examples.texts)


def test_candidates_of_copa_follow_the_question(shared: Path) -> None:
    examples = _read(shared, "COPA", TASKS["COPA"].dev[""])
    assert examples.texts[:2] == [
        ("The man turned on the faucet. What happened as a result?", "The toilet filled with water."),
        ("The man turned on the faucet. What happened as a result?", "Water flowed from the spout."),
    ]
    assert examples.counts == [2] * 100 and examples.labels[0] == 1


def test_answers_of_multirc_are_grouped_by_paragraph_and_question(shared: Path) -> None:
    [table] = TASKS["MultiRC"].dev.values()
    examples = _read(shared, "MultiRC", table)
    records = [json.loads(line) for line in (shared / "superglue" / table.file).read_text().splitlines()]
    questions = [(record["idx"], question) for record in records for question in record["passage"]["questions"]]
    answers = [(passage, each["idx"], answer) for passage, each in questions for answer in each["answers"]]
    assert examples.groups is not None and len(set(examples.groups)) == len(questions)
    assert examples.groups == [f"{passage}/{question}" for passage, question, _ in answers]
    assert examples.labels.tolist() == [answer["label"] for *_, answer in answers]
    last = records[-1]["passage"]
    assert examples.texts[-1][0] == last["text"].strip()
    assert examples.texts[-1][1].endswith(last["questions"][-1]["answers"][-1]["text"].strip())


@pytest.mark.parametrize("name", ["WiC", "WSC", "cluewsc-few-shot"])
def test_spans_are_the_words_that_are_named(name: str, shared: Path) -> None:
    task = TASKS[name]
    assert task.train is not None
    examples = _read(shared, name, task.train)
    assert examples.spans is not None and len(examples.spans) == len(examples.texts)
    path = shared / ("superglue" if name[0] == "W" else "clue") / task.train.file
    records = [json.loads(line) for line in path.read_text().splitlines()]
    different = 0
    for record, texts, spans in zip(records, examples.texts, examples.spans, strict=True):
        words = [texts[text][start:end] for text, start, end in spans]
        if name == "WiC":
            expected = [
                record[f"sentence{number}"][record[f"start{number}"] : record[f"end{number}"]] for number in (1, 2)
            ]
        else:
            expected = [record["target"][f"span{number}_text"].strip() for number in (1, 2)]
        different += [word.lower() for word in words] != [word.lower() for word in expected]
    # A few of WSC's words do not occur in their text at all.
    assert different <= (20 if name == "WSC" else 0)
    if name == "WSC":
        assert examples.notes[0].startswith("WSC/train.jsonl: 88 rows have a span that is not at its published place")


def test_pairs_of_ax_g_differ_in_a_gender_only(shared: Path) -> None:
    examples = _read(shared, "SuperGLUE-RTE", TASKS["SuperGLUE-RTE"].dev["AX-g"])
    assert examples.groups is not None and len(set(examples.groups)) == 178
    for first in range(0, 356, 2):
        assert examples.groups[first] == examples.groups[first + 1]
        assert (
            examples.texts[first][1] == examples.texts[first + 1][1]
            and examples.labels[first] == examples.labels[first + 1]
        )


def test_rows_of_ocnli_without_a_majority_are_left_out(shared: Path) -> None:
    examples = _read(shared, "OCNLI-10k", TASKS["OCNLI-10k"].dev[""])
    assert examples.notes == ("OCNLI/dev.json: left out 50 rows whose label is '-'",)


def test_blimp_has_67_paradigms_of_1000_pairs(shared: Path) -> None:
    examples = _read(shared, "BLiMP", TASKS["BLiMP"].dev[""])
    assert examples.categories is not None and len(examples.texts) == 2 * len(examples.indices) == 134_000
    names, counts = np.unique([name for (name,) in examples.categories], return_counts=True)
    assert len(names) == 67 and set(counts) == {1000}
    assert examples.texts[0] == ("Who should Derek hug after shocking Richard?",)


@pytest.mark.parametrize("task", fewclue.ROWS, ids=lambda task: task.name)
def test_fewclue_is_read(task: Task, shared: Path) -> None:
    for table in task.tables:
        examples = _read(shared, task.name, table)
        assert len(examples.indices) == table.rows or (table.rows is None and len(examples.indices) > 100)
        if table.is_labelled:
            assert len(np.unique(examples.labels)) > 1 and len(examples.labels) == len(examples.indices)


def test_questions_of_c3_have_their_own_candidates(tmp_path: Path) -> None:
    """Made by hand in the release's layout: a list of [lines of a dialogue, questions, name]."""
    table = replace(TASKS["C3"].dev[""], also=())
    questions = [
        {"question": "谁?", "choice": ["甲", "乙"], "answer": "乙"},
        {"question": "何时?", "choice": ["今天", "明天", "昨天"], "answer": "今天"},
    ]
    (tmp_path / "C3").mkdir()
    (tmp_path / table.file).write_text(json.dumps([[["女:你好。", "男:好。"], questions, "1-2"]], indent=1))
    examples = read_table(tmp_path, table, TASKS["C3"])
    assert examples.counts == [2, 3] and examples.labels.tolist() == [1, 0]
    assert examples.texts[4] == ("女:你好。 男:好。", "何时? 昨天")


BROKEN = {
    "not JSON": ('{"premise": ', "line 2: not JSON"),
    "a key twice": (
        '{"premise": "a", "hypothesis": "b", "label": "neutral", "label": "contradiction"}',
        "line 2: not JSON (duplicate key 'label')",
    ),
    "not an object": ("3", "line 2: not a JSON object"),
    "no field": ('{"premise": "a", "label": "neutral"}', "line 2: has no 'hypothesis'"),
    "a list in place of a text": (
        '{"premise": [1], "hypothesis": "b", "label": "neutral"}',
        "line 2: 'premise' is neither",
    ),
    "unknown label": ('{"premise": "a", "hypothesis": "b", "label": "maybe"}', "line 2: unknown label 'maybe'; CB has"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_line_is_one_sentence(kind: str, tmp_path: Path) -> None:
    line, sentence = BROKEN[kind]
    path = tmp_path / "CB" / "val.jsonl"
    path.parent.mkdir()
    path.write_text('{"premise": "a", "hypothesis": "b", "label": "neutral", "idx": 0}\n' + line + "\n")
    with pytest.raises(TaskError) as error:
        read_table(tmp_path, TASKS["CB"].dev[""], TASKS["CB"])
    assert sentence in str(error.value)
