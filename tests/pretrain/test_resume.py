"""A run that is killed and started again ends bit for bit where an undisturbed one ends."""

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
from safetensors.torch import load_file

from pretrain import checkpoint
from pretrain.optimizer import OPTIMIZERS

Settings = Callable[..., dict[str, Any]]

PROGRAM = """
import json, sys, configs
from pretrain.config import RunConfig
from pretrain.train import train
train(configs.parse(json.loads(sys.argv[1]), RunConfig, "the test's run"))
"""


def start(values: dict[str, Any]) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    root = str(Path(__file__).parents[2])
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, json.dumps(values)],
        env=environment | {"PYTHONPATH": root},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def lines(output: Path) -> int:
    metrics = output / "metrics.jsonl"
    return len(metrics.read_text().splitlines()) if metrics.exists() else 0


def final(output: Path) -> dict[str, Any]:
    folder = checkpoint.latest(output)
    assert folder is not None
    record = checkpoint.read(folder)
    rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    losses = [(row["step"], row.get("train"), row.get("validation"), row.get("gradient_norm")) for row in rows]
    return {"step": record.step, "files": record.files, "losses": losses}


def test_killed_run_ends_like_an_undisturbed_one(settings: Settings, tmp_path: Path) -> None:
    changes = {
        "steps": 120,
        "model": {"dropout": 0.1, "attention_dropout": 0.1},
        "optimizer": {"name": "adamw", "learning_rate": 1e-3},
        "parallel": {"precision": "bf16", "zero_stage": 1, "threads": 1},
        "checkpoint": {"save_every_steps": 7, "keep": 2},
        "report": {"every_steps": 1, "validate_every_steps": 40, "validation_rows": 16},
    }
    undisturbed = settings(**changes) | {"output": str(tmp_path / "undisturbed")}
    output, _ = (process := start(undisturbed)).communicate(timeout=200)
    assert process.returncode == 0, output[-3000:]

    disturbed = undisturbed | {"output": str(tmp_path / "disturbed")}
    draw = random.Random(11)
    kills = 0
    while kills < 4:
        process = start(disturbed)
        goal = lines(tmp_path / "disturbed") + draw.randint(1, 25)
        while process.poll() is None and lines(tmp_path / "disturbed") < goal:
            time.sleep(0.002)
        time.sleep(draw.random() * 0.02)
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += 1
    assert kills >= 3, "the run ended before it was killed often enough"
    output, _ = (process := start(disturbed)).communicate(timeout=200)
    assert process.returncode == 0, output[-3000:]
    assert final(tmp_path / "disturbed") == final(tmp_path / "undisturbed")
    assert not list((tmp_path / "disturbed" / "checkpoints").glob("*.partial"))


LAYOUTS = [
    ("bert", 2, {"zero_stage": 3}, 1, {"zero_stage": 0}),
    ("bert", 1, {"zero_stage": 1}, 2, {"zero_stage": 3}),
    ("bert", 1, {"zero_stage": 1}, 2, {"tensor": 2, "zero_stage": 2}),
    ("switch", 2, {"expert": 2, "zero_stage": 2}, 1, {"zero_stage": 1}),
    ("switch", 1, {"zero_stage": 1}, 2, {"expert": 2, "zero_stage": 1}),
]


@pytest.mark.parametrize(("family_run", "first", "first_parallel", "second", "second_parallel"), LAYOUTS)
def test_a_checkpoint_resumes_in_another_layout(
    family_run: str,
    first: int,
    first_parallel: dict[str, Any],
    second: int,
    second_parallel: dict[str, Any],
    family_settings: Settings,
    world: Callable[..., list[str]],
    tmp_path: Path,
) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)

    def run(processes: int, parallel: dict[str, Any], steps: int, output: str) -> dict[str, Any]:
        values = family_settings(
            family_run,
            parallel={"precision": "fp32", "threads": 1, **parallel},
            optimizer={"name": "adamw", "learning_rate": 1e-3, "epsilon": 1e-3},
        ) | {"steps": steps, "output": str(tmp_path / output), "schedule": {"decay": "constant"}}
        world(processes, program, json.dumps(values))
        folder = checkpoint.latest(tmp_path / output)
        assert folder is not None
        record = checkpoint.read(folder)
        return {
            f"{kind}/{name}": checkpoint.stored(folder, record, kind).whole(name)
            for kind in ("weights", *OPTIMIZERS["adamw"].moments)
            for name in record.shapes
        }

    reference = run(1, {"zero_stage": 1}, 6, "whole")
    run(first, first_parallel, 3, "changed")
    resumed = run(second, second_parallel, 6, "changed")
    if "expert" in second_parallel:
        names = {name for file in (tmp_path / "changed").rglob("weights-*") for name in load_file(file)}
        assert any(name.endswith("experts.up[2:4]") for name in names), "each process writes the experts that it has"
    assert reference.keys() == resumed.keys()
    for name, value in reference.items():
        largest = float(value.abs().max())
        difference = float((value - resumed[name]).abs().max())
        assert difference <= 1e-4 * largest + 1e-9, f"{name} differs by {difference} of {largest}"


@pytest.mark.parametrize("name", ["adafactor", "adagrad"])
def test_the_moments_of_other_optimizers_come_back(name: str, settings: Settings, tmp_path: Path) -> None:
    """Six steps at once, and three and three, end in the same bytes of weights and moments."""
    changes = {"optimizer": {"name": name, "learning_rate": 0.02}, "schedule": {"decay": "constant"}}
    for output, steps in (("whole", 6), ("parted", 3), ("parted", 6)):
        told, _ = (process := start(settings(**changes, steps=steps, output=str(tmp_path / output)))).communicate()
        assert process.returncode == 0, told[-3000:]
    whole, parted = (final(tmp_path / output)["files"] for output in ("whole", "parted"))
    assert whole == parted and f"{OPTIMIZERS[name].moments[0]}-00000-000.safetensors" in whole


def test_a_second_phase_on_longer_rows_goes_on_from_the_first(
    settings: Settings, corpus: Path, dataset: Path, tmp_path: Path
) -> None:
    """BERT's recipe of short rows first and long ones last: the same corpus, tokenizer and run, another dataset."""
    import configs
    from data_pipeline.prepare import CorpusConfig, prepare

    values = {
        "output": str(tmp_path / "longer"),
        "source": {"kind": "json_lines", "paths": [str(corpus)]},
        "tokenizer": {"model": str(dataset / "tokenizer.model")},
        "segment": {"sequence_length": 64},
        "shards": {"validation_fraction": 0.1},
        "workers": {"count": 1},
    }
    longer = prepare(configs.parse(values, CorpusConfig, "corpus.toml"), tmp_path / "longer")
    assert start(settings(steps=4)).wait() == 0
    assert start(settings(steps=6, data={"dataset": str(longer)})).wait() == 0
    found = final(tmp_path / "run")
    assert found["step"] == 6
    assert [step for step, train, *_ in found["losses"] if train] == [2, 4, 6]
    held_out = [(path / "validation_documents.jsonl").read_text() for path in (dataset, longer)]
    assert held_out[0] == held_out[1], "what was held out of the first phase is not trained on in the second"
