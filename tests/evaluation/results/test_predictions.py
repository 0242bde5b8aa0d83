"""Files of predictions: the servers' formats, and the archive of a complete benchmark."""

import numpy as np
import pytest

from sesame.evaluation.results.predictions import Predictions, content
from sesame.evaluation.tasks import TASKS
from sesame.evaluation.tasks.own import OwnTable, OwnTask


def _content(name: str, indices: list[str], values: np.ndarray) -> str:
    task = TASKS[name]
    return content(Predictions(task, task.test[name], indices, values))


def test_labels_are_those_of_the_training_files() -> None:
    assert _content("RTE", ["0", "1"], np.array([1, 0])) == "index\tprediction\n0\tentailment\n1\tnot_entailment\n"
    scores = _content("STS-B", ["0", "1", "2"], np.array([-0.2, 2.34567, 6.0]))
    assert scores == "index\tprediction\n0\t0.000\n1\t2.346\n2\t5.000\n"
    assert _content("CoLA", ["0"], np.array([1])) == "index\tprediction\n0\t1\n"


def test_every_file_of_glue_has_a_task() -> None:
    files = {name for task in TASKS.values() for name in task.test}
    assert files >= {"CoLA", "SST-2", "MRPC", "STS-B", "QQP", "MNLI-m", "MNLI-mm", "QNLI", "RTE", "WNLI", "AX"}


@pytest.mark.parametrize(
    ("file", "index", "expected"),
    [
        ("t.jsonl", None, '{"index": 0, "label": "good"}\n'),
        ("t.jsonl", "meta.id", '{"id": 0, "label": "good"}\n'),
        ("t.jsonl", "{a}-{b}", '{"index": 0, "label": "good"}\n'),
        ("t.jsonl", "doc/id", '{"doc/id": 0, "label": "good"}\n'),
        ("t.tsv", "doc/id", "index\tprediction\n0\tgood\n"),
    ],
)
def test_a_task_of_ones_own_has_labels_under_the_name_of_its_index(file: str, index: str | None, expected: str) -> None:
    own = OwnTask(
        name="Own",
        metrics=("accuracy",),
        labels=("bad", "good"),
        train=OwnTable(file="train.tsv", texts=("text",), label="label"),
        dev=OwnTable(file="dev.tsv", texts=("text",), label="label"),
        test=OwnTable(file=file, texts=("text",), index=index),
    )
    task = own.row()
    assert content(Predictions(task, task.test["Own"], ["0"], np.array([1]))) == expected
