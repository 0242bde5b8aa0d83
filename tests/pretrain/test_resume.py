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
from typing import Any, NamedTuple

import pytest
import torch

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


class Move(NamedTuple):
    """A run that goes on in another layout: (processes, [parallel]) before and after."""

    family_run: str
    before: tuple[int, dict[str, Any]]
    after: tuple[int, dict[str, Any]]
    precision: str = "fp32"


ALONE = (1, {"zero_stage": 1})
MOVES = [
    Move("bert", (2, {"zero_stage": 3}), (1, {"zero_stage": 0})),
    Move("bert", ALONE, (2, {"zero_stage": 3})),
    Move("bert", (2, {"tensor": 2, "zero_stage": 2}), ALONE),
    Move("bert", (2, {"zero_stage": 1}), ALONE, "bf16"),
    Move("switch", ALONE, (2, {"expert": 2, "zero_stage": 1})),
    Move("switch", (4, {"tensor": 2, "expert": 2, "zero_stage": 2}), ALONE),
]
TOLERANCE = {"fp32": 1e-4, "bf16": 0.05}
IN_PIECES = """
from pretrain import stored
from pretrain.parallel import zero
zero.SLAB, stored.FILE = 100, 1000
"""
"""As if every tensor was too large for one process."""


@pytest.fixture(scope="module")
def undisturbed() -> dict[tuple[str, str], dict[str, torch.Tensor]]:
    """What runs that were not moved ended with, by family and precision."""
    return {}


@pytest.mark.parametrize("move", MOVES, ids=str)
def test_a_checkpoint_resumes_in_another_layout(
    move: Move,
    undisturbed: dict[tuple[str, str], dict[str, torch.Tensor]],
    family_settings: Settings,
    world: Callable[..., list[str]],
    tmp_path: Path,
) -> None:
    def run(layout: tuple[int, dict[str, Any]], steps: int, output: str, program: str) -> dict[str, torch.Tensor]:
        processes, parallel = layout
        values = family_settings(
            move.family_run,
            parallel={"precision": move.precision, "threads": 1, **parallel},
            optimizer={"name": "adamw", "learning_rate": 1e-3, "epsilon": 1e-3},
        ) | {"steps": steps, "output": str(tmp_path / output), "schedule": {"decay": "constant"}}
        file = tmp_path / "program.py"
        file.write_text(program)
        world(processes, file, json.dumps(values))
        folder = checkpoint.latest(tmp_path / output)
        assert folder is not None
        record = checkpoint.read(folder)
        return {
            f"{kind}/{name}": checkpoint.stored(folder, record, kind).whole(name)
            for kind in ("weights", *OPTIMIZERS["adamw"].moments)
            for name in record.shapes
        }

    kind = move.family_run, move.precision
    if kind not in undisturbed:
        undisturbed[kind] = run(ALONE, 6, "whole", PROGRAM)
    run(move.before, 3, "changed", IN_PIECES + PROGRAM)
    resumed = run(move.after, 6, "changed", IN_PIECES + PROGRAM)
    assert undisturbed[kind].keys() == resumed.keys()
    for name, value in undisturbed[kind].items():
        largest = float(value.abs().max())
        difference = float((value - resumed[name]).abs().max())
        assert difference <= TOLERANCE[move.precision] * largest + 1e-9, f"{name} differs by {difference} of {largest}"


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
