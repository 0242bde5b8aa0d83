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

import configs
from pretrain.checkpoints import checkpoint
from pretrain.config import RunConfig
from pretrain.optimizers import OPTIMIZERS
from pretrain.train import train
from tests.liveness import outputs

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
    (output,) = outputs([process := start(undisturbed)])
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
    (output,) = outputs([process := start(disturbed)])
    assert process.returncode == 0, output[-3000:]
    assert final(tmp_path / "disturbed") == final(tmp_path / "undisturbed")
    assert not list((tmp_path / "disturbed" / "checkpoints").glob("*.partial"))


class Move(NamedTuple):
    """A run that goes on in another layout: (processes, [parallel]) before and after."""

    family_run: str
    before: tuple[int, dict[str, Any]]
    after: tuple[int, dict[str, Any]]
    precision: str = "fp32"

    def __str__(self) -> str:
        (first, before), (second, after) = self.before, self.after
        return f"{self.family_run} {self.precision}, {first} {before} to {second} {after}".replace("'", "")


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
SEVERAL = """
import json, sys, configs
from pretrain import stored
from pretrain.config import RunConfig
from pretrain.parallel import zero_state
from pretrain.train import train
for settings, slab in json.loads(open(sys.argv[1]).read()):
    zero_state.SLICE_ENTRIES, stored.FILE = slab, 10 * slab
    train(configs.parse(settings, RunConfig, "the test's run"))
"""
"""Runs one after the other, with so many values in a slab."""
WHOLE, PIECES = 2**26, 100
"""Slabs that hold every tensor, and slabs as if each was too large for one process."""

Ended = dict[str, dict[str, torch.Tensor]]


@pytest.fixture(scope="module")
def kept() -> Ended:
    """What runs ended with, by their name."""
    return {}


@pytest.fixture
def ended(kept: Ended, family_settings: Settings, world: Callable[..., list[str]], tmp_path: Path) -> Ended:
    """What every run of ``MOVES`` ended with, and each that was not moved; layouts that can share a world do."""
    if kept:
        return kept
    program = tmp_path / "program.py"
    program.write_text(SEVERAL)

    def settings(run: Move, layout: tuple[int, dict[str, Any]], steps: int, output: str) -> dict[str, Any]:
        return family_settings(
            run.family_run,
            parallel={"precision": run.precision, "threads": 1, **layout[1]},
            optimizer={"name": "adamw", "learning_rate": 1e-3, "epsilon": 1e-3},
        ) | {"steps": steps, "output": str(tmp_path / output), "schedule": {"decay": "constant"}}

    first = [(move.before, settings(move, move.before, 3, str(move)), PIECES) for move in MOVES]
    first += [(ALONE, settings(move, ALONE, 6, undisturbed(move)), WHOLE) for move in MOVES]
    second = [(move.after, settings(move, move.after, 6, str(move)), PIECES) for move in MOVES]
    for phase in (first, second):
        together: dict[tuple[int, int], dict[str, tuple[dict[str, Any], int]]] = {}
        for (processes, parallel), values, slab in phase:
            together.setdefault((processes, parallel.get("tensor", 1)), {})[values["output"]] = values, slab
        for (processes, _), runs in together.items():
            listed = tmp_path / "runs.json"
            listed.write_text(json.dumps(list(runs.values())))
            world(processes, program, str(listed))
    for name in {name for move in MOVES for name in (str(move), undisturbed(move))}:
        folder = checkpoint.latest(tmp_path / name)
        assert folder is not None
        record = checkpoint.read(folder)
        for kind in ("weights", *OPTIMIZERS["adamw"].moments):
            there = checkpoint.stored(folder, record, kind)
            kept.setdefault(name, {}).update({f"{kind}/{key}": there.whole(key) for key in record.shapes})
    return kept


def undisturbed(move: Move) -> str:
    return f"{move.family_run} {move.precision}"


@pytest.mark.parametrize("move", MOVES, ids=str)
def test_a_checkpoint_resumes_in_another_layout(move: Move, ended: Ended) -> None:
    whole, moved = ended[undisturbed(move)], ended[str(move)]
    assert whole.keys() == moved.keys()
    for name, value in whole.items():
        largest = float(value.abs().max())
        difference = float((value - moved[name]).abs().max())
        assert difference <= TOLERANCE[move.precision] * largest + 1e-9, f"{name} differs by {difference} of {largest}"


@pytest.mark.parametrize("name", ["adafactor", "adagrad"])
def test_the_moments_of_other_optimizers_come_back(name: str, settings: Settings, tmp_path: Path) -> None:
    """Six steps at once, and three and three, end in the same bytes of weights and moments."""
    changes = {"optimizer": {"name": name, "learning_rate": 0.02}, "schedule": {"decay": "constant"}}
    for output, steps in (("whole", 6), ("parted", 3), ("parted", 6)):
        train(configs.parse(settings(**changes, steps=steps, output=str(tmp_path / output)), RunConfig, "run.toml"))
    whole, parted = (final(tmp_path / output)["files"] for output in ("whole", "parted"))
    assert whole == parted and f"{OPTIMIZERS[name].moments[0]}-00000-000.safetensors" in whole


def test_a_second_phase_on_longer_rows_goes_on_from_the_first(
    settings: Settings, corpus: Path, dataset: Path, tmp_path: Path
) -> None:
    """BERT's recipe of short rows first and long ones last: the same corpus, tokenizer and run, another dataset."""
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
    accept = {"accept": ["data.dataset"]}
    for values in (settings(steps=4), settings(steps=6, data={"dataset": str(longer)}, resume=accept)):
        train(configs.parse(values, RunConfig, "run.toml"))
    found = final(tmp_path / "run")
    assert found["step"] == 6
    assert [step for step, train, *_ in found["losses"] if train] == [2, 4, 6]
    held_out = [(path / "validation_documents.jsonl").read_text() for path in (dataset, longer)]
    assert held_out[0] == held_out[1], "what was held out of the first phase is not trained on in the second"
