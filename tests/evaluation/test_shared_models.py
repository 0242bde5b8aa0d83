"""Evaluations whose models are loaded and trained in parts: results, keys and files of those of one process."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from safetensors.torch import load_file

from sesame import configs
from sesame.configs.errors import ConfigError, TaskError
from sesame.evaluation import jobs
from sesame.evaluation.config import EvaluationConfig
from sesame.evaluation.evaluate import evaluate
from sesame.evaluation.finetuning.share import ALONE
from sesame.evaluation.following.follow import follow
from sesame.evaluation.layout_config import LayoutConfig
from sesame.evaluation.queue import processes
from sesame.evaluation.queue.processes import open_processes
from sesame.evaluation.results.result import Start
from sesame.evaluation.shared_models import SharedModels
from sesame.evaluation.starting import write_start
from sesame.evaluation.tasks import TASKS
from sesame.evaluation.tasks.task import started
from sesame.pretrain.checkpoints import load

FINETUNE = {
    "learning_rate": 3e-3,
    "epochs": 1,
    "batch_size": 16,
    "epsilon": 1e-3,
    "sequence_length": 48,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "precision": "fp32",
}


def _config(checkpoint: Path, data_dir: Path, tasks: list[str], **sections: Any) -> EvaluationConfig:
    values = {"checkpoint": str(checkpoint), "data_dir": str(data_dir), "finetune": FINETUNE, **sections}
    suite = {"tasks": tasks, "seeds": [1], "threads": 1}
    return configs.parse({**values, "suite": suite}, EvaluationConfig, "test")


def _outputs(folder: Path) -> dict[str, np.ndarray]:
    found = {}
    for path in sorted((folder / "results").glob("*.npz")):
        with np.load(path, allow_pickle=False) as arrays:
            found |= {f"{path.name} {name}": arrays[name] for name in arrays.files if name.startswith("set ")}
    return found


@pytest.fixture
def started_task(monkeypatch: pytest.MonkeyPatch) -> str:
    """A task that starts from the model of SST-2."""
    monkeypatch.setitem(TASKS, "SST-2-from-SST-2", started(TASKS["SST-2"], "SST-2"))
    return "SST-2-from-SST-2"


@pytest.mark.parametrize("stage", [1, 3])
def test_a_model_in_parts_has_the_results_of_a_whole_one(
    stage: int,
    write_checkpoint: Callable[..., Path],
    letters: Path,
    started_task: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Checkpoint, random weights, and a start from another task; by an engine of one process."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    tasks = ["SST-2", started_task] if stage == 1 else [started_task]
    config = _config(checkpoint, letters, tasks, parallel={"zero_stage": stage})
    evaluate(config, tmp_path / "whole")
    monkeypatch.setattr(processes, "count", lambda: 2)
    monkeypatch.setattr(jobs, "load_backbone", lambda path: pytest.fail("a whole model was loaded"))
    evaluate(config, tmp_path / "parts")
    whole, parts = _outputs(tmp_path / "whole"), _outputs(tmp_path / "parts")
    # Names have the keys: of checkpoint, weights, rows and settings.
    assert whole.keys() == parts.keys() and len(whole) == (5 if stage == 1 else 3)
    for name in whole:
        np.testing.assert_allclose(parts[name], whole[name], rtol=0, atol=1e-5)
    starts = [sorted((tmp_path / each / "results").glob("*.start.safetensors")) for each in ("whole", "parts")]
    for one, other in zip(*starts, strict=True):
        weights, again = load_file(one), load_file(other)
        assert weights.keys() == again.keys() and one.name == other.name and "pooler.weight" in weights
        for name in weights:
            np.testing.assert_allclose(again[name], weights[name], rtol=0, atol=1e-4)
    assert "on 1 processes (tensor 1 x data 1, ZeRO" in (tmp_path / "parts" / "report.md").read_text()


@pytest.mark.parametrize("is_missing_elsewhere", [False, True])
def test_a_start_that_one_process_cannot_read_is_an_error_in_all(tmp_path: Path, is_missing_elsewhere: bool) -> None:
    """Whoever went on alone would wait for the others for ever."""
    job: Any = SimpleNamespace(key="key")
    start = Start(job, tmp_path / "start.safetensors")
    write_start(start.file, job, {})
    mesh = SimpleNamespace(barrier=lambda: None, gather_objects=lambda value: [value, is_missing_elsewhere])
    models, none = SharedModels(tmp_path, ALONE, mesh, LayoutConfig()), cast("Any", None)
    if not is_missing_elsewhere:
        models._start(start, SimpleNamespace(), none, none)
        return
    with pytest.raises(TaskError, match="cannot be read by every process"):
        models._start(start, SimpleNamespace(), none, none)


def test_an_opened_backbone_is_the_loaded_one(write_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    opened, loaded = load.open_backbone(checkpoint), load.load_backbone(checkpoint)
    assert all(each.is_meta for each in opened.backbone.parameters())
    for name, parameter in loaded.backbone.named_parameters():
        np.testing.assert_array_equal(opened.weights.whole(f"backbone.{name}"), parameter.detach())


REFUSED = {
    "tensor in one process": (1, ["SST-2"], {"parallel": {"tensor": 2}}, "parallel.tensor 2 needs several processes"),
    "workers": (2, ["SST-2"], {"queue": {"workers": 2}}, "queue.workers and several processes are both set"),
    "zero-shot": (
        2,
        ["SST-2", "BLiMP"],
        {"parallel": {"tensor": 2}},
        "BLiMP is scored without fine-tuning, which parallel.tensor 2 does not divide; leave it out of suite.tasks",
    ),
    "text": (
        2,
        ["SST-2"],
        {"parallel": {"zero_stage": 3}, "finetune": {"form": "text"}},
        "SST-2: finetune.form 'text' decodes with whole weights, which parallel.zero_stage 3 splits; use "
        "finetune.form head",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_processes_cannot_do_is_refused(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    count, tasks, sections, sentence = REFUSED[case]
    config = configs.parse({"suite": {"tasks": tasks}, **sections}, EvaluationConfig, "suite.toml")
    monkeypatch.setattr(processes, "count", lambda: count)
    with pytest.raises(ConfigError, match=sentence), open_processes(config):
        pass


@pytest.mark.parametrize(
    ("sections", "sentence"),
    [
        ({"parallel": {"sequence": True}}, "sequence divides the tokens over the processes of tensor"),
        ({"parallel": {"tensor": 2}, "queue": {"workers": 2}}, "each of the queue.workers runs its jobs alone"),
        ({"parallel": {"zero_stage": 4}}, "zero_stage"),
        ({"parallel": {"precision": "bf16"}}, "precision"),
    ],
)
def test_settings_that_exclude_each_other_are_refused(sections: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        configs.parse({"suite": {"tasks": ["RTE"]}, **sections}, EvaluationConfig, "suite.toml")


def test_following_needs_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = configs.parse({"suite": {"tasks": ["RTE"]}, "data_dir": "x"}, EvaluationConfig, "suite.toml")
    monkeypatch.setattr(processes, "count", lambda: 2)
    with pytest.raises(ConfigError, match="--follow scores each checkpoint in one process"):
        follow(config, tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_layout_is_no_part_of_the_recipe() -> None:
    values = {"suite": {"tasks": ["RTE"]}}
    one, other = (
        configs.parse({**values, "parallel": parallel}, EvaluationConfig, "test") for parallel in ({}, {"tensor": 2})
    )
    assert one.recipe() == other.recipe() and one != other
