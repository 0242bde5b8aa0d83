"""One process of some runs: rank 0 prints the bytes of each number format that collectives have been given."""

import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from torch.utils._pytree import tree_leaves

SENT = {
    "all_reduce": ("tensor", 0),
    "reduce": ("tensor", 0),
    "reduce_scatter": ("input_list", 1),
    "reduce_scatter_tensor": ("input", 1),
    "reduce_scatter_single": ("input", 1),
}
"""Collective that sums -> name and place of its argument that a process sends."""
counted: Counter[str] = Counter()


def with_sent_bytes(function: Callable[..., Any], name: str, place: int) -> Callable[..., Any]:
    """Return the collective, which adds the bytes of its argument to ``counted``."""

    def collective(*arguments: Any, **named: Any) -> Any:
        for tensor in tree_leaves(named[name] if name in named else arguments[place]):
            counted[str(tensor.dtype).removeprefix("torch.")] += tensor.numel() * tensor.element_size()
        return function(*arguments, **named)

    return collective


def main(cases: str) -> None:
    """Run each case of ``cases``, a JSON file of settings."""
    # Before DeepSpeed is imported, which keeps some of them.
    for collective, argument in SENT.items():
        if hasattr(torch.distributed, collective):
            setattr(torch.distributed, collective, with_sent_bytes(getattr(torch.distributed, collective), *argument))
    from sesame import configs
    from sesame.pretrain.config import RunConfig
    from sesame.pretrain.parallel.mesh import Mesh
    from sesame.pretrain.train import Run

    results = []
    for settings in json.loads(Path(cases).read_text()):
        config = configs.parse(settings, RunConfig, "the test's run")
        mesh = Mesh(config.parallel)
        run = Run(config, mesh)
        counted.clear()
        run.train_step()
        entries = sum(shape.numel() for shape in run.shapes.values())
        results.append({"entries": entries, **counted})
        run.close()
        mesh.barrier()
        mesh.close()
    if torch.distributed.get_rank() == 0:
        print("COUNTED", json.dumps(results))


if __name__ == "__main__":
    main(*sys.argv[1:])
