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

import torch

sys.path.insert(0, str(Path(__file__).parent))

import gpu_campaign as campaign

from sesame.pretrain.layers import attention as attention_module
from sesame.pretrain.layers import cuda_attention, joined_linear
from sesame.pretrain.optimizers.config import OptimizerConfig
from sesame.pretrain.parallel import engine as engine_module
from sesame.pretrain.parallel.compiled import compile_blocks
from sesame.pretrain.parallel.config import ParallelConfig
from sesame.pretrain.parallel.engine import Engine
from sesame.pretrain.parallel.mesh import Mesh

START = time.perf_counter()
LIMIT = 105.0
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


def step(
    title: str,
    shape: campaign.Shape,
    mesh: Mesh,
    compiled: bool,
    graphs: bool = False,
    profile: bool = False,
    **changes: bool,
) -> None:
    begin = time.perf_counter()
    torch.manual_seed(0)
    with options(**changes):
        learner, batches = campaign.prepared(shape)
        flops, tokens = sum(map(learner.flops, batches)), sum(batch.tokens for batch in batches)
        campaign.initial_values(learner)
        if compiled:
            compile_blocks(learner, mesh.device)
        parallel = ParallelConfig(precision="bf16", zero_stage=1, graphs=graphs)
        engine = Engine(learner, OptimizerConfig(learning_rate=1e-4), parallel, mesh, (shape.micro_batch, 2))
        batches = [batch.to(mesh.device) for batch in batches]

        def run() -> Any:
            for batch in batches:
                engine.accumulate(batch)
            return engine.step(1e-4)

        torch.manual_seed(1)
        norms = [run() for _ in range(4)]
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
            graphs=graphs,
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
    modern = campaign.SHAPES["ModernBERT-base, 1024"]
    uneven = campaign.SHAPES["BERT-large, 128 to 512"]
    jobs: list[Any] = [
        lambda: step("512", large, mesh, False),
        lambda: step("512", large, mesh, False, True),
        lambda: step("512", large, mesh, True, True, True),
        lambda: step("ModernBERT", modern, mesh, False),
        lambda: step("ModernBERT", modern, mesh, True, True, True),
        lambda: step("dropout", campaign.SHAPES["BERT-large, 512, dropout 0.1"], mesh, True, True),
        lambda: step("uneven", uneven, mesh, False),
        lambda: step("64 x 512", large._replace(micro_batch=64), mesh, True, True),
        lambda: step("128", campaign.SHAPES["BERT-large, 128"], mesh, True, True),
        lambda: step("GPT, 50,257 rows", campaign.SHAPES["GPT 1.3B, 2048"], mesh, True, True),
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
