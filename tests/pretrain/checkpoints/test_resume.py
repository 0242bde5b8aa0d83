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
from typing import Any, NamedTuple

import pytest
import torch

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


class Move(NamedTuple):
    """A run that is resumed in another layout: (processes, [parallel]) before and after."""

    family_run: str
    before: tuple[int, dict[str, Any]]
    after: tuple[int, dict[str, Any]]
    precision: str = "fp32"
    optimizer: str = "adamw"

    def __str__(self) -> str:
        (first, before), (second, after) = self.before, self.after
        return f"{unmoved(self)}, {first} {before} to {second} {after}".replace("'", "")


ALONE = (1, {"zero_stage": 1})
MOVES = [
    Move("bert", (2, {"zero_stage": 3}), (1, {"zero_stage": 0})),
    Move("bert", ALONE, (2, {"zero_stage": 3})),
    Move("bert", (2, {"tensor": 2, "zero_stage": 2}), ALONE),
    Move("bert", (2, {"zero_stage": 1}), ALONE, "bf16"),
    Move("bert", (2, {"tensor": 2, "zero_stage": 2}), (2, {"zero_stage": 3}), optimizer="muon"),
    Move("switch", ALONE, (2, {"expert": 2, "zero_stage": 1})),
    Move("switch", (4, {"tensor": 2, "expert": 2, "zero_stage": 2}), ALONE),
]
TOLERANCE = {"fp32": 1e-4, "bf16": 0.05}
SEVERAL = """
import json, sys
from sesame import configs
from sesame.pretrain.checkpoints import stored
from sesame.pretrain.config import RunConfig
from sesame.pretrain.parallel import zero_state
from sesame.pretrain.train import train
for settings, slab in json.loads(open(sys.argv[1]).read()):
    zero_state.SLICE_ENTRIES, stored.VALUES_PER_FILE = slab, 10 * slab
    train(configs.parse(settings, RunConfig, "the test's run"))
"""
"""Runs one after the other, with the given number of values in a slab."""
WHOLE, SLICES = 2**26, 100
"""Values of a slab that is larger than every tensor, and of one that is smaller than most."""

States = dict[str, dict[str, torch.Tensor]]


@pytest.fixture(scope="module")
def cached_states() -> States:
    """States for all tests of this module."""
    return {}


@pytest.fixture
def last_states(
    cached_states: States, family_settings: Settings, world: Callable[..., list[str]], tmp_path: Path
) -> States:
    """Last state by run: each of ``MOVES``, and the same run in one layout.

    Runs of layouts with the same number of processes are started together.
    """
    if cached_states:
        return cached_states
    program = tmp_path / "program.py"
    program.write_text(SEVERAL)

    def settings(run: Move, layout: tuple[int, dict[str, Any]], steps: int, output: str) -> dict[str, Any]:
        return family_settings(
            run.family_run,
            parallel={"precision": run.precision, "threads": 1, **layout[1]},
            optimizer={"name": run.optimizer, "learning_rate": 1e-3, "epsilon": 1e-3},
        ) | {"steps": steps, "output": str(tmp_path / output), "schedule": {"decay": "constant"}}

    first = [(move.before, settings(move, move.before, 3, str(move)), SLICES) for move in MOVES]
    first += [(ALONE, settings(move, ALONE, 6, unmoved(move)), WHOLE) for move in MOVES]
    second = [(move.after, settings(move, move.after, 6, str(move)), SLICES) for move in MOVES]
    for phase in (first, second):
        by_layout: dict[tuple[int, int], dict[str, tuple[dict[str, Any], int]]] = {}
        for (processes, parallel), values, slab in phase:
            by_layout.setdefault((processes, parallel.get("tensor", 1)), {})[values["output"]] = values, slab
        for (processes, _), runs in by_layout.items():
            runs_file = tmp_path / "runs.json"
            runs_file.write_text(json.dumps(list(runs.values())))
            world(processes, program, str(runs_file))
    for name, optimizer in {(name, move.optimizer) for move in MOVES for name in (str(move), unmoved(move))}:
        folder = latest(tmp_path / name)
        assert folder is not None
        checkpoint, row = open_checkpoint(folder), OPTIMIZERS[optimizer]
        for kind in ("weights", *row.moments):
            names = [each for each in checkpoint.record.shapes if kind in ("weights", *row.moments_of(each))]
            tensors = checkpoint.tensors(kind, names)
            cached_states.setdefault(name, {}).update({f"{kind}/{key}": tensors.whole(key) for key in tensors.shapes})
    return cached_states


def unmoved(move: Move) -> str:
    return f"{move.family_run} {move.precision} {move.optimizer}"


@pytest.mark.parametrize("move", MOVES, ids=str)
def test_a_checkpoint_is_resumed_in_another_layout(move: Move, last_states: States) -> None:
    whole, moved = last_states[unmoved(move)], last_states[str(move)]
    assert whole.keys() == moved.keys()
    for name, value in whole.items():
        largest = float(value.abs().max())
        difference = float((value - moved[name]).abs().max())
        assert difference <= TOLERANCE[move.precision] * largest + 1e-9, f"{name} differs by {difference} of {largest}"


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
