"""Following a run: which checkpoints are scored, when it ends, and what is not computed twice."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sesame import configs
from sesame.configs.errors import ConfigError, SesameError
from sesame.configs.stopping import Stopped
from sesame.evaluation import jobs
from sesame.evaluation.config import EvaluationConfig
from sesame.evaluation.following import follow as module
from sesame.evaluation.following.follow import follow
from sesame.evaluation.queue import worker
from sesame.evaluation.results.result import Job


@pytest.fixture
def config(letters: Path) -> EvaluationConfig:
    values = {
        "data_dir": str(letters),
        "suite": {"tasks": ["SST-2"], "seeds": [1], "predict_test": False},
        "finetune": {"learning_rate": 3e-3, "epochs": 1, "batch_size": 32, "sequence_length": 48, "pooling": "mean"},
    }
    return configs.parse(values, EvaluationConfig, "test")


class Run:
    """The folder of a pretraining run that this test plays."""

    def __init__(self, folder: Path, write_checkpoint: Callable[..., Path]):
        self.folder, self.write_checkpoint = folder, write_checkpoint
        self.folder.mkdir()
        self.add_line({"start": {"step": 0, "process": os.getpid(), "host": os.uname().nodename}})

    def add_line(self, line: dict[str, Any]) -> None:
        with (self.folder / "run.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    def end(self, reason: str = "finished") -> None:
        self.add_line({"end": {"reason": reason}})

    def path(self, step: int) -> Path:
        return self.folder / "checkpoints" / f"step-{step:08d}"

    def save(self, step: int, seed: int = 0) -> None:
        self.write_checkpoint(self.path(step), seed or step, step)

    def begin_save(self, step: int) -> None:
        """Leave a checkpoint as it is before it is renamed: with its record, but without all weights."""
        partial = self.path(step).with_suffix(".partial")
        self.write_checkpoint(partial, step, step)
        next(partial.glob("weights-*")).write_bytes(b"the beginning")

    def finish_save(self, step: int) -> None:
        shutil.rmtree(self.path(step).with_suffix(".partial"))
        self.save(step)


@pytest.fixture
def run(tmp_path: Path, write_checkpoint: Callable[..., Path]) -> Run:
    return Run(tmp_path / "run", write_checkpoint)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models of all jobs that are computed."""
    models: list[str] = []

    def run_job(job: Job, *arguments: Any) -> Any:
        models.append(job.model)
        return jobs.run_job(job, *arguments)

    monkeypatch.setattr(worker, "run_job", run_job)
    return models


def never(seconds: float) -> None:
    raise AssertionError("the run has ended, so there is nothing to wait for")


def steps(path: Path) -> list[int]:
    return [point["steps"] for point in json.loads(path.read_text())["points"]]


def test_a_finished_run_is_scored_and_drawn_once(
    config: EvaluationConfig, run: Run, computed: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for step in (10, 300, 20):
        run.save(step)
    run.end()
    path = follow(config, run.folder, tmp_path / "out", sleep=never)
    assert steps(path) == [10, 20, 300]
    assert computed == ["pretrained", "random", "pretrained", "pretrained"], "random weights are those of any step"
    values = json.loads(path.read_text())
    first, *_ = values["points"]
    report = json.loads((tmp_path / "out" / first["report"] / "report.json").read_text())
    assert report["checkpoint"] == str(run.path(10)) and report["step"] == 10
    assert first["tasks"]["SST-2"] == report["tasks"]["SST-2"]["score"] and first["sequences"] == 80
    assert values["unit"] == "tokens" and first["tokens"] > first["words"] > 80
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in path.with_suffix(".svg").read_text()
    assert not list((tmp_path / "out").glob(".*")) and not (tmp_path / "out" / "encoded").exists()
    assert "the run has ended (finished)" in capsys.readouterr().out
    follow(config, run.folder, tmp_path / "out", sleep=never)
    assert len(computed) == 4
    other = config.model_copy(update={"finetune": config.finetune.model_copy(update={"weight_decay": 0.2})})
    follow(other, run.folder, tmp_path / "out", sleep=never)
    assert len(computed) == 8 and "its 3 points have other settings or task files" in capsys.readouterr().out


def test_workers_score_the_weights_of_each_checkpoint(config: EvaluationConfig, run: Run, tmp_path: Path) -> None:
    """They live longer than a checkpoint is scored."""
    for step in (10, 20):
        run.save(step)
    run.end()
    # So little is learned that the scores are those of the checkpoints.
    finetune = config.finetune.model_copy(update={"learning_rate": 1e-5})
    config = config.model_copy(update={"finetune": finetune})
    follow(config, run.folder, tmp_path / "here", sleep=never)
    queue = configs.parse({"workers": 1}, type(config.queue), "queue")
    follow(config.model_copy(update={"queue": queue}), run.folder, tmp_path / "workers", sleep=never)
    here, workers = (_scores(tmp_path / name / "curve.json") for name in ("here", "workers"))
    assert here == workers and here[0] != here[1]


def _scores(path: Path) -> list[Any]:
    return [point["tasks"] for point in json.loads(path.read_text())["points"]]


def test_other_task_files_begin_another_curve(
    config: EvaluationConfig, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A curve of one point for each version of the files would compare what cannot be compared."""
    run.save(10)
    run.end()
    path = follow(config, run.folder, tmp_path / "out", sleep=never)
    before = json.loads(path.read_text())
    with (tmp_path / "SST-2" / "test.tsv").open("a") as file:
        file.write("20\tzzzz\n")
    earlier = {key: value for key, value in before.items() if key != "files"}
    path.write_text(json.dumps(earlier))
    follow(config, run.folder, tmp_path / "out", sleep=never)
    assert json.loads(path.read_text()) == earlier, "nothing is scored on a test set; earlier versions had no hash"
    path.write_text(json.dumps(before))
    with (tmp_path / "SST-2" / "dev.tsv").open("a") as file:
        file.write("zzzz zz\t1\n")
    run.save(20)
    follow(config, run.folder, tmp_path / "out", sleep=never)
    assert "its 1 points have other settings or task files" in capsys.readouterr().out
    values = json.loads(path.read_text())
    assert steps(path) == [10, 20] and values["files"] != before["files"]
    assert values["points"][0]["tasks"] != before["points"][0]["tasks"]


def test_each_report_has_the_settings_of_its_checkpoint(config: EvaluationConfig, run: Run, tmp_path: Path) -> None:
    for step in (10, 20):
        run.save(step)
    run.end()
    follow(config, run.folder, tmp_path / "out", sleep=never)
    for step in (10, 20):
        folder = tmp_path / "out" / run.path(step).name
        again = configs.load(folder / "evaluation.toml", EvaluationConfig)
        assert again.checkpoint == run.path(step) and again.output == folder


def test_the_lock_of_a_job_that_was_killed_is_no_result(config: EvaluationConfig, run: Run, tmp_path: Path) -> None:
    run.save(10)
    run.end()
    follow(config, run.folder, tmp_path / "out", sleep=never)
    lock = ".MNLI-random-1-0123456789ab.start.safetensors.lock"
    (tmp_path / "out" / run.path(10).name / "results" / lock).mkdir()
    run.save(20)
    path = follow(config, run.folder, tmp_path / "out", sleep=never)
    assert steps(path) == [10, 20] and not (tmp_path / "out" / run.path(20).name / "results" / lock).exists()


def test_new_checkpoints_are_awaited(
    config: EvaluationConfig, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A checkpoint that is being written is left alone, and one that was removed is skipped with a line."""
    acts = iter(
        [
            lambda: run.begin_save(10),
            lambda: None,
            lambda: run.finish_save(10),
            lambda: (run.save(20), run.save(30)),
            lambda: (run.save(40), run.end("stopped: SIGTERM")),
        ]
    )
    real = module.evaluate_in

    def evaluate_in(place: Any, *arguments: Any) -> Path:
        """The run removes a checkpoint that is scored, and one that is waiting."""
        if place.name == run.path(20):
            shutil.rmtree(run.path(20))
            shutil.rmtree(run.path(30))
        return real(place, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "evaluate_in", evaluate_in)
        path = follow(config, run.folder, tmp_path / "out", sleep=lambda seconds: next(acts)() and None)
    assert steps(path) == [10, 20, 40] and next(acts, None) is None
    printed = capsys.readouterr().out
    assert "step 30 is skipped: was removed by the run before it could be scored" in printed
    assert printed.count("skipped") == 1 and "the run has ended (stopped: SIGTERM)" in printed


def test_a_checkpoint_that_is_damaged_ends_nothing(
    config: EvaluationConfig, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for step in (10, 20):
        run.save(step)
    next(run.path(10).glob("weights-*")).write_bytes(b"damaged")
    run.end()
    assert steps(follow(config, run.folder, tmp_path / "out", sleep=never)) == [20]
    assert "step 10 is skipped" in capsys.readouterr().out


def test_a_run_that_went_back_is_scored_again(config: EvaluationConfig, run: Run, tmp_path: Path) -> None:
    run.save(10)
    run.end()
    path = follow(config, run.folder, tmp_path / "out", sleep=never)
    before = json.loads(path.read_text())["points"][0]["record_sha256"]
    shutil.rmtree(run.path(10))
    run.save(10, seed=77)
    path = follow(config, run.folder, tmp_path / "out", sleep=never)
    assert steps(path) == [10] and json.loads(path.read_text())["points"][0]["record_sha256"] != before


@pytest.mark.parametrize(
    ("unit", "marks", "expected"),
    [
        ("steps", [15, 20, 31], [20, 40]),
        ("sequences", [80, 81, 319], [10, 20, 40]),
        # The last checkpoint is 0.6 % below.
        ("steps", [40.2], [40]),
        ("steps", [41], []),
    ],
)
def test_the_first_checkpoint_at_or_after_a_number_is_scored(
    config: EvaluationConfig, run: Run, tmp_path: Path, unit: str, marks: list[float], expected: list[int]
) -> None:
    for step in (10, 20, 30, 40):
        run.save(step)
    run.end()
    chosen = configs.parse({"unit": unit, "at": marks}, type(config.follow), "follow")
    path = follow(config.model_copy(update={"follow": chosen}), run.folder, tmp_path / "out", sleep=never)
    assert (steps(path) if path.exists() else []) == expected


def test_words_are_those_of_the_rows(config: EvaluationConfig, run: Run, tmp_path: Path, dataset: Path) -> None:
    """Compared with the pieces that begin a word, of all rows."""
    from sesame.data_pipeline.dataset.shards import open_dataset
    from sesame.data_pipeline.ragged import Ragged
    from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer

    run.save(100)
    run.end()
    chosen = configs.parse({"unit": "words", "at": [1000]}, type(config.follow), "follow")
    path = follow(config.model_copy(update={"follow": chosen}), run.folder, tmp_path / "out", sleep=never)
    values = json.loads(path.read_text())
    opened = open_dataset(dataset, verify=False)
    tokenizer, words = Tokenizer.load(opened.tokenizer_path), 0
    for block in opened.split("train").blocks():
        tokens, places, labels = (block[name] for name in ("tokens", "mask_positions", "mask_labels"))
        assert isinstance(tokens, Ragged) and isinstance(places, Ragged) and isinstance(labels, Ragged)
        ids = tokens.values.copy()
        ids[places.values + np.repeat(tokens.offsets[:-1], np.diff(places.offsets))] = labels.values
        words += sum(tokenizer.is_marked(each) for each in ids.tolist() if each not in (2, 3))
    assert values["unit"] == "words"
    assert values["points"][0]["words"] == pytest.approx(800 * words / opened.split("train").rows, rel=0.01)


def test_a_signal_keeps_what_was_scored(config: EvaluationConfig, run: Run, tmp_path: Path) -> None:
    run.save(10)

    def stop(seconds: float) -> None:
        raise Stopped("SIGTERM")

    with pytest.raises(Stopped):
        follow(config, run.folder, tmp_path / "out", sleep=stop)
    assert steps(tmp_path / "out" / "curve.json") == [10]


def test_a_run_that_is_silent_for_long_is_given_up(
    config: EvaluationConfig, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = configs.parse({"give_up_minutes": 1e-9}, type(config.follow), "follow")
    follow(config.model_copy(update={"follow": chosen}), run.folder, tmp_path / "out", sleep=lambda seconds: None)
    assert "has not changed for 1e-09 minutes" in capsys.readouterr().out


def test_what_cannot_be_followed_is_refused(config: EvaluationConfig, run: Run, tmp_path: Path) -> None:
    with pytest.raises(SesameError, match="not the output folder of `sesame pretrain`"):
        follow(config, tmp_path, tmp_path / "out", sleep=never)
    run.save(10)
    run.end()
    record = run.path(10) / "checkpoint.json"
    values = json.loads(record.read_text())
    values["config"]["data"]["dataset"] = "elsewhere"
    values["record_sha256"] = ""
    values["format_version"] = 1
    record.write_text(json.dumps(values))
    chosen = configs.parse({"unit": "words", "at": [5]}, type(config.follow), "follow")
    with pytest.raises(ConfigError, match=r"follow.unit 'words' cannot be counted.*follow.unit=sequences"):
        follow(config.model_copy(update={"follow": chosen}), run.folder, tmp_path / "out", sleep=never)
    with pytest.raises(ConfigError, match="at must be rising numbers above 0"):
        configs.parse({"at": [2, 1]}, type(config.follow), "follow")
