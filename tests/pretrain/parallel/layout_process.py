"""One process of a layout: a few training steps, whose losses, norms, gradients and weights the leader writes down."""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

import configs
from pretrain.config import RunConfig
from pretrain.parallel.mesh import Mesh
from pretrain.train import Run


def main(cases: str, steps: str) -> None:
    """``cases`` is a JSON file of [settings, target] pairs, which these processes run one after the other."""
    for settings, target in json.loads(Path(cases).read_text()):
        record(configs.parse(settings, RunConfig, "the test's run"), Path(target), int(steps))


def record(config: RunConfig, target: Path, steps: int) -> None:
    mesh = Mesh(config.parallel)
    run = Run(config, mesh)
    recorded: dict[str, torch.Tensor] = {}
    engine_step = run.engine.step

    def step(learning_rate: float) -> float:
        gradients = run.engine.full_gradients()
        recorded.update({f"{run.step}/gradient/{name}": value.clone() for name, value in gradients.items()})
        return engine_step(learning_rate)

    run.engine.step = step  # type: ignore[method-assign]
    for number in range(steps):
        losses, norm, *_ = run.train_step()
        for name, loss in losses.items():
            mean = mesh.sum_over_data(loss.detach().clone().double()) / mesh.data
            recorded[f"{number}/loss/{name}"] = mean.reshape(1)
        recorded[f"{number}/norm/all"] = torch.tensor([norm], dtype=torch.float64)
        recorded.update({f"{number}/weight/{name}": value for name, value in weights(run).items()})
    if mesh.is_rank_zero:
        save_file({name: value.contiguous() for name, value in recorded.items()}, target)
    run.close()
    # Who leaves while another still works can take its own background threads down with an abort.
    mesh.barrier()
    mesh.close()


def weights(run: Run) -> dict[str, torch.Tensor]:
    """The whole master weights by name, from what each process has of them; a collective."""
    mine = [(slab.name, slab.first, slab.rows.clone()) for slab in run.engine.state(None)]
    rows: dict[str, dict[int, torch.Tensor]] = {}
    for name, first, part in (slab for slabs in run.mesh.gather_objects(mine) for slab in slabs):
        rows.setdefault(name, {})[first] = part
    return {name: torch.cat([parts[first] for first in sorted(parts)]) for name, parts in rows.items()}


if __name__ == "__main__":
    main(*sys.argv[1:])
