"""Evaluation of a tiny model: report and submission files, skipped tasks, reused results, errors."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest

from sesame import configs
from sesame.configs.errors import ConfigError, TaskError
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.evaluation import evaluate as module
from sesame.evaluation.config import EvaluationConfig, FinetuneConfig
from sesame.evaluation.evaluate import evaluate
from sesame.evaluation.fetch import fetch
from sesame.evaluation.tasks import TASKS, HubDataset, Table, Task
from sesame.pretrain.models.bert import Bert
from sesame.pretrain.precision import Precision

SHIPPED = sorted((Path(module.__file__).parents[1] / "configs" / "evaluation").glob("*.toml"))
SUITE: dict[str, Any] = {
    "suite": {"tasks": ["SST-2", "RTE"], "seeds": [1, 2]},
    "finetune": {"learning_rate": 3e-3, "epochs": 2, "batch_size": 16, "sequence_length": 64, "pooling": "mean"},
}


@pytest.fixture
def calls(
    monkeypatch: pytest.MonkeyPatch,
    letter_tokenizer: Tokenizer,
    make_backbone: Callable[[int], Bert],
    tmp_path: Path,
) -> list[int | None]:
    """Replace the checkpoint by a tiny model; returns the seeds of the calls of ``load_backbone``."""
    calls: list[int | None] = []
    (tmp_path / "tokenizer.model").write_bytes(b"letters")

    def load_backbone(path: Path, *, seed: int | None = None) -> SimpleNamespace:
        calls.append(seed)
        backbone = make_backbone(7 if seed is None else 100 + seed)
        return SimpleNamespace(backbone=backbone, tokenizer_path=tmp_path / "tokenizer.model", step=12)

    monkeypatch.setattr(module, "load_backbone", load_backbone)
    monkeypatch.setattr(module.Tokenizer, "load", lambda path: letter_tokenizer, raising=False)
    return calls


def _config(data_dir: Path, **suite: Any) -> EvaluationConfig:
    folders = {"checkpoint": "run", "data_dir": str(data_dir)}
    return configs.parse({**SUITE, **folders, "suite": {**SUITE["suite"], **suite}}, EvaluationConfig, "test")


def test_suite_to_report(calls: list[int | None], letters: Path, tmp_path: Path) -> None:
    report = evaluate(_config(letters), tmp_path / "out")
    text = report.read_text()
    values = json.loads((tmp_path / "out" / "report.json").read_text())
    assert "| pretrained |" in text and "| random-init baseline |" in text and "| difference |" in text
    assert "RTE: skipped" in text and "RTE/dev.tsv" in values["skipped"]["RTE"]
    line = values["tasks"]["SST-2"]["score"]
    by_seed = line["pretrained"]["by_seed"]
    assert len(by_seed) == 2 and line["pretrained"]["median"] == pytest.approx(sum(by_seed) / 2, abs=1e-3)
    assert line["pretrained"]["spread"] == pytest.approx(max(by_seed) - min(by_seed), abs=1e-3)
    assert values["mean"]["over"] == ["SST-2"] and values["step"] == 12
    assert (tmp_path / "out" / "report.png").read_bytes().startswith(b"\x89PNG")
    predictions = (tmp_path / "out" / "submission" / "SST-2.tsv").read_text().splitlines()
    assert predictions[0] == "index\tprediction" and len(predictions) == 21
    assert calls == [None, None, None, 1, 2]
    assert not list((tmp_path / "out").rglob("*.partial"))


def test_a_task_is_added_by_one_row(calls: list[int | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The row is enough to fetch its files, fine-tune on them and write a submission file."""
    columns = ("question", "passage")
    task = Task(
        "Questions",
        ("accuracy", "f1"),
        train=Table("Questions/train.tsv", columns, "answer", hub_file="train.parquet"),
        dev={"": Table("Questions/dev.tsv", columns, "answer", hub_file="dev.parquet")},
        test={"Q": Table("Questions/test.tsv", columns, hub_file="test.parquet")},
        labels=("no", "yes"),
        hub=HubDataset("owner/questions", ("q", "p"), ("yes", "no")),
    )

    def download(repository: str, file: str) -> Path:
        assert repository == "owner/questions"
        rows = [{"q": "za"[row % 2] * 3, "p": f"text {row}", "label": row % 2} for row in range(100)]
        parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / file)
        return tmp_path / file

    monkeypatch.setitem(TASKS, "Questions", task)
    data_dir = fetch(tmp_path / "data", ["Questions"], download)
    evaluate(_config(data_dir, tasks=["Questions"], seeds=[1], baseline=False), tmp_path / "out")
    values = json.loads((tmp_path / "out" / "report.json").read_text())
    assert values["tasks"]["Questions"]["score"]["pretrained"]["median"] > 95
    predictions = (tmp_path / "out" / "submission" / "Q.tsv").read_text().splitlines()
    assert predictions[:3] == ["index\tprediction", "0\tyes", "1\tno"]


def test_existing_results_are_reused(calls: list[int | None], letters: Path, tmp_path: Path) -> None:
    evaluate(_config(letters), tmp_path / "out")
    before = json.loads((tmp_path / "out" / "report.json").read_text())
    calls.clear()
    evaluate(_config(letters), tmp_path / "out")
    after = json.loads((tmp_path / "out" / "report.json").read_text())
    assert calls == [None] and before["tasks"] == after["tasks"]
    evaluate(_config(letters, seeds=[1, 2, 3], baseline=False), tmp_path / "out")
    assert calls == [None, None, None]
    file = tmp_path / "out" / "submission" / "SST-2.tsv"
    predictions = file.read_text()
    file.write_text("of another checkpoint")
    evaluate(_config(letters), tmp_path / "out")
    assert calls == [None] * 5 and file.read_text() == predictions


def test_other_data_or_settings_are_computed_again(calls: list[int | None], letters: Path, tmp_path: Path) -> None:
    config = _config(letters, baseline=False, seeds=[1])
    evaluate(config, tmp_path / "out")
    with (letters / "SST-2" / "dev.tsv").open("a") as file:
        file.write("zzz\t1\n")
    calls.clear()
    evaluate(config, tmp_path / "out")
    other = config.model_copy(update={"finetune": config.finetune.model_copy(update={"weight_decay": 0.2})})
    evaluate(other, tmp_path / "out")
    assert calls == [None] * 4


def test_a_missing_required_task_is_an_error_before_anything_is_written(
    calls: list[int | None], letters: Path, tmp_path: Path
) -> None:
    with pytest.raises(TaskError, match="RTE"):
        evaluate(_config(letters, required=True), tmp_path / "out")
    with pytest.raises(TaskError, match="holds none of RTE"):
        evaluate(_config(letters, tasks=["RTE"]), tmp_path / "out")
    (letters / "SST-2" / "train.tsv").write_text("sentence\tlabel\nfine\tgood\n")
    with pytest.raises(TaskError, match="unknown label 'good'"):
        evaluate(_config(letters), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_sequence_length_above_the_positions_of_the_model_is_an_error(
    calls: list[int | None], letters: Path, tmp_path: Path
) -> None:
    config = _config(letters)
    config = config.model_copy(update={"finetune": FinetuneConfig(sequence_length=128)})
    with pytest.raises(ConfigError, match="128 is more than the 64 positions"):
        evaluate(config, tmp_path / "out")


@pytest.mark.parametrize("key", ["checkpoint", "data_dir", "output"])
def test_a_folder_that_is_not_configured_is_an_error(
    calls: list[int | None], letters: Path, tmp_path: Path, key: str
) -> None:
    config = _config(letters).model_copy(update={key: None})
    with pytest.raises(ConfigError, match=f"has no {key}; use --{key.replace('_', '-')} DIR"):
        evaluate(config, None if key == "output" else tmp_path / "out")
    assert not (tmp_path / "out").exists() and not calls


def test_folders_of_the_configuration_are_not_in_the_report(
    calls: list[int | None], letters: Path, tmp_path: Path
) -> None:
    config = _config(letters, baseline=False, seeds=[1])
    report = evaluate(config.model_copy(update={"output": tmp_path / "out"}))
    assert report == tmp_path / "out" / "report.md"
    values = json.loads((tmp_path / "out" / "report.json").read_text())
    assert set(values["config"]) == {"suite", "finetune", "tasks"}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_suites(path: Path) -> None:
    config = configs.load(path, EvaluationConfig)
    assert config.suite.baseline and len(config.suite.seeds) >= 2
    assert configs.parse(configs.dump(config), EvaluationConfig, "again") == config
    for name, differs in config.tasks.items():
        for key, value in differs.items():
            assert getattr(config.settings(name), key) == value


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"suite": {"tasks": ["SST2"]}}, "unknown task 'SST2'; known: CoLA"),
        ({"suite": {"tasks": ["RTE"]}, "tasks": {"RTE": {"epoch": 3}}}, "unknown key 'epoch'; known there: learning"),
        ({"suite": {"tasks": ["RTE"]}, "tasks": {"RTE": {"epochs": "3"}}}, "[tasks.RTE]: 'epochs' = '3'"),
        ({"suite": {"tasks": []}}, "suite.tasks"),
        ({"suite": {"tasks": ["RTE"]}, "finetune": {"pooling": "max"}}, "finetune.pooling"),
    ],
)
def test_an_error_in_a_suite_is_one_sentence(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as error:
        configs.parse(values, EvaluationConfig, "suite.toml")
    assert sentence in str(error.value) and str(error.value).startswith("suite.toml: ")


def test_results_depend_on_the_resolved_precision(
    calls: list[int | None], letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _config(letters, baseline=False, seeds=[1])
    names: tuple[Literal["fp32", "bf16"], ...] = ("fp32", "bf16", "fp32")
    for name in names:
        available = Precision(name, "test")
        monkeypatch.setattr(module.precision, "of_device", lambda device, available=available: available)
        evaluate(config, tmp_path / "out")
        values = json.loads((tmp_path / "out" / "report.json").read_text())
        assert values["tasks"]["SST-2"]["settings"]["precision"] == name
    assert len(list((tmp_path / "out" / "results").glob("*.json"))) == 2
    assert calls == [None, None] * 2 + [None], "the third run reuses the results of the first"
