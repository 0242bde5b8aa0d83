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

SUMS = ("all_reduce", "reduce", "reduce_scatter", "reduce_scatter_tensor", "reduce_scatter_single")
counted: Counter[str] = Counter()


def counting(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    def collective(*arguments: Any, **named: Any) -> Any:
        # The last tensors are what a process sends; a reduce-scatter's first one is what it receives.
        values = arguments[0] if "scatter" not in name else named.get("input", named.get("input_list", arguments[1:2]))
        for value in tree_leaves(values):
            if isinstance(value, torch.Tensor):
                counted[str(value.dtype).removeprefix("torch.")] += value.numel() * value.element_size()
        return function(*arguments, **named)

    return collective


def main(cases: str) -> None:
    """Run each case of ``cases``, a JSON file of settings."""
    # Before DeepSpeed is imported, which keeps some of them.
    for name in SUMS:
        if hasattr(torch.distributed, name):
            setattr(torch.distributed, name, counting(getattr(torch.distributed, name), name))
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
