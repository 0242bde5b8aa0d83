"""A run that is killed and resumed ends with the same bits as one that is not."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sesame import configs
from sesame.pretrain.checkpoints.load import latest, open_checkpoint
from sesame.pretrain.config import RunConfig
from sesame.pretrain.optimizers import OPTIMIZERS
from sesame.pretrain.train import train
from tests.liveness import outputs

Settings = Callable[..., dict[str, Any]]

PROGRAM = """
import json, sys, time
from sesame import configs
from sesame.pretrain.checkpoints import save
from sesame.pretrain.config import RunConfig
from sesame.pretrain.train import train

write = save.save_file
save.save_file = lambda tensors, path: (time.sleep(0.1), write(tensors, path))
train(configs.parse(json.loads(sys.argv[1]), RunConfig, "the test's run"))
"""
"""Takes some time to write a checkpoint."""


def start(values: dict[str, Any]) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    root = str(Path(__file__).parents[3])
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, json.dumps(values)],
        env=environment | {"PYTHONPATH": root},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def report_count(output: Path) -> int:
    metrics = output / "metrics.jsonl"
    return len(metrics.read_text().splitlines()) if metrics.exists() else 0


def last_state(output: Path) -> dict[str, Any]:
    folder = latest(output)
    assert folder is not None
    record = open_checkpoint(folder).record
    rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    losses = [(row["step"], row.get("train"), row.get("validation"), row.get("gradient_norm")) for row in rows]
    return {"step": record.step, "files": record.files, "losses": losses}


@pytest.mark.slow
def test_a_killed_run_ends_like_an_uninterrupted_one(settings: Settings, tmp_path: Path) -> None:
    changes = {
        "steps": 120,
        "model": {"dropout": 0.1, "attention_dropout": 0.1},
        "optimizer": {"name": "adamw", "learning_rate": 1e-3},
        "parallel": {"precision": "bf16", "zero_stage": 1, "threads": 1},
        "checkpoint": {"save_every_steps": 7, "keep": 2},
        "report": {"every_steps": 1, "validate_every_steps": 40, "validation_rows": 16},
    }
    uninterrupted = settings(**changes) | {"output": str(tmp_path / "uninterrupted")}
    (output,) = outputs([process := start(uninterrupted)])
    assert process.returncode == 0, output[-3000:]

    killed = uninterrupted | {"output": str(tmp_path / "killed")}
    generator = random.Random(11)
    kills = unfinished = 0

    def is_saving() -> bool:
        return any((tmp_path / "killed" / "checkpoints").glob("*.partial"))

    while kills < 4:
        process = start(killed)
        goal = report_count(tmp_path / "killed") + generator.randint(1, 25)
        while process.poll() is None and report_count(tmp_path / "killed") < goal:
            time.sleep(0.002)
        # Every second one meets a save.
        while process.poll() is None and kills % 2 == 0 and not is_saving():
            time.sleep(0.002)
        time.sleep(generator.random() * 0.02)
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += 1
        unfinished += is_saving()
    assert unfinished, "no kill met a save"
    assert kills >= 3, "the run ended before it was killed often enough"
    (output,) = outputs([process := start(killed)])
    assert process.returncode == 0, output[-3000:]
    assert last_state(tmp_path / "killed") == last_state(tmp_path / "uninterrupted")
    assert not list((tmp_path / "killed" / "checkpoints").glob("*.partial"))


@pytest.mark.parametrize("name", ["muon", "adafactor", "adagrad"])
def test_the_moments_of_other_optimizers_are_restored(name: str, settings: Settings, tmp_path: Path) -> None:
    """Six steps, and three and three, give the same bytes of weights and moments."""
    changes = {"optimizer": {"name": name, "learning_rate": 0.02}, "schedule": {"decay": "constant"}}
    for output, steps in (("whole", 6), ("resumed", 3), ("resumed", 6)):
        train(configs.parse(settings(**changes, steps=steps, output=str(tmp_path / output)), RunConfig, "run.toml"))
    whole, resumed = (last_state(tmp_path / output)["files"] for output in ("whole", "resumed"))
    assert whole == resumed and f"{OPTIMIZERS[name].moments[0]}-00000-000.safetensors" in whole


def test_a_second_phase_on_longer_rows_resumes_from_the_first(
    settings: Settings, corpus: Path, dataset: Path, tmp_path: Path
) -> None:
    """BERT's recipe of short rows first and long rows last: same corpus, tokenizer and run, another dataset."""
    from sesame.data_pipeline.prepare import CorpusConfig, prepare

    values = {
        "output": str(tmp_path / "longer"),
        "source": {"kind": "json_lines", "paths": [str(corpus)]},
        "tokenizer": {"model": str(dataset / "tokenizer.model")},
        "segment": {"sequence_length": 64},
        "shards": {"validation_fraction": 0.1},
        "workers": {"count": 1},
    }
    longer = prepare(configs.parse(values, CorpusConfig, "corpus.toml"), tmp_path / "longer")
    accept = {"accept": ["data.dataset"]}
    for values in (settings(steps=4), settings(steps=6, data={"dataset": str(longer)}, resume=accept)):
        train(configs.parse(values, RunConfig, "run.toml"))
    state = last_state(tmp_path / "run")
    assert state["step"] == 6
    assert [step for step, train, *_ in state["losses"] if train] == [2, 4, 6]
    validation = [(path / "validation_documents.jsonl").read_text() for path in (dataset, longer)]
    assert validation[0] == validation[1], "validation documents of the first phase are not trained on in the second"
