"""Training steps that ``gpu_campaign.py`` times: rows of a table, a prediction of each, and the measurement."""

import contextlib
import gc
import itertools
import json
import statistics
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch

from sesame import configs
from sesame.data_pipeline.ragged import Ragged
from sesame.pretrain.batch import Batch
from sesame.pretrain.config import RunConfig
from sesame.pretrain.data.packing import assemble
from sesame.pretrain.data.token_budget import TokenBudget
from sesame.pretrain.device_number import DeviceNumber
from sesame.pretrain.flops import attention_flops, token_pairs
from sesame.pretrain.initialization import materialise
from sesame.pretrain.layers import attention, cuda_attention, joined_linear
from sesame.pretrain.learner import Learner, build
from sesame.pretrain.models.family import Vocabulary
from sesame.pretrain.optimizers.config import OptimizerConfig
from sesame.pretrain.parallel import engine as engines
from sesame.pretrain.parallel.compiled import compile_blocks
from sesame.pretrain.parallel.config import ParallelConfig
from sesame.pretrain.parallel.engine import Engine
from sesame.pretrain.parallel.mesh import Mesh

ROOT = Path(__file__).parent.parent

DENSE_BF16_TERAFLOPS = {"H100": 989.4, "H200": 989.4, "A100": 312.0, "B200": 2250.0, "L4": 121.0}
"""Part of the GPU's name -> peak of dense bf16 products, from the data sheets."""
WARM_UP, TIMED = 4, 8
"""Optimizer steps of each shape; graphs are recorded within the first."""


class Shape(NamedTuple):
    """A training step to time: the model of a shipped run on random tokens."""

    run: str
    """Name of a file in configs/pretrain."""
    length: int
    """Tokens of each sequence."""
    micro_batch: int
    """Sequences."""
    accumulation: int = 2
    changes: Mapping[str, Any] = MappingProxyType({})
    """Changed settings of [model]."""
    parallel: Mapping[str, Any] = MappingProxyType({})
    """Settings of [parallel] beside bf16 and ZeRO 1."""
    without: str = ""
    """Row of ``SWITCHES`` that is turned off, to measure what it brings."""
    padded: bool = False
    """Sequences have unequal lengths, a quarter of ``length`` or more, as in a real corpus."""
    micro_tokens: int = 0
    """``data.micro_tokens``: as many of the sequences as fit, and dummies."""


NO_DROPOUT = {"dropout": 0.0, "attention_dropout": 0.0}
# GPT-3 XL (Brown et al. 2020, table 2.1), all layers dense.
GPT_1_3B = {"layers": 24, "width": 2048, "heads": 16, "feed_forward_width": 8192, "positions": 2048, **NO_DROPOUT}
COMPILED = {"compile": True}
RECORDED = {"compile": True, "graphs": True}
LARGE = Shape("bert_large", 512, 32, changes=NO_DROPOUT)
MODERN = Shape("modern_base", 1024, 16)
GPT = Shape("gpt2_xl", 2048, 8, changes=GPT_1_3B)
BUDGET = LARGE._replace(micro_batch=96, padded=True, micro_tokens=16_384)
SHAPES: dict[str, Shape] = {
    # First what has not been measured yet.
    "BERT-large, budget of 16,384 tokens": BUDGET,
    "BERT-large, budget of 16,384 tokens, compiled": BUDGET._replace(parallel=COMPILED),
    "BERT-large, budget of 16,384 tokens, graphs": BUDGET._replace(parallel={"graphs": True}),
    "BERT-large, budget of 16,384 tokens, compiled, graphs": BUDGET._replace(parallel=RECORDED),
    "BERT-large, 32 x 512, cuDNN first": LARGE._replace(without="FlashAttention 2 first"),
    "BERT-large, 32 x 512": LARGE,
    "BERT-large, 32 x 512, compiled": LARGE._replace(parallel=COMPILED),
    "BERT-large, 32 x 512, dropout 0.1": LARGE._replace(changes={}),
    "BERT-large, 64 x 512": LARGE._replace(micro_batch=64),
    "BERT-large, 128 x 128": LARGE._replace(length=128, micro_batch=128),
    "BERT-large, 48 rows of 128 to 512": LARGE._replace(micro_batch=48, padded=True),
    "BERT-large, 48 rows of 128 to 512, dropout 0.1": LARGE._replace(micro_batch=48, padded=True, changes={}),
    "ModernBERT-base, 16 x 1024": MODERN,
    "GPT 1.3B, 8 x 2048, 50,257 rows": GPT,
    "GPT 1.3B, 8 x 2048, 50,257 rows, compiled": GPT._replace(parallel=COMPILED),
    "BERT-large, 32 x 512, q, k, v one by one": LARGE._replace(without="joined products"),
    "BERT-large, 32 x 512, varlen attention": LARGE._replace(without="attention of equal lengths"),
    "BERT-large, 32 x 512, DeepSpeed's update": LARGE._replace(without="flat update"),
    # Last, because a device is not usable after a graph that failed.
    "BERT-large, 32 x 512, graphs": LARGE._replace(parallel={"graphs": True}),
    "BERT-large, 32 x 512, compiled, graphs": LARGE._replace(parallel=RECORDED),
    "ModernBERT-base, 16 x 1024, compiled, graphs": MODERN._replace(parallel=RECORDED),
    "BERT-large, 32 x 512, dropout 0.1, compiled, graphs": LARGE._replace(changes={}, parallel=RECORDED),
    "BERT-large, 128 x 128, compiled, graphs": LARGE._replace(length=128, micro_batch=128, parallel=RECORDED),
    "BERT-large, 64 x 512, compiled, graphs": LARGE._replace(micro_batch=64, parallel=RECORDED),
}


def seconds(function: Callable[[], Any], times: int = 10) -> float:
    """Return the median seconds of ``function`` on the device."""
    for _ in range(3):
        function()
    events = [torch.cuda.Event(enable_timing=True) for _ in range(times + 1)]
    events[0].record()
    for event in events[1:]:
        function()
        event.record()
    torch.cuda.synchronize()
    return statistics.median(a.elapsed_time(b) / 1e3 for a, b in itertools.pairwise(events))


PRODUCTS, ATTENTION, BYTES = 790e12, 230e12, 3.0e12
"""Ceilings measured on an H100, a second: operations of a large bf16 product, counted operations of attention by
cuDNN's kernel (12 for each pair and entry), and bytes of a large copy."""
BYTES_OF_A_WEIGHT = 2 * 8 + 4 + 8 + 28 + 6
"""Of a step of two micro-batches: adding gradients (first 6, then 10), norm, clipping, AdamW, the bf16 copy."""
PASSES_OF_WIDTH, PASSES_OF_INNER_WIDTH = 30, 6
"""Reads and writes of [T, D] and [T, F] tensors of a block in forward and backward beside matrix products: residual
sums and norms 16, joined gradients of q, k, v 6, gradients of biases and norms 8; activation 5, its bias 1."""


def predicted_milliseconds(learner: Learner, batches: Sequence[Batch], config: RunConfig) -> float:
    """Return the time of a compiled step from its operations and bytes over the ceilings, without idle time."""
    model: Any = config.model
    width, layers = model.width, model.layers
    inner = model.feed_forward_width * (2 if getattr(model, "gated", False) else 1)
    tokens = sum(batch.tokens for batch in batches)
    pairs = sum(token_pairs(batch.layout, batch.layout) for batch in batches)
    window = getattr(model, "local_window", 0)
    local_layers = layers - -(-layers // model.global_every) if window and hasattr(model, "global_every") else 0
    seen = (layers - local_layers) * pairs + local_layers * tokens * (2 * window + 1)
    products = sum(map(learner.flops, batches)) - attention_flops(width, layers * pairs)
    entries = layers * tokens * (PASSES_OF_WIDTH * width + PASSES_OF_INNER_WIDTH * inner)
    weights = sum(parameter.numel() for parameter in learner.parameters())
    seconds = products / PRODUCTS + attention_flops(width, seen) / ATTENTION
    return 1e3 * (seconds + (2 * entries + BYTES_OF_A_WEIGHT * weights) / BYTES)


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
    "FlashAttention 2 first": (cuda_attention, "FLASH_UP_TO", 0),
    "flat update": (engines, "FlatUpdate", lambda *_: None),
}
"""Name -> (module, attribute, value that turns it off), for measurements of what each brings."""


def steps(names: Sequence[str], mesh: Mesh, deadline: float) -> dict[str, Any]:
    """Time rows of ``SHAPES``; an error, for example of memory, is recorded.

    Args:
        deadline: of ``time.perf_counter``, after which no row is begun.
    """
    results: dict[str, Any] = {}
    for name in names:
        begin = time.perf_counter()
        try:
            if begin > deadline:
                raise TimeoutError("not begun, because the time is up")
            with switched_off(SHAPES[name].without):
                results[name] = step_facts(SHAPES[name], mesh)
        except Exception as error:
            results[name] = {"error": f"{type(error).__name__}: {str(error).splitlines()[0]}", "at": where(error)}
        gc.collect()
        torch.cuda.empty_cache()
        results[name]["measured_in_seconds"] = round(time.perf_counter() - begin, 1)
        print(name, json.dumps(results[name]), flush=True)
    return results


def where(error: Exception) -> str:
    """Return the innermost lines of this project in the traceback of ``error``."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if str(ROOT) in frame.filename]
    return " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames[-3:]))


def step_facts(shape: Shape, mesh: Mesh) -> dict[str, Any]:
    """Measure tokens per second, model-FLOPs utilization, memory, kernel launches and synchronizations of a step."""
    learner, batches, config = prepared(shape)
    flops, tokens = sum(map(learner.flops, batches)), sum(batch.tokens for batch in batches)
    predicted = predicted_milliseconds(learner, batches, config)
    initial_values(learner)
    parallel = ParallelConfig(precision="bf16", zero_stage=1, **shape.parallel)
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


def prepared(shape: Shape) -> tuple[Learner, list[Batch], RunConfig]:
    """Return the learner on the meta device, batches of random tokens, and the run."""
    path = ROOT / "configs" / "pretrain" / f"{shape.run}.toml"
    config = configs.load(path, RunConfig, [f"model.{key}={json.dumps(value)}" for key, value in shape.changes.items()])
    size = 30_522 if config.model.family == "bert" else 50_257
    learner = build(config.model, config.objectives, Vocabulary(size))
    generator = np.random.default_rng(0)
    return learner, [random_batch(shape, size, learner.reads, generator) for _ in range(shape.accumulation)], config


def random_batch(shape: Shape, vocabulary: int, reads: tuple[str, ...], generator: np.random.Generator) -> Batch:
    """Return sequences of random tokens, 15 % of them masked if the objectives read masks."""
    rows = shape.micro_batch
    shortest = shape.length // 4 if shape.padded else shape.length
    lengths = generator.integers(shortest, shape.length, rows, endpoint=True)
    if shape.micro_tokens:
        lengths = lengths[np.cumsum(lengths) <= shape.micro_tokens - shape.micro_tokens // shape.length]
        rows = len(lengths)
    lengths = np.sort(lengths)
    tokens = ragged(generator.integers(0, vocabulary, lengths.sum()), lengths)
    counts = np.maximum(1, (lengths * 0.15).astype(int))
    positions = [
        np.sort(generator.choice(length, count, replace=False)) for length, count in zip(lengths, counts, strict=True)
    ]
    columns: dict[str, Any] = {
        "tokens": tokens,
        "first_segment_length": lengths // 2,
        "mask_positions": ragged(np.concatenate(positions), counts),
        "mask_labels": ragged(generator.integers(0, vocabulary, counts.sum()), counts),
        "pair_labels": generator.integers(0, 2, rows),
    }
    labels = {"mask_labels": counts.sum(), "pair_labels": rows, "next_labels": lengths.sum() - rows}
    denominators = {"tokens": float(lengths.sum()), **{name: float(count) for name, count in labels.items()}}
    if not shape.micro_tokens:
        return assemble(columns, reads, denominators)
    limits = {"mask_labels": int(0.16 * shape.micro_tokens)}
    budget = TokenBudget(Path(), reads, 0, shape.micro_tokens, shape.length, shape.micro_batch, limits)
    return budget.batch(columns, denominators)


def ragged(values: np.ndarray, lengths: np.ndarray) -> Ragged:
    return Ragged(values, np.concatenate([[0], np.cumsum(lengths)]))


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
