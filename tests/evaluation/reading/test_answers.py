"""Tasks whose answers are texts or fill gaps, in the released forms: rows made by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from sesame.configs.errors import TaskError
from sesame.evaluation.reading.tables import MissingFileError, read_table
from sesame.evaluation.scores import SEPARATOR
from sesame.evaluation.tasks import TASKS

PASSAGE = "Ada met Bob Lee in Rome. Ada left\n@highlight\nRome was hot!\n@highlight\nBob Lee stayed"


def _range(words: str, place: int = 0) -> dict[str, int]:
    start = PASSAGE.index(words, place)
    return {"start": start, "end": start + len(words) - 1}


def _record(**changes: Any) -> dict[str, Any]:
    entities = [_range("Bob Lee"), _range("Ada"), _range("Ada", 5), _range("Rome"), _range("Rome", 40)]
    queries = [
        {"idx": 7, "query": "It was @placeholder who left", "answers": [{**_range("Ada"), "text": "Ada"}]},
        {
            "idx": 8,
            "query": "@placeholder's friends stayed",
            "answers": [{"text": "Bob Lee"}, {"text": "Rome"}, {"text": "Bob Lee"}],
        },
    ]
    return {"source": "none", "idx": 3, "passage": {"text": PASSAGE, "entities": entities}, "qas": queries, **changes}


def _write(path: Path, *records: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return path


def test_every_entity_is_a_candidate_for_the_placeholder(tmp_path: Path) -> None:
    task = TASKS["ReCoRD"]
    _write(tmp_path / "ReCoRD" / "val.jsonl", _record())
    examples = read_table(tmp_path, task.dev[""], task)
    text = "Ada met Bob Lee in Rome. Ada left. Rome was hot! Bob Lee stayed"
    fillings = ("Ada", "Bob Lee", "Rome")
    assert examples.texts == [
        *((text, f"It was {each} who left") for each in fillings),
        *((text, f"{each}'s friends stayed") for each in fillings),
    ]
    assert examples.counts == [3, 3] and examples.choices == [*fillings, *fillings]
    assert examples.right is not None and examples.right.tolist() == [True, False, False, False, True, True]
    assert examples.labels.tolist() == ["Ada", f"Bob Lee{SEPARATOR}Rome"] and examples.groups == ["3", "3"]
    assert examples.gaps is not None
    for (_, query), (column, start, end), choice in zip(examples.texts, examples.gaps, fillings * 2, strict=True):
        assert column == 1 and query[start:end] == choice


def test_queries_of_record_are_named_by_their_own_index(tmp_path: Path) -> None:
    task = TASKS["ReCoRD"]
    hidden = [{name: value for name, value in query.items() if name != "answers"} for query in _record()["qas"]]
    _write(tmp_path / "ReCoRD" / "test.jsonl", _record(qas=hidden))
    examples = read_table(tmp_path, task.test["ReCoRD"], task)
    assert examples.indices == ["7", "8"] and not len(examples.labels) and examples.right is None


def test_a_training_row_without_a_right_candidate_is_left_out(tmp_path: Path) -> None:
    task = TASKS["ReCoRD"]
    queries = [*_record()["qas"], {"idx": 9, "query": "Who? @placeholder", "answers": [{"text": "Eve"}]}]
    for name in ("train", "val"):
        _write(tmp_path / "ReCoRD" / f"{name}.jsonl", _record(qas=queries))
    assert task.train is not None
    examples = read_table(tmp_path, task.train, task)
    assert len(examples.indices) == 2
    assert examples.notes == ("ReCoRD/train.jsonl: left out 1 rows whose right answer is not a candidate",)
    assert len(read_table(tmp_path, task.dev[""], task).indices) == 3


IDIOMS = ["一日千里", "随波逐流", "百花齐放"]


def test_each_gap_of_chid_is_a_row_with_the_idioms_of_its_line(tmp_path: Path) -> None:
    task = TASKS["CHID"]
    lines = [
        {"content": ["  他们#idiom000001#。", "发展#idiom000002#，#idiom000003#！"], "candidates": IDIOMS},
        {"content": ["又#idiom000004#"], "candidates": IDIOMS[::-1]},
    ]
    _write(tmp_path / "CHID" / "dev.json", *lines)
    labels = {"#idiom000001#": 2, "#idiom000002#": 0, "#idiom000003#": 1, "#idiom000004#": 0}
    _write(tmp_path / "CHID" / "dev_answer.json", labels)
    examples = read_table(tmp_path, task.dev[""], task)
    assert examples.indices == list(labels) and examples.labels.tolist() == list(labels.values())
    assert examples.counts == [3] * 4
    assert examples.texts[:3] == [(f"他们{idiom}。",) for idiom in IDIOMS]
    assert examples.texts[4] == ("发展随波逐流，____！",) and examples.texts[8] == ("发展____，百花齐放！",)
    assert examples.texts[9] == ("又百花齐放",)
    assert examples.groups is not None and [examples.groups.index(group) for group in examples.groups] == [0, 0, 0, 3]
    assert examples.gaps is not None
    for (text,), (_, start, end), idiom in zip(
        examples.texts, examples.gaps, [*IDIOMS * 3, *IDIOMS[::-1]], strict=True
    ):
        assert text[start:end] == idiom


def test_answers_of_chid_that_are_missing_are_said(tmp_path: Path) -> None:
    task = TASKS["CHID"]
    _write(tmp_path / "CHID" / "dev.json", {"content": ["#idiom000001#"], "candidates": IDIOMS})
    with pytest.raises(MissingFileError, match=r"dev_answer\.json: no such file; it has the labels of CHID/dev\.json"):
        read_table(tmp_path, task.dev[""], task)
    _write(tmp_path / "CHID" / "dev_answer.json", {"#idiom000009#": 1})
    with pytest.raises(TaskError, match=r"line 1: CHID/dev_answer\.json has no label for #idiom000001#"):
        read_table(tmp_path, task.dev[""], task)
    _write(tmp_path / "CHID" / "dev_answer.json", {"#idiom000001#": 3})
    with pytest.raises(TaskError, match="unknown label '3'; CHID has 0, 1, 2"):
        read_table(tmp_path, task.dev[""], task)
    (tmp_path / "CHID" / "dev_answer.json").write_text("[1]")
    with pytest.raises(TaskError, match="is not a JSON object"):
        read_table(tmp_path, task.dev[""], task)


CONTEXT = "  范廷颂（1919年6月15日－2009年2月22日），圣名保禄。范廷颂是主教。"


def _cmrc(*answers: dict[str, Any]) -> dict[str, Any]:
    query = {"id": "DEV_0_QUERY_0", "question": "他是谁？", "answers": list(answers)}
    return {"version": "v1.0", "data": [{"paragraphs": [{"id": "DEV_0", "context": CONTEXT, "qas": [query]}]}]}


@pytest.mark.parametrize("indent", [None, 2])
def test_cmrc_is_one_object_on_one_line_or_on_many(indent: int | None, tmp_path: Path) -> None:
    task = TASKS["CMRC2018"]
    start = CONTEXT.rindex("范廷颂")
    record = _cmrc({"text": "范廷颂", "answer_start": start}, {"text": "主教", "answer_start": 0}, {"text": "范廷颂"})
    path = _write(tmp_path / "CMRC2018" / "dev.json")
    path.write_text(json.dumps(record, indent=indent, ensure_ascii=False))
    examples = read_table(tmp_path, task.dev[""], task)
    assert examples.texts == [("他是谁？", CONTEXT.strip())] and examples.labels.tolist() == [f"范廷颂{SEPARATOR}主教"]
    # White space before the text is not counted; the first of several answers is learned.
    assert examples.answer_ranges == [(start - 2, start + 1)] and not examples.notes


@pytest.mark.parametrize(
    ("answer", "expected", "is_moved"),
    [
        ({"text": "圣名保禄", "answer_start": 5}, "圣名保禄", True),
        ({"text": "不在其中", "answer_start": 4}, CONTEXT[4:8], True),
        ({"text": " 圣名保禄", "answer_start": CONTEXT.index("圣名") - 1}, "圣名保禄", False),
    ],
)
def test_an_answer_that_is_not_at_its_place(
    answer: dict[str, Any], expected: str, is_moved: bool, tmp_path: Path
) -> None:
    task = TASKS["CMRC2018"]
    _write(tmp_path / "CMRC2018" / "dev.json", _cmrc(answer))
    examples = read_table(tmp_path, task.dev[""], task)
    assert examples.answer_ranges is not None
    [(start, end)] = examples.answer_ranges
    assert examples.texts[0][1][start:end] == expected and bool(examples.notes) == is_moved


BROKEN = {
    "none": ([], "is not a list of right answers"),
    "empty": ([{"text": " "}], "is not a list of right answers"),
    "no text": ([{"answer_start": 1}], "is not a list of right answers"),
    "place": ([{"text": "主教", "answer_start": "4"}], "'answer_start' is not a number"),
    "outside": ([{"text": "不在其中", "answer_start": 400}], "the answer '不在其中' is not in its text"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_answer_is_one_sentence(kind: str, tmp_path: Path) -> None:
    task, (answers, sentence) = TASKS["CMRC2018"], BROKEN[kind]
    _write(tmp_path / "CMRC2018" / "dev.json", _cmrc(*answers))
    with pytest.raises(TaskError) as error:
        read_table(tmp_path, task.dev[""], task)
    assert sentence in str(error.value) and "dev.json" in str(error.value)


def test_entities_outside_the_passage_are_refused(tmp_path: Path) -> None:
    task = TASKS["ReCoRD"]
    passage = {"text": PASSAGE, "entities": [{"start": 2, "end": 4000}]}
    _write(tmp_path / "ReCoRD" / "val.jsonl", _record(passage=passage))
    with pytest.raises(TaskError, match=r"line 1: the range .* is outside a text of 84 characters"):
        read_table(tmp_path, task.dev[""], task)


def test_dialogues_and_texts_of_c3_are_one_set(tmp_path: Path) -> None:
    task = TASKS["C3"]
    questions = [{"question": "谁?", "choice": ["甲", "乙"], "answer": "乙"}]
    _write(tmp_path / "C3" / "d-dev.json", [[["女:你好。"], questions, "1"]])
    with pytest.raises(MissingFileError, match=r"C3/m-dev\.json"):
        read_table(tmp_path, task.dev[""], task)
    _write(tmp_path / "C3" / "m-dev.json", [[["一个故事。"], questions, "2"]])
    examples = read_table(tmp_path, task.dev[""], task)
    assert [text for text, _ in examples.texts] == ["女:你好。"] * 2 + ["一个故事。"] * 2
