"""AX by category: the diagnostic set with its labels, scored with MNLI's model."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import matthews_corrcoef

from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.evaluation.finetune_config import FinetuneConfig
from sesame.evaluation.finetuning.encoded import EncodedExamples
from sesame.evaluation.finetuning.encoding import TaskData, load_task
from sesame.evaluation.report.categories import category_scores
from sesame.evaluation.results.result import Result
from sesame.evaluation.tasks import TASKS
from sesame.evaluation.tasks.task import Table, Task

HEAD = "Lexical Semantics\tPredicate-Argument Structure\tLogic\tKnowledge\tDomain\tPremise\tHypothesis\tLabel"
LABELS = ("contradiction", "entailment", "neutral")


@pytest.fixture
def mnli(tmp_path: Path) -> Path:
    for split in ("train", "dev_matched", "dev_mismatched"):
        rows = [f"{split} {row}\tb\t{LABELS[row % 3]}" for row in range(9)]
        (tmp_path / "MNLI").mkdir(exist_ok=True)
        (tmp_path / "MNLI" / f"{split}.tsv").write_text("\n".join(["sentence1\tsentence2\tgold_label", *rows]) + "\n")
    (tmp_path / "AX").mkdir()
    rows = []
    for row in range(12):
        lexical, logic = "Symmetry" if row % 2 else "", "Negation;Disjunction" if row % 3 else ""
        rows.append(f"{lexical}\t\t{logic}\t\tNews\tp {row}\th\t{LABELS[row % 3]}")
    (tmp_path / "AX" / "diagnostic-full.tsv").write_text("\n".join([HEAD, *rows]) + "\n")
    texts = [f"{row}\tp {row}\th" for row in range(12)]
    (tmp_path / "AX" / "AX.tsv").write_text("\n".join(["index\tsentence1\tsentence2", *texts]) + "\n")
    return tmp_path


def test_ax_has_a_matthews_coefficient_for_each_coarse_category(mnli: Path, letter_tokenizer: Tokenizer) -> None:
    data = load_task(TASKS["MNLI"], FinetuneConfig(), mnli, letter_tokenizer, True)
    assert set(data.dev) == {"m", "mm", "AX"} and data.test["AX"].rows == 12
    assert data.task.counted == ("m", "mm"), "the diagnostic set does not count in MNLI's score"
    answers = np.random.default_rng(1).integers(3, size=(2, 12))
    results = [
        Result("MNLI", "pretrained", seed, {}, 1, 1.0, outputs={"AX": np.eye(3, dtype=np.float32)[each]} | {
            prefix: np.eye(3, dtype=np.float32)[data.dev[prefix].labels] for prefix in ("m", "mm")
        })
        for seed, each in enumerate(answers)
    ]  # fmt: skip
    found = category_scores(data, results)["AX matthews"]
    labels = np.arange(12) % 3
    assert set(found) == {"Lexical Semantics", "Logic"}
    for name, rows in (("Lexical Semantics", np.arange(12) % 2 == 1), ("Logic", np.arange(12) % 3 > 0)):
        expected = 100 * np.mean([matthews_corrcoef(labels[rows], each[rows]) for each in answers])
        assert found[name]["pretrained"] == pytest.approx(expected)


def test_without_the_labels_it_is_predicted_only(mnli: Path, letter_tokenizer: Tokenizer) -> None:
    (mnli / "AX" / "diagnostic-full.tsv").unlink()
    data = load_task(TASKS["MNLI"], FinetuneConfig(), mnli, letter_tokenizer, True)
    assert set(data.dev) == {"m", "mm"} and "AX/diagnostic-full.tsv is missing: it is not scored" in data.notes


def test_a_category_of_groups_is_scored_by_group() -> None:
    table = Table("dev.tsv", ("text",), "label", group="group", categories=("source",))
    task = Task("Own", ("exact_match",), table, {"": table}, labels=("no", "yes"))
    labels, groups, sources = np.array([1, 0, 1, 1]), np.array([0, 0, 1, 1]), [("news",)] * 4
    tokens = [np.array([2, 3], np.int32)] * 4
    dev = EncodedExamples(tokens, np.array([2] * 4), labels, ["0", "1", "2", "3"], groups=groups, categories=sources)
    data = TaskData(task, "Own", None, {"": dev}, {})
    outputs = {"": np.eye(2, dtype=np.float32)[[1, 0, 1, 0]]}
    found = category_scores(data, [Result("Own", "pretrained", 1, {}, 1, 1.0, outputs=outputs)])
    assert found["exact_match"]["news"]["pretrained"] == 50.0
