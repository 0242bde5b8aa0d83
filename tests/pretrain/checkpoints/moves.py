"""Runs that begin in one layout and are resumed in another."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from sesame.pretrain.checkpoints.load import latest, open_checkpoint
from sesame.pretrain.optimizers import OPTIMIZERS, OptimizerKind
from tests.conftest import World

Settings = Callable[..., dict[str, Any]]
LayoutOf = tuple[int, dict[str, Any]]
"""(processes, [parallel])."""
ALONE: LayoutOf = (1, {"zero_stage": 1})


class Move(NamedTuple):
    """A run of three steps in one layout and three in another."""

    family_run: str
    before: LayoutOf
    after: LayoutOf
    precision: str = "fp32"
    """Of both, and of the run that is compared, unless a layout has its own."""
    optimizer: str = "adamw"
    average_decay: float = 0.0
    loss_weight: float = 1.0
    tolerance: float = 1e-4
    """Of the largest entry of a tensor."""
    noise: float = 1e-9
    """What else may differ: the gradient of a key bias is zero in theory."""

    def __str__(self) -> str:
        (first, before), (second, after) = self.before, self.after
        return f"{self.unmoved}, {first} {before} to {second} {after}".replace("'", "")

    @property
    def unmoved(self) -> str:
        """Name of the same run in one layout."""
        changes = f" average {self.average_decay}" * bool(self.average_decay) + " small loss" * (self.loss_weight != 1)
        return f"{self.family_run} {self.precision} {self.optimizer}{changes}"

    @property
    def kind(self) -> OptimizerKind:
        return OPTIMIZERS[self.optimizer]._replace(averages=self.average_decay > 0)


PROGRAM = """
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

State = dict[str, torch.Tensor]
"""Last weights and moments, by ``KIND/NAME``."""


def last_states(moves: Sequence[Move], family_settings: Settings, world: World, folder: Path) -> dict[str, State]:
    """Return the last state of each move and of the same run in one layout, by ``str(move)`` and ``move.unmoved``.

    Runs of layouts with the same number of processes are started together.
    """

    def settings(run: Move, layout: LayoutOf, steps: int, output: str) -> dict[str, Any]:
        optimizer = {"name": run.optimizer, "learning_rate": 1e-3, "epsilon": 1e-3, "average_decay": run.average_decay}
        parallel = {"precision": run.precision, "threads": 1, **layout[1]}
        values = family_settings(run.family_run, parallel=parallel, optimizer=optimizer)
        objectives = {name: weight * run.loss_weight for name, weight in values["objectives"].items()}
        own = {"steps": steps, "output": str(folder / output), "objectives": objectives}
        return {**values, **own, "schedule": {"decay": "constant"}}

    first = [(move.before, settings(move, move.before, 3, str(move)), SLICES) for move in moves]
    first += [(ALONE, settings(move, ALONE, 6, move.unmoved), WHOLE) for move in moves]
    second = [(move.after, settings(move, move.after, 6, str(move)), SLICES) for move in moves]
    for phase in (first, second):
        _run_all(phase, world, folder)
    return {name: _last_state(folder / name, move.kind) for move in moves for name in (str(move), move.unmoved)}


def _run_all(runs: Iterable[tuple[LayoutOf, dict[str, Any], int]], world: World, folder: Path) -> None:
    program, file = folder / "program.py", folder / "runs.json"
    program.write_text(PROGRAM)
    by_world: dict[tuple[int, int], dict[str, tuple[dict[str, Any], int]]] = {}
    for (processes, parallel), values, slab in runs:
        by_world.setdefault((processes, parallel.get("tensor", 1)), {})[values["output"]] = values, slab
    for (processes, _), of_world in by_world.items():
        file.write_text(json.dumps(list(of_world.values())))
        world(processes, program, str(file))


def _last_state(output: Path, kind: OptimizerKind) -> State:
    folder = latest(output)
    assert folder is not None
    checkpoint, state = open_checkpoint(folder), {}
    assert checkpoint.record.step == 6
    for key in ("weights", *kind.moments):
        names = [each for each in checkpoint.record.shapes if key in ("weights", *kind.moments_of(each))]
        tensors = checkpoint.tensors(key, names)
        state.update({f"{key}/{name}": tensors.whole(name) for name in tensors.shapes})
    return state


def assert_moved(move: Move, states: dict[str, State]) -> None:
    whole, moved = states[move.unmoved], states[str(move)]
    assert whole.keys() == moved.keys()
    for name, value in whole.items():
        largest = float(value.abs().max())
        difference = float((value - moved[name]).abs().max())
        assert difference <= move.tolerance * largest + move.noise, f"{name} differs by {difference} of {largest}"
