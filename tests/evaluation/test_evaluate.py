"""Evaluation of a tiny model: report and submission files, skipped tasks, reused results, errors."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest

from sesame import configs
from sesame.configs.errors import ConfigError, TaskError
from sesame.configs.storage import locked_folder
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.evaluation import evaluate as module
from sesame.evaluation import jobs
from sesame.evaluation.config import EvaluationConfig, FinetuneConfig
from sesame.evaluation.evaluate import default_output, evaluate
from sesame.evaluation.fetch import fetch
from sesame.evaluation.finetuning.finetune import DivergedError
from sesame.evaluation.queue import worker
from sesame.evaluation.report.compare import compare_reports, comparison_text
from sesame.evaluation.results.result import MODELS, Job
from sesame.evaluation.tasks import TASKS, HubDataset, Table, Task
from sesame.pretrain import precision
from sesame.pretrain.models.bert import Bert, BertConfig
from sesame.pretrain.precision import Precision

SHIPPED = sorted((Path(module.__file__).parents[1] / "configs" / "evaluation").glob("*.toml"))
SUITE: dict[str, Any] = {
    "suite": {"tasks": ["SST-2", "RTE"], "seeds": [1, 2]},
    "finetune": {"learning_rate": 3e-3, "epochs": 2, "batch_size": 16, "sequence_length": 64, "pooling": "mean"},
}


@pytest.fixture
def architectures() -> dict[str, BertConfig]:
    """Name of a checkpoint -> its configuration, where it is another one."""
    return {}


@pytest.fixture
def calls(
    monkeypatch: pytest.MonkeyPatch,
    architectures: dict[str, BertConfig],
    letter_tokenizer: Tokenizer,
    make_backbone: Callable[[int], Bert],
    tmp_path: Path,
) -> list[int | None]:
    """Replace the checkpoint by a tiny model; returns None for each load of it, and the seed of weights of each job."""
    calls: list[int | None] = []
    (tmp_path / "tokenizer.model").write_bytes(b"letters")

    def load_backbone(path: Path) -> SimpleNamespace:
        calls.append(None)
        backbone = make_backbone(7 if path.name == "run" else 8)
        model = architectures.get(
            path.name, BertConfig(layers=1, width=32, heads=2, feed_forward_width=64, positions=64)
        )
        return SimpleNamespace(backbone=backbone, tokenizer_path=tmp_path / "tokenizer.model", step=12, model=model)

    def run_job(job: Job, *arguments: Any) -> Any:
        calls.append(MODELS[job.model](job.seed))
        return jobs.run_job(job, *arguments)

    monkeypatch.setattr(jobs, "load_backbone", load_backbone)
    monkeypatch.setattr(worker, "run_job", run_job)
    monkeypatch.setattr(Tokenizer, "load", lambda path: letter_tokenizer, raising=False)
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
    predictions = (tmp_path / "out" / "predictions" / "SST-2.tsv").read_text().splitlines()
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
        rows = [{"q": "za"[row % 2] * 3, "p": f"{file} {row}", "label": row % 2} for row in range(100)]
        parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / file)
        return tmp_path / file

    monkeypatch.setitem(TASKS, "Questions", task)
    data_dir = fetch(tmp_path / "data", ["Questions"], download)
    evaluate(_config(data_dir, tasks=["Questions"], seeds=[1], baseline=False), tmp_path / "out")
    values = json.loads((tmp_path / "out" / "report.json").read_text())
    assert values["tasks"]["Questions"]["score"]["pretrained"]["median"] > 95
    predictions = (tmp_path / "out" / "predictions" / "Q.tsv").read_text().splitlines()
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


def test_test_predictions_are_kept_apart(calls: list[int | None], letters: Path, tmp_path: Path) -> None:
    """Asking for them fine-tunes one model again and no other; asking again, none."""
    out = tmp_path / "out"
    evaluate(_config(letters, predict_test=False), out)
    assert not (out / "predictions").exists()
    calls.clear()
    evaluate(_config(letters), out)
    assert calls == [None, None]
    predictions = (out / "predictions" / "SST-2.tsv").read_text()
    (out / "predictions" / "SST-2.tsv").write_text("of another checkpoint")
    evaluate(_config(letters), out)
    assert calls == [None] * 3 and (out / "predictions" / "SST-2.tsv").read_text() == predictions


def test_a_damaged_result_is_computed_again(calls: list[int | None], letters: Path, tmp_path: Path) -> None:
    config = _config(letters, seeds=[1], baseline=False, predict_test=False)
    evaluate(config, tmp_path / "out")
    [text], [arrays] = ([*(tmp_path / "out" / "results").glob(f"*.{ending}")] for ending in ("json", "npz"))
    for path, damaged in ((text, b'{"key": "'), (text, b"[]"), (arrays, arrays.read_bytes()[:-9])):
        path.write_bytes(damaged)
        calls.clear()
        evaluate(config, tmp_path / "out")
        assert calls == [None, None] and json.loads(text.read_text())["scores"]["accuracy"] > 0.9


def test_an_added_metric_is_computed_from_the_kept_outputs(
    calls: list[int | None], letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _config(letters, seeds=[1], baseline=False)
    evaluate(config, tmp_path / "out")
    monkeypatch.setitem(TASKS, "SST-2", replace(TASKS["SST-2"], metrics=("accuracy", "f1")))
    calls.clear()
    evaluate(config, tmp_path / "out")
    values = json.loads((tmp_path / "out" / "report.json").read_text())
    assert calls == [None] and values["tasks"]["SST-2"]["metrics"]["f1"]["pretrained"]["median"] > 90


def test_another_architecture_or_label_order_is_another_result(
    calls: list[int | None],
    architectures: dict[str, BertConfig],
    letters: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The weights of a model with 8 heads are those of a model with 2."""
    config = _config(letters, seeds=[1], baseline=False, predict_test=False)
    evaluate(config, tmp_path / "out")
    architectures["run"] = BertConfig(layers=1, width=32, heads=8, positions=64)
    calls.clear()
    evaluate(config, tmp_path / "out")
    assert calls == [None, None]
    architectures["run"] = architectures["run"].model_copy(update={"activation": "relu"})
    evaluate(config, tmp_path / "out")
    assert calls == [None] * 4
    monkeypatch.setitem(TASKS, "SST-2", replace(TASKS["SST-2"], labels=("1", "0")))
    evaluate(config, tmp_path / "out")
    assert calls == [None] * 6


def test_predictions_are_of_the_last_checkpoint_only(calls: list[int | None], letters: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    config = _config(letters, seeds=[1], baseline=False)
    evaluate(config, out)
    (out / "predictions" / "WNLI.tsv").write_text("of another checkpoint")
    (out / "GLUE.zip").write_text("of another checkpoint")
    evaluate(config.model_copy(update={"checkpoint": Path("other")}), out)
    assert [path.name for path in (out / "predictions").iterdir()] == ["SST-2.tsv"]
    assert not (out / "GLUE.zip").exists() and len([*(out / "results").glob("*.test.npz")]) == 2
    assert "No GLUE.zip: gluebenchmark.com also requires CoLA.tsv" in (out / "report.md").read_text()


def test_two_checkpoints_and_two_suites_in_one_folder_are_not_mixed(
    calls: list[int | None], letters: Path, tmp_path: Path
) -> None:
    """Each report in a folder of all of them is the one in a folder of its own; the second time nothing is computed."""

    def contents(folder: Path) -> Any:
        values = json.loads((folder / "report.json").read_text())
        del values["started"]
        for task in values["tasks"].values():
            del task["seconds"]
        return values, {path.name: path.read_text() for path in sorted((folder / "predictions").iterdir())}

    short = {"epochs": 1, "pooling": "first"}
    suites = [_config(letters, seeds=[1]), _config(letters, seeds=[1, 2])]
    suites[1] = suites[1].model_copy(update={"finetune": suites[1].finetune.model_copy(update=short)})
    runs = [suite.model_copy(update={"checkpoint": Path(name)}) for suite in suites for name in ("run", "other")]
    for number, run in enumerate(runs):
        evaluate(run, tmp_path / str(number))
    assert len({json.dumps(contents(tmp_path / str(number))) for number in range(4)}) == 4
    for _ in range(2):
        calls.clear()
        for number, run in enumerate(runs):
            evaluate(run, tmp_path / "shared")
            assert contents(tmp_path / "shared") == contents(tmp_path / str(number))
    assert calls == [None] * 4


def test_two_checkpoints_are_compared(calls: list[int | None], letters: Path, tmp_path: Path) -> None:
    """One that is trained, and one whose learning rate leaves it as it was; from the predictions that are kept."""
    config = _config(letters, seeds=[1, 2, 3, 4, 5], baseline=False, predict_test=False)
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


def test_two_evaluations_do_not_write_one_folder(calls: list[int | None], letters: Path, tmp_path: Path) -> None:
    with locked_folder(tmp_path / "out") as is_locked:
        assert is_locked
        with pytest.raises(ConfigError, match="another evaluation writes there"):
            evaluate(_config(letters), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_task_that_diverges_does_not_end_the_suite(
    calls: list[int | None], letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = jobs.finetune

    def finetune(backbone: Any, data: Any, settings: Any, seed: int, *arguments: Any) -> Any:
        if seed == 2:
            raise DivergedError("the gradient norm is not finite")
        return real(backbone, data, settings, seed, *arguments)

    monkeypatch.setattr(jobs, "finetune", finetune)
    text = evaluate(_config(letters, baseline=False), tmp_path / "out").read_text()
    assert "1 of 2 undefined" in text and "pretrained, seed 2: the gradient norm is not finite" in text
    with pytest.raises(TaskError, match="every fine-tuning run failed"):
        evaluate(_config(letters, baseline=False, seeds=[2]), tmp_path / "out2")


def test_the_default_output_belongs_to_the_checkpoint(tmp_path: Path) -> None:
    step = tmp_path / "run" / "checkpoints" / "step-00000012"
    assert default_output(step, "glue") == tmp_path / "run" / "evaluation" / "step-00000012" / "glue"
    assert default_output(tmp_path / "imported", "glue") == tmp_path / "evaluation" / "imported" / "glue"


def test_the_report_says_what_qualifies_a_score(calls: list[int | None], letters: Path, tmp_path: Path) -> None:
    """Head, device and truncated rows."""
    config = _config(letters, seeds=[1], baseline=False)
    finetune = {"learning_rate": 1e-9, "sequence_length": 12, "epochs": 1}
    config = config.model_copy(update={"finetune": config.finetune.model_copy(update=finetune)})
    text = evaluate(config, tmp_path / "out").read_text()
    assert "on the CPU with 1 threads" in text and "mean of tokens, new dense layer" in text
    assert re.search(r"SST-2/dev.tsv: \d+ of 50 sequences are cut to 12 tokens", text)


def test_other_data_or_settings_are_computed_again(calls: list[int | None], letters: Path, tmp_path: Path) -> None:
    config = _config(letters, baseline=False, seeds=[1])
    evaluate(config, tmp_path / "out")
    with (letters / "SST-2" / "dev.tsv").open("a") as file:
        file.write("zzzz zz\t1\n")
    calls.clear()
    evaluate(config, tmp_path / "out")
    other = config.model_copy(update={"finetune": config.finetune.model_copy(update={"weight_decay": 0.2})})
    evaluate(other, tmp_path / "out")
    # Each is one call for the fingerprint and one for the job.
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


def test_results_depend_on_the_resolved_precision(
    calls: list[int | None], letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _config(letters, baseline=False, seeds=[1])
    names: tuple[Literal["fp32", "bf16"], ...] = ("fp32", "bf16", "fp32")
    for name in names:
        available = Precision(name, "test")
        monkeypatch.setattr(precision, "of_device", lambda device, available=available: available)
        evaluate(config, tmp_path / "out")
        values = json.loads((tmp_path / "out" / "report.json").read_text())
        assert values["tasks"]["SST-2"]["settings"]["precision"] == name
    kept = {path.name for path in (tmp_path / "out" / "results").glob("*.json")}
    assert len([name for name in kept if not name.endswith(".test.json")]) == 2
    assert calls == [None, None] * 2 + [None], "the third run reuses the results of the first"
