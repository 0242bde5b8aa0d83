"""The ``gpu`` tests and the benchmarks of a CUDA device, in one command of at most eight minutes.

    python benchmarks/gpu_campaign.py --output DIR [--part NAME ...] [--step NAME ...]

Writes DIR/gpu_campaign.json and DIR/gpu_campaign.md: GPU, driver, versions and date, then one section for each part. If
a part fails, its error is recorded and the next part runs.

Required packages: torch 2.11 or newer for CUDA, numba, pyarrow, sentencepiece, tokenizers, safetensors, transformers,
rich, typer, matplotlib and scikit-learn. The others can be copied to a machine without network as wheels:

    pip download --no-deps --only-binary=:all: --python-version 3.12 --platform manylinux_2_28_x86_64 \
        --platform manylinux2014_x86_64 -d wheels -c constraints.txt \
        pydantic pydantic_core annotated-types typing-inspection typing_extensions megatron-core backports.zstd
    pip wheel --no-deps -w wheels -c constraints.txt deepspeed hjson
    python -m pip install --no-index --no-deps --target site wheels/*.whl && export PYTHONPATH=site:.

Ray is not required if the tests' datasets exist: with ``SESAME_TEST_DATASETS=DIR`` tests write their datasets below DIR
and reuse those that exist. On a machine with Ray, this creates them:

    SESAME_TEST_DATASETS=DIR pytest tests/pretrain/parallel/test_recompute.py
"""

import argparse
import datetime
import importlib.metadata
import itertools
import json
import platform
import statistics
import subprocess
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch

from sesame import configs
from sesame.data_pipeline.ragged import Ragged
from sesame.pretrain.batch import Batch
from sesame.pretrain.data.packing import assemble
from sesame.pretrain.device_number import DeviceNumber
from sesame.pretrain.initialization import materialise
from sesame.pretrain.learner import Learner, build
from sesame.pretrain.models.family import Vocabulary
from sesame.pretrain.optimizers.config import OptimizerConfig
from sesame.pretrain.parallel.config import ParallelConfig
from sesame.pretrain.parallel.engine import Engine
from sesame.pretrain.parallel.mesh import Mesh

ROOT = Path(__file__).parent.parent

DENSE_BF16_TERAFLOPS = {"H100": 989.4, "H200": 989.4, "A100": 312.0, "B200": 2250.0, "L4": 121.0}
"""Part of the GPU's name -> peak of dense bf16 products, from the data sheets."""
WARM_UP, TIMED = 3, 8
"""Optimizer steps of each shape."""


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
    padded: bool = False
    """Sequences have unequal lengths, a quarter of ``length`` or more, as in a real corpus."""


NO_DROPOUT = {"dropout": 0.0, "attention_dropout": 0.0}
# GPT-3 XL (Brown et al. 2020, table 2.1), all layers dense.
GPT_1_3B = {"layers": 24, "width": 2048, "heads": 16, "feed_forward_width": 8192, "positions": 2048, **NO_DROPOUT}
SHAPES: dict[str, Shape] = {
    "BERT-large, 512": Shape("bert_large", 512, 32, changes=NO_DROPOUT),
    "BERT-large, 512, dropout 0.1": Shape("bert_large", 512, 32),
    "BERT-large, 128": Shape("bert_large", 128, 128, changes=NO_DROPOUT),
    "BERT-large, 128 to 512": Shape("bert_large", 512, 48, changes=NO_DROPOUT, padded=True),
    "ModernBERT-base, 1024": Shape("modern_base", 1024, 16),
    "GPT 1.3B, 2048": Shape("gpt2_xl", 2048, 8, changes=GPT_1_3B),
    "GPT 1.3B, 2048, padded vocabulary": Shape("gpt2_xl", 2048, 8, changes={**GPT_1_3B, "vocabulary_multiple": 64}),
}


def device_facts() -> dict[str, Any]:
    """Measure the GPU's rate of a large bf16 product and of a large copy."""
    size, kind = 8192, torch.bfloat16
    left, right = (torch.randn(size, size, device="cuda", dtype=kind) for _ in range(2))
    product = seconds(lambda: left @ right)
    source = torch.randn(2**30, device="cuda", dtype=kind)
    target = torch.empty_like(source)
    copy = seconds(lambda: target.copy_(source))
    return {
        "bf16_product_teraflops": round(2 * size**3 / product / 1e12, 1),
        "copy_terabytes_per_second": round(2 * 2 * 2**30 / copy / 1e12, 2),
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


def gpu_tests() -> dict[str, Any]:
    """Run ``pytest -m gpu`` in another process."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-m",
        "gpu",
        "-p",
        "no:cacheprovider",
        "tests/pretrain/test_gpu.py",
        "--tb=short",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.strip().splitlines() if line]
    return {"exit_code": done.returncode, "summary": lines[-1] if lines else "", "output": done.stdout[-12000:]}


def steps(names: Sequence[str], mesh: Mesh) -> dict[str, Any]:
    """Time rows of ``SHAPES``; an error, for example of memory, is recorded."""
    results: dict[str, Any] = {}
    for name in names:
        begin = time.perf_counter()
        try:
            results[name] = step_facts(SHAPES[name], mesh)
        except Exception as error:
            results[name] = {"error": f"{type(error).__name__}: {str(error).splitlines()[0]}", "at": where(error)}
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
    learner, batches = prepared(shape)
    flops = sum(learner.flops(batch) for batch in batches)
    tokens = sum(batch.tokens for batch in batches)
    parameters = sum(parameter.numel() for parameter in learner.parameters())
    initial_values(learner)
    optimizer = OptimizerConfig(learning_rate=1e-4)
    parallel = ParallelConfig(precision="bf16", zero_stage=1)
    engine = Engine(learner, optimizer, parallel, mesh, (shape.micro_batch, shape.accumulation))
    torch.cuda.reset_peak_memory_stats()
    batches = [batch.to(mesh.device) for batch in batches]

    def step() -> DeviceNumber:
        for batch in batches:
            engine.accumulate(batch)
        return engine.step(1e-4)

    norms = [step() for _ in range(WARM_UP)]
    step_seconds = seconds(step, TIMED)
    gpu = torch.cuda.get_device_name()
    peak = next((teraflops for name, teraflops in DENSE_BF16_TERAFLOPS.items() if name in gpu), None)
    rate = flops / step_seconds / 1e12
    return {
        "parameters": parameters,
        "tokens_in_a_step": tokens,
        "milliseconds": round(step_seconds * 1e3, 2),
        "tokens_per_second": round(tokens / step_seconds),
        "model_teraflops": round(rate, 1),
        "model_flops_use": round(rate / peak, 4) if peak else None,
        "peak_memory_gigabytes": round(torch.cuda.max_memory_allocated() / 1e9, 2),
        "finite": bool(np.isfinite([float(norm) for norm in norms]).all()),
        **traced(step),
    }


def prepared(shape: Shape) -> tuple[Learner, list[Batch]]:
    """Return the learner on the meta device, and batches of random tokens."""
    from sesame.pretrain.config import RunConfig

    path = ROOT / "configs" / "pretrain" / f"{shape.run}.toml"
    config = configs.load(path, RunConfig, [f"model.{key}={json.dumps(value)}" for key, value in shape.changes.items()])
    size = 30_522 if config.model.family == "bert" else 50_257
    learner = build(config.model, config.objectives, Vocabulary(size))
    generator = np.random.default_rng(0)
    return learner, [random_batch(shape, size, learner.reads, generator) for _ in range(shape.accumulation)]


def random_batch(shape: Shape, vocabulary: int, reads: tuple[str, ...], generator: np.random.Generator) -> Batch:
    """Return sequences of random tokens, 15 % of them masked if the objectives read masks."""
    rows = shape.micro_batch
    shortest = shape.length // 4 if shape.padded else shape.length
    lengths = np.sort(generator.integers(shortest, shape.length, rows, endpoint=True))
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
    return assemble(columns, reads, {"tokens": float(lengths.sum()), **{k: float(v) for k, v in labels.items()}})


def ragged(values: np.ndarray, lengths: np.ndarray) -> Ragged:
    return Ragged(values, np.concatenate([[0], np.cumsum(lengths)]))


def initial_values(learner: Learner) -> None:
    """Give the learner small random weights on the device."""

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
    kernels = [row for row in averages if str(row.device_type).endswith("CUDA")]
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


def versions() -> dict[str, str]:
    installed = {}
    for name in ("torch", "deepspeed", "megatron-core", "transformers", "triton", "numpy"):
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            installed[name] = "absent"
    return {"python": platform.python_version(), "cuda": str(torch.version.cuda), **installed}


def driver() -> str:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def markdown(record: dict[str, Any]) -> str:
    """Return the record as Markdown."""
    facts = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    lines = [f"# {record['card']}, {record['date']}", "", f"Driver {record['driver']}; {facts}.", ""]
    rates = record["parts"].get("device", {})
    lines += [f"- {name.replace('_', ' ')}: {value}" for name, value in rates.items()]
    if "tests" in record["parts"]:
        lines += ["", f"`pytest -m gpu`: {record['parts']['tests'].get('summary', record['parts']['tests'])}"]
    if "steps" in record["parts"]:
        titles = ("tokens_per_second", "model_teraflops", "model_flops_use", "milliseconds", "kernel_launches")
        lines += ["", "| step | " + " | ".join(titles) + " |", "|---" * (len(titles) + 1) + "|"]
        for name, row in record["parts"]["steps"].items():
            cells = [row["error"]] if "error" in row else [f"{row[title]:,}" for title in titles]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--part", action="append", choices=("device", "tests", "steps"))
    parser.add_argument("--step", action="append", choices=tuple(SHAPES), help="a row of the part 'steps'")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("gpu_campaign: this machine has no CUDA device that torch can use")
    mesh = Mesh(ParallelConfig(precision="bf16"))
    parts = {"device": device_facts, "tests": gpu_tests, "steps": lambda: steps(arguments.step or list(SHAPES), mesh)}
    record: dict[str, Any] = {
        "card": torch.cuda.get_device_name(),
        "date": datetime.date.today().isoformat(),
        "driver": driver(),
        "versions": versions(),
        "parts": {},
    }
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name in arguments.part or parts:
        begin = time.perf_counter()
        try:
            record["parts"][name] = parts[name]()
        except Exception as error:
            record["parts"][name] = {"error": f"{type(error).__name__}: {error}", "at": where(error)}
        print(f"{name}: {time.perf_counter() - begin:.1f} s {json.dumps(record['parts'][name])[:1500]}", flush=True)
        (arguments.output / "gpu_campaign.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        (arguments.output / "gpu_campaign.md").write_text(markdown(record), encoding="utf-8")
    mesh.close()
    print((arguments.output / "gpu_campaign.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
