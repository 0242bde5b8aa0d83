"""Jobs that fail are repeated, then reported; what was computed is kept; the time is estimated before the first."""

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sesame import configs
from sesame.configs.errors import TaskError
from sesame.evaluation import jobs, starting
from sesame.evaluation.config import EvaluationConfig
from sesame.evaluation.evaluate import evaluate
from sesame.evaluation.finetuning.finetune import DivergedError
from sesame.evaluation.queue import worker
from sesame.evaluation.queue.jobs import Queue
from sesame.evaluation.results.result import Job
from sesame.evaluation.tasks import TASKS
from sesame.evaluation.tasks.task import started
from tests.evaluation.made_suite import report_without_times

Failure = Callable[[Job, int], Exception | None]
"""(job, how often it was tried before) -> why it fails."""


@pytest.fixture
def config(write_checkpoint: Callable[..., Path], letters: Path, tmp_path: Path) -> EvaluationConfig:
    values = {
        "checkpoint": str(write_checkpoint(tmp_path / "checkpoint")),
        "data_dir": str(letters),
        "suite": {"tasks": ["SST-2"], "seeds": [1, 2], "predict_test": False},
        "finetune": {"learning_rate": 3e-3, "epochs": 1, "batch_size": 16, "sequence_length": 48, "pooling": "mean"},
    }
    return configs.parse(values, EvaluationConfig, "test")


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch) -> Callable[[Failure], list[str]]:
    """Let jobs fail; returns a list to which every try adds the job's title."""

    def install(failure: Failure) -> list[str]:
        tried: list[str] = []

        def run_job(job: Job, *arguments: Any) -> Any:
            tried.append(job.title)
            if (error := failure(job, tried.count(job.title) - 1)) is not None:
                raise error
            return jobs.run_job(job, *arguments)

        monkeypatch.setattr(worker, "run_job", run_job)
        return tried

    return install


def test_a_job_that_fails_is_tried_again(
    config: EvaluationConfig, fail: Callable[[Failure], list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(config, tmp_path / "whole")
    title = "SST-2, pretrained, seed 2"
    tried = fail(lambda job, before: MemoryError("no memory") if job.title == title and before < 2 else None)
    capsys.readouterr()
    evaluate(config, tmp_path / "out")
    assert report_without_times(tmp_path / "out") == report_without_times(tmp_path / "whole")
    assert len(tried) == 4 + 2 and tried.count(title) == 3
    lines = capsys.readouterr().out.splitlines()
    again = [line.split(" ", 1)[1] for line in lines if "trying again" in line]
    assert again == [f"{title}: MemoryError: no memory; trying again ({number} of 2)" for number in (1, 2)]


def test_a_job_that_always_fails_is_reported_and_ends_nothing(
    config: EvaluationConfig, fail: Callable[[Failure], list[str]], tmp_path: Path
) -> None:
    title = "SST-2, pretrained, seed 1"
    tried = fail(lambda job, before: OSError(5, "broken disk", "/data/x") if job.title == title else None)
    text = evaluate(config, tmp_path / "out").read_text()
    assert tried.count(title) == 3 and len(tried) == 3 + 3
    assert "pretrained, seed 1: /data/x: input/output error; the disk failed" in text and "1 of 2 undefined" in text
    tried = fail(lambda job, before: None)
    assert "undefined" not in evaluate(config, tmp_path / "out").read_text()
    assert tried == [title], "the others were kept"


def test_a_defect_is_shown_once_and_not_tried_again(
    config: EvaluationConfig, fail: Callable[[Failure], list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    title = "SST-2, pretrained, seed 2"
    tried = fail(lambda job, before: ValueError("a wrong shape") if job.title == title else None)
    text = evaluate(config, tmp_path / "out").read_text()
    assert tried.count(title) == 1 and "pretrained, seed 2: ValueError: a wrong shape" in text
    assert capsys.readouterr().out.count("Traceback (most recent call last)") == 1


def _diverge(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Let SST-2 diverge with seed 1; returns the list of (task, seed) of the starts that are trained in their jobs."""
    trained: list[tuple[str, int]] = []
    real = jobs.finetune

    def finetune(backbone: Any, data: Any, settings: Any, seed: int, *arguments: Any) -> Any:
        if (data.task.name, seed) == ("SST-2", 1):
            raise DivergedError("SST-2: the gradient norm is not finite")
        return real(backbone, data, settings, seed, *arguments)

    def finetune_start(backbone: Any, data: Any, settings: Any, seed: int, *arguments: Any) -> Any:
        trained.append((data.task.name, seed))
        return finetune(backbone, data, settings, seed, *arguments)

    monkeypatch.setattr(jobs, "finetune", finetune)
    monkeypatch.setattr(starting, "finetune", finetune_start)
    return trained


def test_jobs_whose_start_diverges_fail_with_its_reason(
    config: EvaluationConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start is a job of the suite, or is trained by the first job that needs it: in either case once."""
    name = "SST-2-from-SST-2"
    monkeypatch.setitem(TASKS, name, started(TASKS["SST-2"], "SST-2"))
    trained = _diverge(monkeypatch)
    reason = "the task that it starts from failed: SST-2: the gradient norm is not finite"

    def suite(*tasks: str) -> EvaluationConfig:
        return config.model_copy(update={"suite": config.suite.model_copy(update={"tasks": tasks, "baseline": False})})

    text = evaluate(suite("SST-2", name), tmp_path / "out").read_text()
    assert trained == [] and all(f"pretrained, seed {seed}: {reason}" in text for seed in (1, 2))
    with pytest.raises(TaskError, match=f"every job failed; the first: {reason}"):
        evaluate(suite(name), tmp_path / "alone")
    assert trained == [("SST-2", 1)]


def test_a_task_without_fine_tuning_predicts_no_test_set() -> None:
    """It would be missing in the store for ever."""
    none: Any = None
    config: Any = SimpleNamespace(suite=SimpleNamespace(seeds=(1,)))
    queue = Queue(config, none, [], none, none, none)
    for train, expected in ((None, False), ("rows", True)):
        job: Any = SimpleNamespace(data=SimpleNamespace(test={"X": "rows"}, train=train), model="pretrained", seed=1)
        assert queue._predicts(job) == expected


def test_what_the_user_has_to_correct_is_not_tried_again(
    config: EvaluationConfig, fail: Callable[[Failure], list[str]], tmp_path: Path
) -> None:
    tried = fail(lambda job, before: TaskError("a file is wrong; fetch it") if job.seed == 1 else None)
    assert "a file is wrong; fetch it" in evaluate(config, tmp_path / "out").read_text()
    assert len(tried) == 4


def test_the_time_is_printed_before_the_first_job(
    config: EvaluationConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(config, tmp_path / "out")
    lines = [line for line in capsys.readouterr().out.splitlines() if "jobs" in line or "] SST-2" in line]
    assert re.search(r"4 jobs: about [\d.]+ s \(from some steps of SST-2\)$", lines[0]) and len(lines) == 5
    more = config.model_copy(update={"suite": config.suite.model_copy(update={"seeds": (1, 2, 3)})})
    evaluate(more, tmp_path / "out")
    lines = [line for line in capsys.readouterr().out.splitlines() if "jobs" in line]
    assert re.search(r"6 jobs, 4 already computed: about [\d.]+ s \(as fast as 4 jobs before\)$", lines[0])


def test_a_job_waits_for_the_one_that_it_starts_from() -> None:
    """Two workers would otherwise both train the first task."""

    def job(key: str, start: str = "") -> Any:
        first = SimpleNamespace(job=SimpleNamespace(key=start)) if start else None
        return SimpleNamespace(key=key, start=first)

    jobs = [job("rte 1", "mnli"), job("cola"), job("mnli"), job("rte 2", "mnli"), job("mrpc", "elsewhere")]
    none: Any = None
    queue = Queue(none, none, jobs, none, none, none)

    def parts(*numbers: int) -> list[list[int]]:
        queued: Any = [SimpleNamespace(number=number) for number in numbers]
        return [[each.number for each in part] for part in queue._parts(queued)]

    assert parts(0, 1, 2, 3, 4) == [[1, 2, 4], [0, 3]]
    assert parts(3, 0) == [[3, 0], []], "the first task is in the store"
