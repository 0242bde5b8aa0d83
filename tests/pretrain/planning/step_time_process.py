"""One process that measures itself as ``sesame doctor`` does, and the steps of some runs; in processor time."""

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from sesame import configs
from sesame.data_pipeline.dataset import synthetic
from sesame.launch.doctor import layers
from sesame.launch.doctor.training import SHAPES, run_config
from sesame.pretrain.config import RunConfig
from sesame.pretrain.parallel.mesh import Mesh
from sesame.pretrain.train import Run

REPEATED = 7
WARM_UP = {"fp32": 1, "bf16": 24}
"""Steps before those that are measured; in bf16 the sizes of products have to have come up (``repeated_sizes.py``)."""
SIDE, COPIED = 1024, 2**25
"""Rows of the square matrices, entries of the copied tensor."""


def main(cases: str, target: str, precision: str) -> None:
    torch.set_num_threads(1)
    runs = json.loads(Path(cases).read_text())
    products = {name: _product(getattr(torch, dtype)) for name, dtype in (("fp32", "float32"), ("bf16", "bfloat16"))}
    with TemporaryDirectory() as folder:
        shape = SHAPES["cpu"]
        synthetic.write(Path(folder), shape.vocabulary, shape.positions)
        values = run_config(shape, Path(folder), Path(folder) / "run", 1)
        values["parallel"] = {"precision": precision, "threads": 1}
        test = _step(values)
    tokens = shape.batch * shape.positions / test
    device = {
        "name": "one core",
        "type": "cpu",
        "memory_bytes": 2**33,
        "products": products,
        "memory_bandwidth": _copy(),
        "cores": 1,
        "layers": {precision: layers.rates(precision, layers.REPEATED, time.process_time)},
    }
    training = {"tokens_per_second": tokens, "flops_per_second": 1.0, "precision": precision}
    machine = {"format": 1, "devices": [device], "reduction_bandwidth": None, "training": training}
    seconds = {name: _step(values) for name, values in runs.items()}
    Path(target).write_text(json.dumps({"machine": machine, "seconds": seconds}))


def _step(values: dict[str, Any]) -> float:
    config = configs.parse(values, RunConfig, "the test's run")
    mesh = Mesh(config.parallel)
    run = Run(config, mesh)
    for _ in range(WARM_UP[config.parallel.precision]):
        run.train_step()
    seconds = _seconds(run.train_step)
    run.close()
    mesh.close()
    return seconds


def _product(dtype: torch.dtype) -> float:
    left, right = torch.randn(SIDE, SIDE).to(dtype), torch.randn(SIDE, SIDE).to(dtype)
    return 2 * SIDE**3 / _seconds(lambda: left @ right)


def _copy() -> float:
    source, copied = torch.zeros(COPIED), torch.zeros(COPIED)
    return 8 * COPIED / _seconds(lambda: copied.copy_(source))


def _seconds(work: Callable[[], Any]) -> float:
    times = []
    for _ in range(REPEATED):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return statistics.median(times)


if __name__ == "__main__":
    main(*sys.argv[1:])
