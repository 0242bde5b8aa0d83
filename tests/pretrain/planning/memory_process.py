"""One process of a run whose memory is measured: rank 0 writes the peak of all tensors that torch allocates in a step.

torch's profiler reports every allocation and release of the CPU allocator from the start of the run on. Reserved memory
that is never written is counted, as on a GPU. The median of some steps is taken: threads of gloo sometimes release a
tensor late.
"""

import bisect
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from sesame import configs
from sesame.pretrain.config import RunConfig
from sesame.pretrain.parallel.mesh import Mesh
from sesame.pretrain.train import Run

STEPS = 5
BUCKET_BYTES = 900_000_000
"""Larger allocations are DeepSpeed's buckets, beside which nothing else would be seen."""


def main(settings: str, target: str) -> None:
    """Measure the run of ``settings``, a JSON file."""
    peaks = measure(configs.parse(json.loads(Path(settings).read_text()), RunConfig, settings))
    if torch.distributed.get_rank() == 0:
        Path(target).write_text(json.dumps(peaks))


def measure(config: RunConfig) -> dict[str, float]:
    """Train a few steps and return the peak of one, in bytes, without buckets; and the bytes of the largest bucket."""
    mesh, begins = Mesh(config.parallel), []
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run = Run(config, mesh)
        for _ in range(STEPS):
            begins.append(time.time_ns())
            run.train_step()
    results = profiler.profiler
    assert results is not None and results.kineto_results is not None
    events: list[Any] = [each for each in results.kineto_results.events() if each.name() == "[memory]"]
    now = bucket = 0
    peaks = [0] * (STEPS + 1)
    for nanoseconds, size in sorted((each.start_ns(), each.nbytes()) for each in events):
        if abs(size) > BUCKET_BYTES:
            bucket = max(bucket, size)
            continue
        now += size
        step = bisect.bisect(begins, nanoseconds)
        peaks[step] = max(peaks[step], now)
    run.close()
    mesh.barrier()
    mesh.close()
    return {"peak": statistics.median(peaks[1:]), "bucket": bucket}


if __name__ == "__main__":
    main(*sys.argv[1:])
