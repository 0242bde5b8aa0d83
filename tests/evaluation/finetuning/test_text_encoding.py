"""Inputs and targets of text to text, written by hand after the examples of T5's paper (appendix D)."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sesame import configs
from sesame.configs.errors import ConfigError
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.evaluation.config import EvaluationConfig
from sesame.evaluation.finetune_config import FinetuneConfig
from sesame.evaluation.finetuning.encoding import load_task
from sesame.evaluation.finetuning.text_answers import invalid, is_same_noun, text_answers
from sesame.evaluation.finetuning.text_encoding import encode_text, inputs
from sesame.evaluation.reading.tables import read_table
from sesame.evaluation.tasks import TASKS, glue, superglue
from sesame.evaluation.tasks.text_forms import FORMS, as_text

PASSAGE = 'The pit was deep."\n@highlight\nMark left\n@highlight\nPete stayed'


def _entity(name: str) -> dict[str, int]:
    return {"start": PASSAGE.index(name), "end": PASSAGE.index(name) + len(name) - 1}


JSON: dict[str, tuple[dict[str, Any], str, list[str]]] = {
    "BoolQ": (
        {"question": "is it so", "passage": "It is.", "label": True},
        "boolq passage: It is. question: is it so",
        ["True"],
    ),
    "CB": (
        {"premise": "Valence was helping.", "hypothesis": "Valence was helping", "label": "neutral"},
        "cb hypothesis: Valence was helping premise: Valence was helping.",
        ["neutral"],
    ),
    "COPA": (
        {"premise": "It broke out.", "choice1": "Ada left.", "choice2": "Ada came.", "question": "effect", "label": 1},
        "copa choice1: Ada left. choice2: Ada came. premise: It broke out. question: effect",
        ["choice2"],
    ),
    "MultiRC": (
        {
            "passage": {
                "text": "<b>Sent 1: </b>Ada came.<br>",
                "questions": [{"idx": 0, "question": "Who came?", "answers": [{"idx": 0, "text": "Ada", "label": 1}]}],
            }
        },
        "multirc question: Who came? answer: Ada paragraph: Sent 1: Ada came.",
        ["True"],
    ),
    "ReCoRD": (
        {
            "passage": {"text": PASSAGE, "entities": [_entity("Pete"), _entity("Mark")]},
            "qas": [{"idx": 0, "query": "@placeholder fell", "answers": [{"text": "Pete"}, {"text": "Mark"}]}],
        },
        'record query: @placeholder fell entities: Mark, Pete passage: The pit was deep." Mark left. Pete stayed',
        ["Pete", "Mark"],
    ),
    "SuperGLUE-RTE": (
        {"premise": "A smaller proportion.", "hypothesis": "The proportion of Yugoslavia.", "label": "entailment"},
        "rte hypothesis: The proportion of Yugoslavia. premise: A smaller proportion.",
        ["entailment"],
    ),
    "WiC": (
        {
            "sentence1": "The airplane crashed.", "sentence2": "Two cars crashed.", "word": "crash",
            "start1": 13, "end1": 20, "start2": 9, "end2": 16, "label": False,
        },
        "wic sentence1: The airplane crashed. sentence2: Two cars crashed. word: crash",
        ["False"],
    ),
    "WSC": (
        {
            "text": "The stable was very roomy, with four good stalls; a large swinging window opened into the yard, "
            "which made it pleasant.",
            "target": {"span1_index": 0, "span1_text": "The stable", "span2_index": 19, "span2_text": "it"},
            "label": True,
        },
        "wsc: The stable was very roomy, with four good stalls; a large swinging window opened into the yard, "
        "which made *it* pleasant.",
        ["The stable"],
    ),
}  # fmt: skip
ROWS: dict[str, tuple[list[str], str, str]] = {
    "CoLA": (["x", "0", "", "Ada left"], "cola sentence: Ada left", "unacceptable"),
    "SST-2": (["it is charming", "1"], "sst2 sentence: it is charming", "positive"),
    "MRPC": (["1", "a", "b"], "mrpc sentence1: a sentence2: b", "equivalent"),
    "STS-B": (["a", "b", "3.25"], "stsb sentence1: a sentence2: b", "3.2"),
    "QQP": (["a?", "b?", "0"], "qqp question1: a? question2: b?", "not_duplicate"),
    "MNLI": (["a", "b", "contradiction"], "mnli hypothesis: b premise: a", "contradiction"),
    "QNLI": (["a?", "b", "entailment"], "qnli question: a? sentence: b", "entailment"),
    "RTE": (["a", "b", "not_entailment"], "rte sentence1: a sentence2: b", "not_entailment"),
    "WNLI": (["a", "b", "1"], "wnli sentence1: a sentence2: b", "entailment"),
}
NLI = ("entailment", "neutral", "contradiction", "not_entailment")
WORDS: dict[str, dict[str, str]] = {
    "CoLA": {"0": "unacceptable", "1": "acceptable"},
    "SST-2": {"0": "negative", "1": "positive"},
    "MRPC": {"0": "not_equivalent", "1": "equivalent"},
    "QQP": {"0": "not_duplicate", "1": "duplicate"},
    "WNLI": {"0": "not_entailment", "1": "entailment"},
    "COPA": {"0": "choice1", "1": "choice2"},
    **{name: {"false": "False", "true": "True"} for name in ("BoolQ", "WiC")},
    "MultiRC": {"0": "False", "1": "True"},
    **{name: dict(zip(NLI[:3], NLI[:3], strict=True)) for name in ("MNLI", "CB")},
    **{name: dict(zip(NLI[::3], NLI[::3], strict=True)) for name in ("QNLI", "RTE", "SuperGLUE-RTE")},
}
"""By label in the file: the names of the classes in TensorFlow Datasets (glue, super_glue 1.0.2), from which T5's
published code takes them."""


def _decoded(tokenizer: Tokenizer, ids: np.ndarray) -> str:
    special = tokenizer.special
    assert ids[0] == special.pad and ids[-1] == special.sep
    return tokenizer.decode(ids[1:-1])


@pytest.fixture(scope="module")
def cased(shared: Path) -> Tokenizer:
    return Tokenizer.load(shared / "vectors" / "albert-30k-spiece.model")


@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_the_paper(name: str, cased: Tokenizer, tmp_path: Path) -> None:
    plain = TASKS[name]
    task = as_text(plain)
    assert task.train is not None
    path = tmp_path / task.train.file
    path.parent.mkdir(parents=True)
    if name in JSON:
        record, expected, targets = JSON[name]
        path.write_text(json.dumps({"idx": 0, **record}) + "\n")
    else:
        row, expected, target = ROWS[name]
        targets, table = [target], plain.train
        assert table is not None
        header = [] if table.cells else ["\t".join(map(str, dict.fromkeys([*table.texts, table.label])))]
        if name == "MRPC":
            header = ["Quality\t#1 String\t#2 String"]
        path.write_text("\n".join([*header, "\t".join(row)]) + "\n")
    examples = read_table(tmp_path, task.train, task)
    assert task.text is not None and inputs(examples, task.text) == [expected]
    encoded = encode_text(examples, task, cased, 200, True)
    assert encoded.rows == len(targets) and encoded.decoder_tokens is not None
    assert [cased.encode(text) for text in targets] == [ids[1:-1].tolist() for ids in encoded.decoder_tokens]
    special = cased.special
    assert encoded.tokens[0].tolist() == [special.cls, *cased.encode(expected), special.sep]
    # Cut before the end token.
    short = encode_text(examples, task, cased, 8, False)
    assert len(short.tokens[0]) == 8 and short.tokens[0][-1] == special.sep and short.truncated == 1
    assert short.decoder_tokens is None and short.rows == 1


def test_every_row_of_glue_and_superglue_has_a_form() -> None:
    assert {task.name for task in (*glue.ROWS, *superglue.ROWS)} == set(FORMS)
    for name, form in FORMS.items():
        assert len(form.words) in (len(as_text(TASKS[name]).labels), 26) or form.target in ("answer", "referent")


def test_every_label_has_the_word_of_the_published_code() -> None:
    assert set(FORMS) - set(WORDS) == {"STS-B", "ReCoRD", "WSC"}, "their answers are numbers, entities and nouns"
    for name, words in WORDS.items():
        assert dict(zip(as_text(TASKS[name]).labels, FORMS[name].words, strict=True)) == words, name


@pytest.mark.parametrize(("label", "target"), [(0, "choice1"), (1, "choice2")])
def test_copa(label: int, target: str, cased: Tokenizer, tmp_path: Path) -> None:
    """The example of the paper (appendix D), and the class in TensorFlow Datasets; the paper has "True" for label 1."""
    record = {
        "premise": "Political violence broke out in the nation.",
        "choice1": "Many citizens relocated to the capitol.",
        "choice2": "Many citizens took refuge in other territories.",
        "question": "effect",
    }
    task = as_text(TASKS["COPA"])
    assert task.train is not None and task.text is not None
    (tmp_path / "COPA").mkdir()
    (tmp_path / "COPA" / "train.jsonl").write_text(json.dumps({**record, "idx": 0, "label": label}) + "\n")
    examples = read_table(tmp_path, task.train, task)
    assert inputs(examples, task.text) == [
        "copa choice1: Many citizens relocated to the capitol. choice2: Many citizens took refuge in other "
        "territories. premise: Political violence broke out in the nation. question: effect"
    ]
    [tokens] = encode_text(examples, task, cased, 200, True).decoder_tokens or []
    assert _decoded(cased, tokens) == target


def test_a_wrong_noun_is_not_learned_and_is_compared(cased: Tokenizer, tmp_path: Path) -> None:
    record, _, _ = JSON["WSC"]
    wrong = {**record, "label": False, "target": {**record["target"], "span1_text": "the yard", "span1_index": 15}}
    (tmp_path / "WSC").mkdir()
    for file in ("train", "val"):
        rows = [{**each, "idx": 0, "text": f"{file} {each['text']}"} for each in (record, wrong)]
        (tmp_path / "WSC" / f"{file}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = as_text(TASKS["WSC"])
    data = load_task(task, FinetuneConfig(form="text", sequence_length=200), tmp_path, cased, False)
    assert data.title == "WSC (text to text)" and data.train is not None and data.train.rows == 1
    dev = data.dev[""]
    assert dev.answer_texts == ["The stable", "the yard"] and dev.labels.tolist() == [1, 0]
    assert text_answers(task, dev, np.array(["stable", "stable"])).tolist() == [1, 0]
    assert text_answers(task, dev, np.array(["a yard", ""])).tolist() == [0, 0]
    assert invalid(task, np.array(["x", "y"])) == 0


@pytest.mark.parametrize(
    ("said", "noun", "same"),
    [
        ("the fuzzy bunny", "bunny", True),
        ("Bunny", "the fuzzy bunny", True),
        ("Bob", "Bob's hat", False),
        ("his hat", "hat", True),
        ("the", "the hat", False),
        ("dog", "cat", False),
    ],
)
def test_nouns_are_compared_without_determiners(said: str, noun: str, same: bool) -> None:
    assert is_same_noun(said, noun) == same


def test_an_answer_that_is_no_word_is_wrong_and_counted(cased: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "CB").mkdir()
    rows = [
        {"premise": f"a {label}", "hypothesis": "b", "label": label, "idx": 0}
        for label in ("contradiction", "entailment", "neutral")
    ]
    (tmp_path / "CB" / "val.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = as_text(TASKS["CB"])
    encoded = encode_text(read_table(tmp_path, task.dev[""], task), task, cased, 64, False)
    for said in ("entailments", "", "Neutral", "contradiction neutral"):
        outputs = np.array([said] * 3)
        found = text_answers(task, encoded, outputs)
        assert (found != encoded.labels).all() and invalid(task, outputs) == 3
    outputs = np.array(["neutral", "entailment ", "x"])
    assert text_answers(task, encoded, outputs)[:2].tolist() == [2, 1] and invalid(task, outputs) == 1


def test_numbers_of_stsb() -> None:
    task = as_text(TASKS["STS-B"])
    assert task.text is not None and task.text.words[:3] == ("0.0", "0.2", "0.4") and task.text.words[-1] == "5.0"
    outputs = np.array(["3.8", "4", "nan", "neutral", "1e3"])
    assert text_answers(task, None, outputs).tolist() == pytest.approx([3.8, 4, -1, -1, 1000])  # pyright: ignore[reportArgumentType]
    assert invalid(task, outputs) == 2
    likelihoods = np.full((1, 26), -5.0, np.float32)
    likelihoods[0, 19] = -1
    assert text_answers(task, None, likelihoods).tolist() == pytest.approx([3.8])  # pyright: ignore[reportArgumentType]


def test_a_task_without_a_form_is_refused_and_the_form_can_be_set_for_one_task() -> None:
    values = {"suite": {"tasks": ["RTE", "OCNLI-10k"]}, "finetune": {"form": "text"}}
    with pytest.raises(ConfigError, match="OCNLI-10k has no form as text; those of T5's paper are CoLA, SST-2"):
        configs.parse(values, EvaluationConfig, "suite.toml")
    values["tasks"] = {"OCNLI-10k": {"form": "head"}}
    table = configs.parse(values, EvaluationConfig, "suite.toml").task_table()
    assert table["RTE"].text is not None and table["OCNLI-10k"].text is None and table["MNLI"].text is None
