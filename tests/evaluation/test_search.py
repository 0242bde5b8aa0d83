"""Search over settings on a part of the training rows, and tasks that start from the model of another."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sesame import configs
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.evaluation.config import EvaluationConfig
from sesame.evaluation.evaluate import evaluate
from sesame.evaluation.finetuning.encoded import EncodedExamples
from sesame.evaluation.finetuning.encoding import TaskData, load_task
from sesame.evaluation.results.predictions import Predictions
from sesame.evaluation.results.result import Identity, Job, Result
from sesame.evaluation.search import held_back, search
from sesame.evaluation.search_config import SearchConfig
from sesame.evaluation.starting import Jobs, load_start
from sesame.evaluation.tasks import TASKS
from sesame.evaluation.tasks.task import started
from sesame.pretrain.models.bert import Bert
from tests.evaluation.made_suite import Calls

CPU = torch.device("cpu")
FINETUNE = {"learning_rate": 3e-3, "epochs": 1, "batch_size": 16, "sequence_length": 64, "precision": "fp32"}
GRID = {"learning_rate": [1e-6, 3e-3], "epochs": [1, 2]}


def _config(**values: Any) -> EvaluationConfig:
    suite = {"tasks": ["SST-2"], "seeds": [1, 2], "baseline": False, "predict_test": False}
    given = {"suite": suite, "finetune": FINETUNE, "checkpoint": "run", "search": GRID, **values}
    return configs.parse(given, EvaluationConfig, "suite.toml")


@pytest.fixture
def data(letters: Path, letter_tokenizer: Tokenizer) -> TaskData:
    return load_task(TASKS["SST-2"], _config().finetune, letters, letter_tokenizer, False)


def _searched(data: TaskData, folder: Path) -> tuple[EvaluationConfig, list[Job], dict[str, Any]]:
    """A search whose fourth job of four has the best score."""
    ran: list[Job] = []

    def run(jobs: list[Job]) -> list[Result]:
        ran.extend(jobs)
        return [Result("SST-2", "pretrained", 1, {"accuracy": number / 10}, 1, 0.0) for number in range(len(jobs))]

    config, searches = search(_config(), [data], Jobs(_config(), Identity("model", "random"), {}, folder), run)
    return config, ran, searches


def test_dev_rows_are_not_looked_at(data: TaskData, tmp_path: Path) -> None:
    """The same jobs with the same keys, whatever the dev rows are; and no row of theirs is in a job."""
    config, jobs, _ = _searched(data, tmp_path)
    dev = data.dev[""]
    other = replace(dev, labels=1 - dev.labels, tokens=[tokens[::-1] for tokens in dev.tokens])
    assert [job.key for job in _searched(replace(data, dev={"": other}), tmp_path)[1]] == [job.key for job in jobs]
    assert data.train is not None
    train = [tokens.tobytes() for tokens in data.train.tokens]
    for job in jobs:
        assert job.data.train is not None and job.data.test == {}
        parts = [[tokens.tobytes() for tokens in part.tokens] for part in (job.data.train, job.data.dev[""])]
        assert sorted(parts[0] + parts[1]) == sorted(train) and len(parts[1]) == 20
    assert config.settings("SST-2").learning_rate == 3e-3 and config.settings("SST-2").epochs == 2


def test_held_back_rows_are_of_no_group_that_is_trained_on() -> None:
    groups = np.repeat(np.arange(12), 5)
    tokens = [np.array([2, number, 3], np.int32) for number in range(60)]
    examples = EncodedExamples(tokens, np.full(60, 3), np.arange(60), list(map(str, range(60))), groups=groups)
    task = TaskData(TASKS["MultiRC"], "MultiRC", examples, {"": examples}, {})
    part = held_back(task, SearchConfig(epochs=(1,), validation_fraction=0.3))
    assert part.train is not None and part.train.groups is not None and part.dev[""].groups is not None
    assert not set(part.train.groups) & set(part.dev[""].groups)
    assert 10 <= part.dev[""].rows <= 18 and part.train.rows + part.dev[""].rows == 60


def test_the_first_group_is_held_back_as_a_whole() -> None:
    groups = np.repeat(np.arange(5), 10)
    tokens = [np.array([2, number, 3], np.int32) for number in range(50)]
    examples = EncodedExamples(tokens, np.full(50, 3), np.arange(50), list(map(str, range(50))), groups=groups)
    part = held_back(TaskData(TASKS["MultiRC"], "MultiRC", examples, {"": examples}, {}), SearchConfig(epochs=(1,)))
    assert part.train is not None and (part.train.rows, part.dev[""].rows) == (40, 10)


def test_a_task_starts_with_the_settings_chosen_for_the_other(
    data: TaskData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TASKS, "SST-2-from-SST-2", started(TASKS["SST-2"], "SST-2"))
    later = replace(data, task=started(TASKS["SST-2"], "SST-2"))
    jobs = Jobs(_config(), Identity("model", "random"), {"SST-2": data}, tmp_path)
    ran: list[Job] = []

    def run(jobs: list[Job]) -> list[Result]:
        ran.extend(jobs)
        return [Result(job.data.task.name, "pretrained", 1, {"accuracy": len(ran)}, 1, 0.0) for job in jobs]

    config, searches = search(_config(), [later, data], jobs, run)
    assert list(searches) == ["SST-2", "SST-2-from-SST-2"] and len(ran) == 8
    chosen = config.settings("SST-2")
    assert (chosen.learning_rate, chosen.epochs) != (3e-3, 1), "which are the ones without a search"
    first, *others = jobs.using(config).of([data, later])
    starts = [job.start.job for job in (*ran, *others) if job.start is not None]
    assert len(starts) == 6 and {start.key for start in starts} == {first.key}


def test_a_diverged_combination_is_not_chosen(data: TaskData, tmp_path: Path) -> None:
    def run(jobs: list[Job]) -> list[Result]:
        scores = [0.2, float("nan"), 0.7, 0.1]
        return [Result("SST-2", "pretrained", 1, {"accuracy": each}, 1, 0.0) for each in scores]

    config, searches = search(_config(), [data], Jobs(_config(), Identity("model", "random"), {}, tmp_path), run)
    assert searches["SST-2"].chosen.settings == {"learning_rate": 3e-3, "epochs": 1}
    assert (searches["SST-2"].train_rows, searches["SST-2"].held_back_rows) == (180, 20)
    assert config.settings("SST-2").epochs == 1


def test_a_search_is_in_the_report_and_is_not_repeated(
    calls: Calls, letters: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = _config(data_dir=str(letters))
    evaluate(config, tmp_path / "out")
    values = json.loads((tmp_path / "out" / "report.json").read_text())["tasks"]["SST-2"]
    assert values["settings"]["learning_rate"] == 3e-3
    found = values["search"]
    assert len(found["tried"]) == 4 and found["held_back_rows"] == 20
    assert max(found["tried"], key=lambda each: each["score"])["settings"] == found["chosen"]
    assert "20 training rows held back" in (tmp_path / "out" / "report.md").read_text()
    capsys.readouterr()
    evaluate(config, tmp_path / "out")
    assert capsys.readouterr().out.count("already computed") == 6


def test_a_task_starts_from_the_model_of_another(
    calls: Calls, letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One epoch does not learn the rows, two do: the second task has the same ones."""
    monkeypatch.setitem(TASKS, "SST-2-from-SST-2", started(TASKS["SST-2"], "SST-2"))
    suite = {"tasks": ["SST-2", "SST-2-from-SST-2"], "seeds": [1, 2], "baseline": False, "predict_test": False}
    evaluate(_config(suite=suite, search=None, data_dir=str(letters)), tmp_path / "out")
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    scores = {name: task["score"]["pretrained"]["mean"] for name, task in report["tasks"].items()}
    assert scores["SST-2"] < 70 < 95 < scores["SST-2-from-SST-2"]
    assert report["mean"]["over"] == ["SST-2"], "the plain task only"
    assert len(list((tmp_path / "out" / "results").glob("*.start.safetensors"))) == 1
    calls.clear()
    suite |= {"baseline": True, "tasks": ["SST-2-from-SST-2"]}
    evaluate(_config(suite=suite, search=None, data_dir=str(letters)), tmp_path / "out")
    # The baseline starts from what was learned from the first seed's random weights.
    assert calls.seeds == [1, 1] and len(list((tmp_path / "out" / "results").glob("*.start.safetensors"))) == 2


def test_a_started_task_predicts_the_test_set_unless_the_plain_one_does(
    calls: Calls, letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "SST-2-from-SST-2"
    monkeypatch.setitem(TASKS, name, started(TASKS["SST-2"], "SST-2"))
    models: list[list[tuple[str, str]]] = []

    def record(_: Path, sets: dict[str, Predictions]) -> list[str]:
        models.append([(file, each.task.name) for file, each in sets.items()])
        return []

    monkeypatch.setattr("sesame.evaluation.evaluate.write_predictions", record)
    for number, tasks in enumerate(([name], ["SST-2", name], [name, "SST-2"])):
        config = _config(suite={"tasks": tasks, "seeds": [1], "baseline": False}, search=None, data_dir=str(letters))
        assert [each for each in tasks if config.task_table()[each].test] == [tasks[0] if number == 0 else "SST-2"]
        evaluate(config, tmp_path / str(number))
    assert models == [[("SST-2.tsv", name)], [("SST-2.tsv", "SST-2")], [("SST-2.tsv", "SST-2")]]


def test_the_start_is_trained_once_and_another_is_not_taken(
    letters: Path, letter_tokenizer: Tokenizer, make_backbone: Callable[[int], Bert], tmp_path: Path
) -> None:
    config = _config()
    data = load_task(TASKS["SST-2"], config.finetune, letters, letter_tokenizer, False)
    later = replace(data, task=started(TASKS["SST-2"], "SST-2"))
    job = Jobs(config, Identity("model", "random"), {"SST-2": data}, tmp_path).make(
        later, config.finetune, "pretrained", 2
    )
    assert job.start is not None
    weights, steps = [], []
    for seed in (1, 2):
        backbone = make_backbone(seed)
        load_start(job.start, backbone, CPU, lambda *each: steps.append(each))
        weights.append(backbone.token_embedding.weight.detach().clone())
    assert torch.equal(*weights) and len(steps) == 13, "the second one reads what the first one has trained"
    other = Jobs(config, Identity("other", "random"), {"SST-2": data}, tmp_path).make(
        later, config.finetune, "pretrained", 2
    )
    assert other.start is not None and other.key != job.key
    job.start.file.rename(other.start.file)
    load_start(other.start, make_backbone(2), CPU, lambda *each: steps.append(each))
    assert len(steps) == 26
