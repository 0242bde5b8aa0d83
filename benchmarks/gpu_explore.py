# ruff: noqa: E731, B023
"""Variants of BERT-large's step on a GPU, in at most 150 seconds; one JSON line each.

python benchmarks/gpu_explore.py
"""

import contextlib
import gc
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).parent))

import gpu_campaign as campaign

from sesame.pretrain.data.packing import layout
from sesame.pretrain.layers import attention as attention_module
from sesame.pretrain.layers import cuda_attention, joined_linear
from sesame.pretrain.layers.attention import Attention, AttentionPattern, grouped_attention
from sesame.pretrain.layers.style import Style
from sesame.pretrain.optimizers.config import OptimizerConfig
from sesame.pretrain.parallel import engine as engine_module
from sesame.pretrain.parallel.compiled import compile_blocks
from sesame.pretrain.parallel.config import ParallelConfig
from sesame.pretrain.parallel.engine import Engine
from sesame.pretrain.parallel.mesh import Mesh

START = time.perf_counter()
LIMIT = 128.0
EQUAL = cuda_attention.equal_length_attention
FLAT = engine_module.FlatUpdate


def say(**values: Any) -> None:
    print(json.dumps({"at": round(time.perf_counter() - START, 1), **values}), flush=True)


@contextlib.contextmanager
def options(joined: bool = True, fused: bool = True, flat: bool = True) -> Any:
    joined_linear.JOINED_ON = {"cuda"} if joined else set()
    attention_module.equal_length_attention = EQUAL if fused else cuda_attention.varlen_attention
    engine_module.FlatUpdate = FLAT if flat else (lambda *_: None)
    try:
        yield
    finally:
        joined_linear.JOINED_ON, attention_module.equal_length_attention = {"cuda"}, EQUAL
        engine_module.FlatUpdate = FLAT


def modules() -> None:
    module = Attention(1024, 16, Style()).to("cuda", torch.bfloat16)
    part = layout(np.array([512] * 32)).to(torch.device("cuda"))
    pattern = AttentionPattern(part, part)
    states = torch.randn(16384, 1024, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    upstream = torch.randn_like(states)
    parameters = [states, *module.parameters()]
    for joined in (False, True):
        for fused in (False, True):
            with options(joined, fused):
                run = lambda: torch.autograd.grad(module(states, pattern), parameters, upstream)
                say(module="attention", joined=joined, fused=fused, ms=round(campaign.seconds(run) * 1e3, 3))
    cuda_attention.PREFERRED.reverse()
    cuda_attention.PREFERRED.remove(cuda_attention.SDPBackend.MATH)
    cuda_attention.PREFERRED.remove(cuda_attention.SDPBackend.EFFICIENT_ATTENTION)
    run = lambda: torch.autograd.grad(module(states, pattern), parameters, upstream)
    say(module="attention, flash first", ms=round(campaign.seconds(run) * 1e3, 3))
    cuda_attention.PREFERRED.reverse()
    lengths = np.sort(np.random.default_rng(0).integers(128, 512, 48, endpoint=True))
    uneven = layout(lengths).to(torch.device("cuda"))
    pattern = AttentionPattern(uneven, uneven)
    heads: Any = [
        torch.randn(lengths.sum(), 16, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True) for _ in range(3)
    ]
    for name, kernel in (("grouped", grouped_attention), ("varlen", cuda_attention.varlen_attention)):
        for dropout in (0.0, 0.1):
            try:
                run = lambda: torch.autograd.grad(kernel(*heads, pattern, 0.125, dropout).sum(), heads)
                say(core=name, dropout=dropout, ms=round(campaign.seconds(run) * 1e3, 3))
            except Exception as error:
                say(core=name, dropout=dropout, error=str(error)[:300])


def projection() -> None:
    states = torch.randn(16384, 2048, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    weight = torch.randn(50257, 2048, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    upstream = torch.randn(16384, 50304, device="cuda", dtype=torch.bfloat16)
    plain = lambda: torch.autograd.grad(F.linear(states, weight), (states, weight), upstream[:, :50257])
    padded = lambda: torch.autograd.grad(F.linear(states, F.pad(weight, (0, 0, 0, 47))), (states, weight), upstream)
    say(projection="50,257 rows", ms=round(campaign.seconds(plain, 3) * 1e3, 2))
    say(projection="padded in forward", ms=round(campaign.seconds(padded, 3) * 1e3, 2))


def step(title: str, shape: campaign.Shape, mesh: Mesh, compiled: bool, profile: bool = False, **changes: bool) -> None:
    begin = time.perf_counter()
    with options(**changes):
        learner, batches = campaign.prepared(shape)
        flops, tokens = sum(map(learner.flops, batches)), sum(batch.tokens for batch in batches)
        campaign.initial_values(learner)
        if compiled:
            compile_blocks(learner, mesh.device)
        parallel = ParallelConfig(precision="bf16", zero_stage=1)
        engine = Engine(learner, OptimizerConfig(learning_rate=1e-4), parallel, mesh, (shape.micro_batch, 2))
        batches = [batch.to(mesh.device) for batch in batches]

        def run() -> Any:
            for batch in batches:
                engine.accumulate(batch)
            return engine.step(1e-4)

        norms = [run() for _ in range(3)]
        torch.cuda.reset_peak_memory_stats()
        spent = campaign.seconds(run, 6)
        torch.cuda.synchronize()
        host = time.perf_counter()
        run()
        host = time.perf_counter() - host
        torch.cuda.synchronize()
        facts: dict[str, Any] = campaign.traced(run) if profile else {}
        say(
            step=title,
            compiled=compiled,
            **changes,
            ms=round(spent * 1e3, 2),
            use=round(flops / spent / 989.4e12, 4),
            tokens_per_second=round(tokens / spent),
            host_ms=round(host * 1e3, 1),
            gigabytes=round(torch.cuda.max_memory_allocated() / 1e9, 1),
            norms=[round(float(norm), 3) for norm in norms],
            took=round(time.perf_counter() - begin, 1),
            **facts,
        )
        engine.close()


def main() -> None:
    mesh = Mesh(ParallelConfig(precision="bf16"))
    large = campaign.SHAPES["BERT-large, 512"]
    jobs: list[Any] = [
        modules,
        projection,
        lambda: step("512", large, mesh, False, True),
        lambda: step("512", large, mesh, True, True),
        lambda: step("512", large, mesh, True, flat=False),
        lambda: step("512", large, mesh, True, fused=False),
        lambda: step("512", large, mesh, True, joined=False),
        lambda: step("64 x 512", large._replace(micro_batch=64), mesh, True),
        lambda: step("dropout", campaign.SHAPES["BERT-large, 512, dropout 0.1"], mesh, True),
        lambda: step("uneven", campaign.SHAPES["BERT-large, 128 to 512"], mesh, True),
        lambda: step("ModernBERT", campaign.SHAPES["ModernBERT-base, 1024"], mesh, True, True),
        lambda: step("GPT", campaign.SHAPES["GPT 1.3B, 2048, padded vocabulary"], mesh, True, True),
    ]
    for job in jobs:
        if time.perf_counter() - START > LIMIT:
            say(stopped="out of time")
            break
        try:
            job()
        except Exception as error:
            say(error=f"{type(error).__name__}: {str(error)[:600]}", where=campaign.where(error))
        gc.collect()
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
