"""One process of a layout: train a few steps; rank 0 saves losses, norms, gradients, weights and their averages."""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from sesame import configs
from sesame.pretrain.config import RunConfig
from sesame.pretrain.layers.fp8 import fp8_linear
from sesame.pretrain.optimizers import AVERAGE
from sesame.pretrain.parallel import fp8
from sesame.pretrain.parallel.mesh import Mesh
from sesame.pretrain.train import Run


def main(cases: str, steps: str) -> None:
    """Run each case of ``cases``, a JSON file of [settings, target] pairs."""
    for settings, target in json.loads(Path(cases).read_text()):
        record(configs.parse(settings, RunConfig, "the test's run"), Path(target), int(steps))


def record(config: RunConfig, target: Path, steps: int) -> None:
    mesh, products = Mesh(config.parallel), Counter[str]()
    fp8.fp8_linear = lambda *operands: products.update(["fp8"]) or fp8_linear(*operands)
    run = Run(config, mesh)
    recorded: dict[str, torch.Tensor] = {}
    engine_step = run.engine.step

    def step(*arguments: Any) -> Any:
        gradients = run.engine.full_gradients()
        recorded.update({f"{run.step}/gradient/{name}": value.clone() for name, value in gradients.items()})
        return engine_step(*arguments)

    run.engine.step = step  # type: ignore[method-assign]
    for number in range(steps):
        losses, norm, *_ = run.train_step()
        for name, loss in losses.items():
            mean = mesh.sum_over_data(loss.detach().clone().double()) / mesh.data
            recorded[f"{number}/loss/{name}"] = mean.reshape(1)
        recorded[f"{number}/norm/all"] = torch.tensor([float(norm)], dtype=torch.float64)
        kinds: dict[str, str | None] = {"weight": None, **({AVERAGE: AVERAGE} if run.kind.averages else {})}
        for kind, key in kinds.items():
            recorded.update({f"{number}/{kind}/{name}": value for name, value in state(run, key).items()})
    layers = [part for part in run.learner.modules() if getattr(part, "product", None) is fp8.fp8_linear]
    assert bool(layers) == config.parallel.fp8 and products["fp8"] >= steps * len(layers)
    if mesh.is_rank_zero:
        save_file({name: value.contiguous() for name, value in recorded.items()}, target)
    run.close()
    # A process that exits while others still run collectives can abort in its background threads.
    mesh.barrier()
    mesh.close()


def state(run: Run, key: str | None) -> dict[str, torch.Tensor]:
    """Return the whole master weights, or a moment, by name, from the slices of all processes; a collective."""
    local = [(part.name, part.first, part.rows.clone()) for part in run.engine.state(key)]
    slices: dict[str, dict[int, torch.Tensor]] = {}
    for name, first, rows in (part for parts in run.mesh.gather_objects(local) for part in parts):
        slices.setdefault(name, {})[first] = rows
    return {name: torch.cat([parts[first] for first in sorted(parts)]) for name, parts in slices.items()}


if __name__ == "__main__":
    main(*sys.argv[1:])
