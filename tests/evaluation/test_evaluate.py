"""Evaluation of a tiny model: report and submission files, skipped tasks, errors."""

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest

from sesame import configs
from sesame.configs.errors import ConfigError, TaskError
from sesame.configs.storage import locked_folder
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.evaluation import evaluate as module
from sesame.evaluation import jobs
from sesame.evaluation.config import EvaluationConfig
from sesame.evaluation.evaluate import default_output, evaluate
from sesame.evaluation.fetch import fetch
from sesame.evaluation.finetune_config import FinetuneConfig
from sesame.evaluation.finetuning.finetune import DivergedError
from sesame.evaluation.queue.tasks import load_tasks
from sesame.evaluation.report.compare import compare_reports, comparison_text
from sesame.evaluation.tasks import TASKS, HubDataset, Table, Task
from sesame.evaluation.tasks.task import started
from tests.evaluation.made_suite import Calls, suite_config

SHIPPED = sorted((Path(module.__file__).parents[1] / "configs" / "evaluation").glob("*.toml"))


def test_suite_to_report(calls: Calls, letters: Path, tmp_path: Path) -> None:
    report = evaluate(suite_config(letters), tmp_path / "out")
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
    predictions = (tmp_path / "out" / "predictions" / "SST-2.tsv").read_text().splitlines()
    assert predictions[0] == "index\tprediction" and len(predictions) == 21
    assert calls == (["run"], [None, None, 1, 2])
    assert not list((tmp_path / "out").rglob("*.partial"))


def test_a_task_is_added_by_one_row(calls: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
        rows = [{"q": "za"[row % 2] * 3, "p": f"{file} {row}", "label": row % 2} for row in range(100)]
        parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / file)
        return tmp_path / file

    monkeypatch.setitem(TASKS, "Questions", task)
    data_dir = fetch(tmp_path / "data", ["Questions"], download)
    config = suite_config(data_dir, tasks=["Questions"], seeds=[1], baseline=False)
    settings = config.finetune.model_copy(update={"epochs": 4})
    evaluate(config.model_copy(update={"finetune": settings}), tmp_path / "out")
    values = json.loads((tmp_path / "out" / "report.json").read_text())
    assert values["tasks"]["Questions"]["score"]["pretrained"]["median"] > 95
    predictions = (tmp_path / "out" / "predictions" / "Q.tsv").read_text().splitlines()
    assert predictions[:3] == ["index\tprediction", "0\tyes", "1\tno"]


def test_two_checkpoints_are_compared(calls: Calls, letters: Path, tmp_path: Path) -> None:
    """One that is trained, and one whose learning rate leaves it as it was; from the predictions that are kept."""
    config = suite_config(letters, seeds=[1, 2, 3, 4, 5], baseline=False, predict_test=False)
    slow = config.finetune.model_copy(update={"learning_rate": 1e-9, "epochs": 1})
    evaluate(config, tmp_path / "a")
    evaluate(config.model_copy(update={"finetune": slow, "checkpoint": Path("other")}), tmp_path / "b")
    means = [
        json.loads((tmp_path / name / "report.json").read_text())["tasks"]["SST-2"]["score"]["pretrained"]["mean"]
        for name in "ab"
    ]
    lines = comparison_text(compare_reports(tmp_path / "a", tmp_path / "b" / "report.json")).splitlines()
    title, _, _, difference, *_, verdict = (cell.strip() for cell in lines[2].strip("|").split("|"))
    assert title == "SST-2" and float(difference) == pytest.approx(means[0] - means[1], abs=0.06) and means[0] > 90
    assert verdict in ("better", "no difference shown")
    same = comparison_text(compare_reports(tmp_path / "a", tmp_path / "a")).splitlines()[2]
    assert "+0.0" in same and "no difference shown" in same
    for path in (tmp_path / "b" / "results").glob("*.npz"):
        path.write_bytes(b"")
    with pytest.raises(TaskError, match="is missing or damaged"):
        compare_reports(tmp_path / "a", tmp_path / "b")
    with pytest.raises(TaskError, match="give the output folder of `sesame evaluate`"):
        compare_reports(tmp_path / "a", tmp_path / "none")


def test_two_evaluations_do_not_write_one_folder(calls: Calls, letters: Path, tmp_path: Path) -> None:
    with locked_folder(tmp_path / "out") as is_locked:
        assert is_locked
        with pytest.raises(ConfigError, match="another evaluation writes there"):
            evaluate(suite_config(letters), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_task_that_diverges_does_not_end_the_suite(
    calls: Calls, letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = jobs.finetune

    def finetune(backbone: Any, data: Any, settings: Any, seed: int, *arguments: Any) -> Any:
        if seed == 2:
            raise DivergedError("the gradient norm is not finite")
        return real(backbone, data, settings, seed, *arguments)

    monkeypatch.setattr(jobs, "finetune", finetune)
    text = evaluate(suite_config(letters, baseline=False), tmp_path / "out").read_text()
    assert "1 of 2 undefined" in text and "pretrained, seed 2: the gradient norm is not finite" in text
    with pytest.raises(TaskError, match="every job failed"):
        evaluate(suite_config(letters, baseline=False, seeds=[2]), tmp_path / "out2")


def test_the_default_output_belongs_to_the_checkpoint(tmp_path: Path) -> None:
    step = tmp_path / "run" / "checkpoints" / "step-00000012"
    assert default_output(step, "glue") == tmp_path / "run" / "evaluation" / "step-00000012" / "glue"
    assert default_output(tmp_path / "imported", "glue") == tmp_path / "evaluation" / "imported" / "glue"


def test_the_report_says_what_qualifies_a_score(calls: Calls, letters: Path, tmp_path: Path) -> None:
    """Head, device and truncated rows."""
    config = suite_config(letters, seeds=[1], baseline=False)
    finetune = {"learning_rate": 1e-9, "sequence_length": 12, "epochs": 1}
    config = config.model_copy(update={"finetune": config.finetune.model_copy(update=finetune)})
    text = evaluate(config, tmp_path / "out").read_text()
    assert "on the CPU with 1 threads" in text and "mean of tokens, new dense layer" in text
    assert re.search(r"SST-2/dev.tsv: \d+ of 50 sequences are cut to 12 tokens", text)


def test_a_missing_required_task_is_an_error_before_anything_is_written(
    calls: Calls, letters: Path, tmp_path: Path
) -> None:
    with pytest.raises(TaskError, match="RTE"):
        evaluate(suite_config(letters, required=True), tmp_path / "out")
    with pytest.raises(TaskError, match="holds none of RTE"):
        evaluate(suite_config(letters, tasks=["RTE"]), tmp_path / "out")
    (letters / "SST-2" / "train.tsv").write_text("sentence\tlabel\nfine\tgood\n")
    with pytest.raises(TaskError, match="unknown label 'good'"):
        evaluate(suite_config(letters), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_task_whose_start_is_missing_is_skipped(
    calls: Calls, letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "SST-2-from-RTE"
    monkeypatch.setitem(TASKS, name, started(TASKS["SST-2"], "RTE"))
    suite = {"tasks": ["SST-2", name], "seeds": [1], "baseline": False, "predict_test": False}
    evaluate(suite_config(letters, **suite), tmp_path / "out")
    values = json.loads((tmp_path / "out" / "report.json").read_text())
    assert list(values["tasks"]) == ["SST-2"] and list(values["skipped"]) == [name]
    assert re.fullmatch(r"it starts from RTE: .*RTE/dev.tsv: no such file.*", values["skipped"][name])
    with pytest.raises(TaskError, match=r"RTE/dev\.tsv"):
        evaluate(suite_config(letters, **suite, required=True), tmp_path / "out")
    with pytest.raises(TaskError, match=f"holds none of {name}; it starts from RTE"):
        evaluate(suite_config(letters, **{**suite, "tasks": [name]}), tmp_path / "out")


def test_a_sequence_length_above_the_positions_of_the_model_is_an_error(
    calls: Calls, letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def config_of(length: int, tasks: dict[str, int]) -> EvaluationConfig:
        config = suite_config(letters, tasks=[*dict.fromkeys(("SST-2", *tasks))], seeds=[1], baseline=False)
        settings = {name: {"sequence_length": each} for name, each in tasks.items()}
        return config.model_copy(
            update={"finetune": FinetuneConfig(sequence_length=length, epochs=1), "tasks": settings}
        )

    too_long = r"^SST-2: .* 128 is more than the 64 positions .* use --set finetune.sequence_length=64$"
    with pytest.raises(ConfigError, match=too_long):
        evaluate(config_of(128, {}), tmp_path / "out")
    assert not (letters / "CoLA").exists() and evaluate(config_of(64, {"CoLA": 128}), tmp_path / "out").exists()
    (letters / "RTE").mkdir()
    for split in ("train", "dev"):
        rows = [f"0\ta\t{split}\tentailment", f"1\tz\t{split}\tnot_entailment"]
        (letters / "RTE" / f"{split}.tsv").write_text("\n".join(["index\tsentence1\tsentence2\tlabel", *rows]) + "\n")
    monkeypatch.setitem(TASKS, "SST-2-from-RTE", started(TASKS["SST-2"], "RTE"))
    for tasks in ({"SST-2": 32, "SST-2-from-RTE": 32}, {"RTE": 128}):
        length = 128 if "SST-2" in tasks else 64
        with pytest.raises(ConfigError, match=r"^RTE: .* 128 is more than the 64 positions"):
            evaluate(config_of(length, tasks), tmp_path / "out")
    assert config_of(64, {"RTE": 128}).shorter(64) == ["tasks.RTE.sequence_length=64"]


def test_nothing_is_written_of_tasks_that_are_too_long(
    letters: Path, letter_tokenizer: Tokenizer, tmp_path: Path
) -> None:
    (tmp_path / "tokenizer").write_text("letters")
    place = letters, letter_tokenizer, tmp_path / "tokenizer"
    config = suite_config(letters, tasks=["SST-2"])
    with pytest.raises(ConfigError, match="is more than the 8 positions"):
        load_tasks(config, *place, 8, tmp_path / "encoded")
    assert not (tmp_path / "encoded").exists()
    load_tasks(config, *place, None, tmp_path / "encoded")
    assert len(list((tmp_path / "encoded").iterdir())) == 1


@pytest.mark.parametrize("key", ["checkpoint", "data_dir", "output"])
def test_a_folder_that_is_not_configured_is_an_error(calls: Calls, letters: Path, tmp_path: Path, key: str) -> None:
    config = suite_config(letters).model_copy(update={key: None})
    with pytest.raises(ConfigError, match=f"has no {key}; use --{key.replace('_', '-')} DIR"):
        evaluate(config, None if key == "output" else tmp_path / "out")
    assert not (tmp_path / "out").exists() and calls == ([], [])


def test_folders_of_the_configuration_are_not_in_the_report(calls: Calls, letters: Path, tmp_path: Path) -> None:
    config = suite_config(letters, baseline=False, seeds=[1])
    report = evaluate(config.model_copy(update={"output": tmp_path / "out"}))
    assert report == tmp_path / "out" / "report.md"
    values = json.loads((tmp_path / "out" / "report.json").read_text())
    assert set(values["config"]) == {"suite", "finetune", "tasks", "own_task", "protocol", "search"}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_suites(path: Path) -> None:
    config = configs.load(path, EvaluationConfig)
    # The baseline costs as much as the model; a published protocol has none.
    assert config.suite.baseline == (config.protocol is None) and len(config.suite.seeds) >= 2
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
