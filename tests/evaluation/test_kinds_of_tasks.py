"""Tasks of every kind from files to a report, as sections of a TOML file: no task needs code."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sesame import configs
from sesame.configs.errors import ConfigError
from sesame.configs.toml_text import to_toml
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.evaluation.config import EvaluationConfig
from sesame.evaluation.finetune_config import FinetuneConfig
from sesame.evaluation.finetuning.encoding import TaskData, load_task
from sesame.evaluation.finetuning.finetune import finetune, scores_of
from sesame.evaluation.reading.tables import MissingFileError, read_table
from sesame.evaluation.tasks.task import Span, Table, Task
from sesame.pretrain.models.bert import Bert
from tests import documents

EASY = FinetuneConfig(learning_rate=3e-3, epochs=4, batch_size=16, sequence_length=64, precision="fp32")


def _write(path: Path, records: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def _word(generator: np.random.Generator, letters: str = "bcdefgh") -> str:
    return "".join(generator.choice(list(letters), 4))


def _learned(data: TaskData, make_backbone: Callable[[int], Bert]) -> float:
    outcome = finetune(make_backbone(1), data, EASY, 1, torch.device("cpu"))
    return scores_of(data, outcome.dev)["accuracy"]


def test_the_candidate_with_a_letter_is_chosen(
    tmp_path: Path, letter_tokenizer: Tokenizer, make_backbone: Callable[[int], Bert]
) -> None:
    """Among two to four candidates, at a random place."""
    generator = np.random.default_rng(1)
    for split, rows in (("train", 200), ("dev", 60)):
        records = []
        for _ in range(rows):
            choices = [_word(generator) for _ in range(int(generator.integers(2, 5)))]
            right = int(generator.integers(len(choices)))
            choices[right] = choices[right][:3] + "zz"
            records.append({"text": _word(generator), "choices": choices, "right": right})
        _write(tmp_path / f"{split}.jsonl", records)
    tables = [
        Table(f"{split}.jsonl", ("text", "{choice}"), "right", choices=("choices",)) for split in ("train", "dev")
    ]
    task = Task("Choose", ("accuracy",), tables[0], {"": tables[1]}, kind="choose")
    data = load_task(task, EASY, tmp_path, letter_tokenizer, False)
    assert _learned(data, make_backbone) > 0.9


def test_the_class_of_a_span_is_learned(
    tmp_path: Path, letter_tokenizer: Tokenizer, make_backbone: Callable[[int], Bert]
) -> None:
    """A letter z is in every text; the label is whether it is in the span."""
    generator = np.random.default_rng(1)
    for split, rows in (("train", 300), ("dev", 60)):
        records = []
        for _ in range(rows):
            words = [_word(generator) for _ in range(5)]
            asked, marked = (int(each) for each in generator.integers(5, size=2))
            asked = marked if generator.integers(2) else asked
            words[marked] = "zzzz"
            records.append({"text": " ".join(words), "start": 5 * asked, "end": 5 * asked + 4, "is": asked == marked})
        _write(tmp_path / f"{split}.jsonl", records)
    spans = (Span(0, "start", "end"),)
    tables = [Table(f"{split}.jsonl", ("text",), "is", spans=spans) for split in ("train", "dev")]
    task = Task("Span", ("accuracy",), tables[0], {"": tables[1]}, labels=("false", "true"), kind="spans")
    data = load_task(task, EASY, tmp_path, letter_tokenizer, False)
    assert data.train is not None and data.train.spans is not None
    # One token for each character, after [CLS].
    record = json.loads((tmp_path / "train.jsonl").read_text().splitlines()[0])
    assert data.train.spans[0, 0].tolist() == [1 + record["start"] - (record["start"] > 0), 1 + record["end"]]
    assert _learned(data, make_backbone) > 0.9


def test_a_task_is_a_section_of_a_toml_file(tmp_path: Path, letter_tokenizer: Tokenizer) -> None:
    generator = np.random.default_rng(1)
    text = """
        [suite]
        tasks = ["Reviews"]
        [[own_task]]
        name = "Reviews"
        metrics = ["accuracy", "f1"]
        labels = ["bad", "good"]
        train = { file = "train.jsonl", texts = ["meta.title", "{author}: {body}"], label = "stars" }
        dev = { file = "dev.jsonl", texts = ["meta.title", "{author}: {body}"], label = "stars" }
        test = { file = "test.jsonl", texts = ["meta.title", "{author}: {body}"], index = "id" }
    """
    (tmp_path / "suite.toml").write_text(text)
    for split in ("train", "dev", "test"):
        records = [
            {
                "id": row,
                "meta": {"title": _word(generator)},
                "author": "a",
                "body": "b",
                "stars": ("bad", "good")[row % 2],
            }
            for row in range(20)
        ]
        _write(tmp_path / f"{split}.jsonl", records)
    config = configs.load(tmp_path / "suite.toml", EvaluationConfig)
    task = config.task_table()["Reviews"]
    data = load_task(task, config.settings("Reviews"), tmp_path, letter_tokenizer, True)
    assert data.train is not None and data.train.labels.tolist() == [0, 1] * 10
    assert data.test["Reviews"].indices[-1] == "19" and not data.notes
    assert configs.parse(configs.dump(config), EvaluationConfig, "again") == config


OWN: dict[str, Any] = {
    "name": "Own",
    "metrics": ["accuracy"],
    "labels": ["a", "b"],
    "train": {"file": "t.tsv", "texts": ["text"], "label": "label"},
    "dev": {"file": "d.tsv", "texts": ["text"], "label": "label"},
}
RIGHT = {"file": "d.tsv", "texts": ["text"], "answers": "right"}


def _spans(spans: list[dict[str, Any]]) -> dict[str, Any]:
    return {"kind": "spans", **{name: {**OWN[name], "spans": spans} for name in ("train", "dev")}}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"name": "RTE"}, "own_task 'RTE' has the name of another task"),
        ({"name": "../x"}, "own_task '../x': a name has letters, digits"),
        ({"metrics": ["bleu"]}, "own_task 'Own': unknown metric 'bleu'; known: accuracy"),
        ({"metrics": ["pearson"]}, "own_task 'Own': pearson does not fit; the metrics of files of kind 'classify' are"),
        ({"labels": ["a"]}, "task Own: kind 'classify' needs at least two labels"),
        ({"labels": ["a", "b", "c"], "metrics": ["f1"]}, "f1 is defined for two labels; use macro_f1 for 3"),
        ({"kind": "similarity", "metrics": ["spearman"]}, "kind 'similarity' does not have a training file"),
        ({"train": None}, "own_task 'Own': kind 'classify' needs a training file"),
        ({"kind": "rank"}, "own_task"),
        ({"metrics": ["squad_f1"]}, "squad_f1 does not fit; the metrics of files of kind 'classify' are accuracy"),
        ({"metrics": ["pair_accuracy"]}, "pair_accuracy does not fit"),
        ({"metrics": ["exact_match"]}, "exact_match is of groups of rows; give dev a `group`"),
        ({"kind": "choose", "metrics": ["f1"]}, "f1 does not fit; the metrics of files of kind 'choose' are accuracy"),
        ({"dev": RIGHT}, "own_task 'Own': kind 'classify' has no `answers`; give `label`"),
        ({"kind": "choose", "dev": RIGHT}, "accuracy does not fit; the metrics of files with `answers` are squad_em"),
        ({"kind": "choose", "dev": RIGHT, "metrics": ["squad_em"]}, "train has no `answers`"),
        ({"kind": "extract"}, "own_task 'Own': kind 'extract' needs two texts and `answers`"),
        ({"kind": "spans"}, "own_task 'Own': train has no `spans`, and the kind is 'spans'; change one"),
        (_spans([{"start": "at"}]), "train has a span without an end; give `end` or `words`"),
        (_spans([{"start": "at", "end": "to", "unit": "word"}]), "has a span of words with an `end`"),
        (_spans([{"start": "at", "end": "to", "text": 1}]), "train has a span in text 1, and its texts are 0 to 0"),
        ({**_spans([{"start": "at", "words": "of"}]), "dev": OWN["dev"]}, "train has 1 spans, dev 0"),
        (
            {**_spans([{"start": "at", "words": "of"}]), "kind": "classify"},
            "train has spans, and the kind is 'classify'",
        ),
        ({"dev": {**OWN["dev"], "ignored_labels": ["-", "b"]}}, "dev leaves out rows with the label 'b', which is in"),
        (
            {"kind": "minimal_pairs", "train": None},
            "accuracy does not fit; the metrics of files of kind 'minimal_pairs'",
        ),
        (
            {"kind": "minimal_pairs", "train": None, "metrics": ["pair_accuracy"], "test": OWN["dev"]},
            "kind 'minimal_pairs' has no predictions for a test file; leave it out",
        ),
        ({"dev": {"file": "d.tsv", "texts": ["text"]}}, "dev has no `label`, so its right answers are unknown"),
        ({"train": {"file": "t.tsv", "texts": ["text"]}}, "train has no `label`"),
        ({"dev": {**OWN["train"], "label": "x"}}, "train and dev have a file in common; give each its own"),
        ({"dev": {**OWN["dev"], "file": "/data/d.tsv"}}, "dev.file /data/d.tsv is a path below the data directory"),
    ],
)
def test_an_error_in_a_task_is_one_sentence(changes: dict[str, Any], sentence: str) -> None:
    own = {name: value for name, value in {**OWN, **changes}.items() if value is not None}
    with pytest.raises(ConfigError) as error:
        configs.parse({"suite": {"tasks": [own["name"]]}, "own_task": [own]}, EvaluationConfig, "suite.toml")
    assert sentence in str(error.value)


def test_two_tasks_that_write_one_file_are_refused() -> None:
    own = {**OWN, "name": "AX", "test": {"file": "x.tsv", "texts": ["text"]}}
    with pytest.raises(ConfigError, match=r"MNLI and AX both write predictions/AX\.tsv; take one of them"):
        configs.parse({"suite": {"tasks": ["MNLI", "AX"]}, "own_task": [own]}, EvaluationConfig, "suite.toml")
    configs.parse({"suite": {"tasks": ["RTE", "SuperGLUE-RTE"]}}, EvaluationConfig, "one RTE.tsv, one RTE.jsonl")


def test_an_absent_diagnostic_set_is_said_and_a_dev_set_is_required(
    tmp_path: Path, letter_tokenizer: Tokenizer
) -> None:
    from sesame.evaluation.tasks import TASKS

    rows = [
        {"premise": text, "hypothesis": "b", "label": label}
        for text, label in (("a", "entailment"), ("c", "not_entailment"))
    ]
    _write(tmp_path / "RTE" / "train.jsonl", [{**row, "idx": 0} for row in rows])
    task = TASKS["SuperGLUE-RTE"]
    with pytest.raises(MissingFileError, match=r"RTE/val\.jsonl"):
        load_task(task, EASY, tmp_path, letter_tokenizer, False)
    _write(tmp_path / "RTE" / "val.jsonl", [{**row, "premise": "d", "idx": 0} for row in rows])
    data = load_task(task, EASY, tmp_path, letter_tokenizer, False)
    assert "AX-b/AX-b.jsonl is missing: it is not scored" in data.notes and list(data.dev) == [""]
    assert task.score_names == ("accuracy",)


def test_answers_in_a_text_of_ones_own(tmp_path: Path, letter_tokenizer: Tokenizer) -> None:
    text = """
        [suite]
        tasks = ["Find"]
        [[own_task]]
        name = "Find"
        kind = "extract"
        metrics = ["squad_em", "squad_f1"]
        train = { file = "train.jsonl", texts = ["ask", "text"], answers = "right" }
        dev = { file = "dev.jsonl", texts = ["ask", "text"], answers = "right" }
        test = { file = "test.jsonl", texts = ["ask", "text"], index = "id" }
    """
    (tmp_path / "suite.toml").write_text(text)
    for split in ("train", "dev", "test"):
        record = {"id": "q7", "ask": f"what? {split}", "text": "the red cat", "right": ["red", "red cat"]}
        _write(tmp_path / f"{split}.jsonl", [record] * 3)
    config = configs.load(tmp_path / "suite.toml", EvaluationConfig)
    data = load_task(config.task_table()["Find"], config.settings("Find"), tmp_path, letter_tokenizer, True)
    assert data.train is not None and data.train.targets is not None
    question = letter_tokenizer.encode("what? train")
    assert data.train.targets.tolist() == [[len(question) + 2 + 4, len(question) + 2 + 6]] * 3
    assert data.test["Find"].indices == ["q7"] * 3 and not len(data.test["Find"].labels)


def _example(words: str) -> EvaluationConfig:
    """The configuration in docs/evaluation.md that has these words."""
    found = [block.text for block in documents.blocks("docs/evaluation.md") if words in block.text]
    return configs.parse(tomllib.loads(found[0]), EvaluationConfig, "docs/evaluation.md")


def test_spans_labels_and_categories_of_ones_own(tmp_path: Path, letter_tokenizer: Tokenizer) -> None:
    """The example of the documents, with rows for it."""
    config = _example('kind = "spans"')
    task = config.task_table()["Mention"]
    assert task.train is not None
    texts = ["  the cat sat", "a dog sat", "no dog ran", "the cow lay"]
    for file, source in ((task.train.file, "news"), (task.dev[""].file, "wiki")):
        starts = (6, 2, 3, 4)
        rows = [
            {"text": f"{text} {source}", "start": start, "end": start + 3, "verb": 2, "label": label, "source": source}
            for text, start, label in zip(texts, starts, ("no", "yes", "-", "yes"), strict=True)
        ]
        _write(tmp_path / file, rows)
    examples = read_table(tmp_path, task.train, task)
    words = [
        [texts[text][start:end] for text, start, end in spans]
        for texts, spans in zip(examples.texts, examples.spans or (), strict=True)
    ]
    assert words == [["cat", "sat"], ["dog", "sat"], ["cow", "lay"]]
    assert any("left out 1 rows whose label is '-'" in note for note in examples.notes)
    data = load_task(task, config.settings("Mention"), tmp_path, letter_tokenizer, False)
    assert data.dev[""].categories == [("wiki",)] * 3 and data.dev[""].labels.tolist() == [0, 1, 1]
    text = to_toml({"own_task": configs.dump(config)["own_task"]})
    assert tomllib.loads(text)["own_task"][0]["dev"]["spans"][0] == {
        "text": 0, "start": "start", "end": "end", "unit": "character",
    }  # fmt: skip
    assert configs.parse(configs.dump(config), EvaluationConfig, "again") == config
