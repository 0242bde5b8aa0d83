"""Gradients of each micro-batch of a step, before they are summed over micro-batches and processes."""

from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Tensor

from sesame.pretrain.batch import Batch
from sesame.pretrain.parallel.engine import Engine
from sesame.pretrain.parallel.mesh import Mesh
from sesame.pretrain.watch.losses import gather_by_rank
from sesame.pretrain.watch.place import Gradients


def gradients_again(
    engine: Engine, micro_batches: Iterable[Batch], mesh: Mesh, seed: Callable[[int], None]
) -> Gradients:
    """Compute the gradients of a step whose update was refused again, and discard them; a collective.

    Args:
        micro_batches: of this process.
        seed: seeds the dropout of a micro-batch by its number.
    """
    squares: dict[str, Tensor] = {}
    hooks = [
        parameter.register_hook(partial(_note, squares, name))
        for name, parameter in engine.parameters.items()
        if parameter.requires_grad
    ]
    totals, broken = [], None
    try:
        for number, batch in enumerate(micro_batches):
            squares.clear()
            seed(number)
            engine.accumulate(batch.to(mesh.device))
            totals.append(torch.stack(list(squares.values())).sum())
            broken = broken or next((name for name, square in squares.items() if not square.isfinite()), None)
    finally:
        for hook in hooks:
            hook.remove()
    engine.step(0.0, lambda norm: False)
    sums = mesh.sum_over_tensor(torch.stack(totals))
    parameter = next((name for name in mesh.gather_objects(broken) if name is not None), None)
    return Gradients(gather_by_rank(sums, mesh).tensor().sqrt().double().numpy(), parameter)


def _note(squares: dict[str, Tensor], name: str, gradient: Tensor) -> None:
    squares[name] = gradient.detach().float().square().sum()
