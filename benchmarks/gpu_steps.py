"""Measurements of the training steps that ``gpu_campaign.py`` times, in a process that it starts and can end.

    python benchmarks/gpu_steps.py SECONDS NAME [NAME ...]

Prints a line ``ROW [NAME, RESULT]`` in JSON for each row of ``gpu_shapes.py``; after SECONDS it begins none.
"""

import contextlib
import gc
import json
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from gpu_shapes import SHAPES, Shape, predicted_milliseconds, prepared
from gpu_timing import seconds, where

from sesame.pretrain.device_number import DeviceNumber
from sesame.pretrain.initialization import materialise
from sesame.pretrain.layers import attention, cuda_attention, joined_linear
from sesame.pretrain.learner import Learner
from sesame.pretrain.optimizers.config import OptimizerConfig
from sesame.pretrain.parallel import engine as engines
from sesame.pretrain.parallel.compiled import compile_blocks
from sesame.pretrain.parallel.config import ParallelConfig
from sesame.pretrain.parallel.engine import Engine
from sesame.pretrain.parallel.fp8 import use_fp8
from sesame.pretrain.parallel.mesh import Mesh

DENSE_BF16_TERAFLOPS = {"H100": 989.4, "H200": 989.4, "A100": 312.0, "B200": 2250.0, "L4": 121.0}
"""Part of the GPU's name -> peak of dense bf16 products, from the data sheets."""
WARM_UP, TIMED = 4, 8
"""Optimizer steps of each shape; graphs are recorded within the first."""


@contextlib.contextmanager
def switched_off(name: str) -> Iterator[None]:
    """Turn a row of ``SWITCHES`` off."""
    if not name:
        yield
        return
    place, attribute, value = SWITCHES[name]
    before = getattr(place, attribute)
    setattr(place, attribute, value)
    try:
        yield
    finally:
        setattr(place, attribute, before)


SWITCHES: dict[str, tuple[Any, str, Any]] = {
    "joined products": (joined_linear, "JOINED_ON", set()),
    "attention of equal lengths": (attention, "equal_length_attention", cuda_attention.varlen_attention),
    "cuDNN's attention first": (cuda_attention, "FLASH_UP_TO", 512),
    "flat update": (engines, "FlatUpdate", lambda *_: None),
}
"""Name -> (module, attribute, value that turns it off), for measurements of what each brings."""


def steps(names: Sequence[str], mesh: Mesh, deadline: float) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (name, measurement) of rows of ``SHAPES``; an error, for example of memory, is one.

    Args:
        deadline: of ``time.perf_counter``, after which no row is begun.
    """
    for name in names:
        begin = time.perf_counter()
        try:
            if begin > deadline:
                raise TimeoutError("not begun, because the time is up")
            with switched_off(SHAPES[name].without):
                result = step_facts(SHAPES[name], mesh)
        except Exception as error:
            message = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            result = {"error": message, "at": where(error), "breaks_device": "CUDA error" in message}
        if not result.get("breaks_device"):
            gc.collect()
            torch.cuda.empty_cache()
        yield name, {**result, "measured_in_seconds": round(time.perf_counter() - begin, 1)}


def step_facts(shape: Shape, mesh: Mesh) -> dict[str, Any]:
    """Measure tokens per second, model-FLOPs utilization, memory, kernel launches and synchronizations of a step."""
    learner, batches, config = prepared(shape)
    flops, tokens = sum(map(learner.flops, batches)), sum(batch.tokens for batch in batches)
    parallel = ParallelConfig(precision="bf16", zero_stage=1, **shape.parallel)
    predicted = predicted_milliseconds(learner, batches, config, fp8=parallel.fp8)
    initial_values(learner)
    if parallel.fp8:
        use_fp8(learner)
    if parallel.compile:
        compile_blocks(learner, mesh.device)
    engine = Engine(learner, OptimizerConfig(learning_rate=1e-4), parallel, mesh, (shape.micro_batch, len(batches)))
    batches = [batch.to(mesh.device) for batch in batches]

    def step() -> DeviceNumber:
        for batch in batches:
            engine.accumulate(batch)
        return engine.step(1e-4)

    torch.manual_seed(1)
    norms = [round(float(step()), 3) for _ in range(WARM_UP)]
    torch.cuda.reset_peak_memory_stats()
    step_seconds = seconds(step, TIMED)
    facts = {
        "parameters": sum(parameter.numel() for parameter in engine.parameters.values()),
        "tokens_in_a_step": tokens,
        "predicted_milliseconds": round(predicted, 1),
        "milliseconds": round(step_seconds * 1e3, 2),
        "host_milliseconds": round(host_seconds(step) * 1e3, 1),
        "tokens_per_second": round(tokens / step_seconds),
        **rates(flops, step_seconds),
        "predicted_use": rates(flops, predicted / 1e3)["model_flops_use"],
        "peak_memory_gigabytes": round(torch.cuda.max_memory_allocated() / 1e9, 2),
        "norms": norms,
        **traced(step),
    }
    engine.close()
    return facts


def rates(flops: float, seconds: float) -> dict[str, float | None]:
    """Return TFLOP/s and their share of the data sheet's peak."""
    gpu, rate = torch.cuda.get_device_name(), flops / seconds / 1e12
    peak = next((teraflops for name, teraflops in DENSE_BF16_TERAFLOPS.items() if name in gpu), None)
    return {"model_teraflops": round(rate, 1), "model_flops_use": round(rate / peak, 4) if peak else None}


def host_seconds(step: Callable[[], Any]) -> float:
    """Return how long the host takes to start a step on an idle device."""
    torch.cuda.synchronize()
    begin = time.perf_counter()
    step()
    return time.perf_counter() - begin


def initial_values(learner: Learner) -> None:
    """Give the learner small random weights on the device."""
    torch.manual_seed(0)

    def value(name: str, parameter: torch.nn.Parameter) -> torch.Tensor:
        if parameter.ndim == 1:
            return torch.full(parameter.shape, float(not name.endswith("bias")), device="cuda", dtype=torch.bfloat16)
        return torch.randn(parameter.shape, device="cuda", dtype=torch.bfloat16) * 0.02

    materialise(learner, value)
    learner.to("cuda")


def traced(step: Callable[[], Any]) -> dict[str, Any]:
    """Profile one step: kernel launches, the slowest kernels, and the lines that wait for the device."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        step()
        torch.cuda.synchronize()
    averages = profile.key_averages()
    on_device = [row for row in averages if str(row.device_type).endswith("CUDA")]
    # A range around the optimizer's kernels would count them twice.
    kernels = [row for row in on_device if not row.key.startswith("Optimizer.")]
    total = sum(row.self_device_time_total for row in kernels) or 1.0
    slowest = sorted(kernels, key=lambda row: -row.self_device_time_total)[:40]
    return {
        "kernel_launches": sum(row.count for row in averages if "LaunchKernel" in row.key),
        "busy_milliseconds": round(total / 1e3, 2),
        "synchronisations": synchronisations(step),
        "kernels": {row.key[:90]: [row.count, f"{row.self_device_time_total / 1e3:.2f} ms"] for row in slowest},
    }


def synchronisations(step: Callable[[], Any]) -> dict[str, int]:
    """Count, for each line of Python, how often ``step`` waits for the device in it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        step()
        torch.cuda.set_sync_debug_mode("default")
    lines = (f"{Path(each.filename).name}:{each.lineno}" for each in caught if "synchroniz" in str(each.message))
    return dict(Counter(lines))


def main(seconds_left: str, *names: str) -> None:
    deadline = time.perf_counter() + float(seconds_left)
    for name, result in steps(names, Mesh(ParallelConfig(precision="bf16")), deadline):
        print("ROW", json.dumps([name, result]), flush=True)
        if result.get("breaks_device"):
            # Nothing more can be computed in this process.
            sys.exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
