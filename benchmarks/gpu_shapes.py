"""Training steps that ``gpu_campaign.py`` times: rows of a table, their batches, and a prediction of each."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from gpu_timing import ROOT

from sesame import configs
from sesame.data_pipeline.ragged import Ragged, boundaries
from sesame.pretrain.batch import Batch
from sesame.pretrain.config import RunConfig
from sesame.pretrain.data.packing import assemble
from sesame.pretrain.data.token_budget import TokenBudget
from sesame.pretrain.flops import attention_flops, product_flops, token_pairs
from sesame.pretrain.learner import Learner, build
from sesame.pretrain.models.family import Vocabulary


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
    """Row of ``SWITCHES`` in ``gpu_steps.py`` that is turned off, to measure what it brings."""
    padded: bool = False
    """Sequences have unequal lengths, a quarter of ``length`` or more, as in a real corpus."""
    micro_tokens: int = 0
    """``data.micro_tokens``: as many of the sequences as fit, and dummies."""


NO_DROPOUT = {"dropout": 0.0, "attention_dropout": 0.0}
# GPT-3 XL (Brown et al. 2020, table 2.1), all layers dense.
GPT_1_3B = {"layers": 24, "width": 2048, "heads": 16, "feed_forward_width": 8192, "positions": 2048, **NO_DROPOUT}
COMPILED = {"compile": True}
RECORDED = {"compile": True, "graphs": True}
FP8 = {"compile": True, "fp8": True}
LARGE = Shape("bert_large", 512, 32, changes=NO_DROPOUT)
MODERN = Shape("modern_base", 1024, 16)
GPT = Shape("gpt2_xl", 2048, 8, changes=GPT_1_3B)
# Four of the 78 layers of Turing-NLG, for their width of 4,256.
TURING = Shape("turing_nlg_17b", 1024, 8, changes={"layers": 4, **NO_DROPOUT})
BUDGET = LARGE._replace(micro_batch=96, padded=True, micro_tokens=16_384)
SHAPES: dict[str, Shape] = {
    # First what has not been measured yet.
    "BERT-large, 32 x 512, compiled, graphs": LARGE._replace(parallel=RECORDED),
    "BERT-large, 64 x 512, compiled, graphs": LARGE._replace(micro_batch=64, parallel=RECORDED),
    "ModernBERT-base, 16 x 1024, compiled, graphs": MODERN._replace(parallel=RECORDED),
    "GPT 1.3B, 8 x 2048, 50,257 rows, compiled, graphs": GPT._replace(parallel=RECORDED),
    "GPT 1.3B, 8 x 2048, 50,257 rows, compiled": GPT._replace(parallel=COMPILED),
    "GPT 1.3B, 8 x 2048, 50,257 rows": GPT,
    "GPT 1.3B, 8 x 2048, 50,257 rows, compiled, fp8": GPT._replace(parallel=FP8),
    "Turing-NLG, 4 layers, 8 x 1024, compiled": TURING._replace(parallel=COMPILED),
    "Turing-NLG, 4 layers, 8 x 1024, compiled, fp8": TURING._replace(parallel=FP8),
    "BERT-large, 32 x 512, compiled, fp8": LARGE._replace(parallel=FP8),
    "BERT-large, 32 x 512, compiled, graphs, fp8": LARGE._replace(parallel={**RECORDED, "fp8": True}),
    "BERT-large, 32 x 512, dropout 0.1, compiled, graphs": LARGE._replace(changes={}, parallel=RECORDED),
    "BERT-large, 128 x 128, compiled, graphs": LARGE._replace(length=128, micro_batch=128, parallel=RECORDED),
    "BERT-large, 32 x 512, graphs": LARGE._replace(parallel={"graphs": True}),
    "BERT-large, budget of 16,384 tokens, graphs": BUDGET._replace(parallel={"graphs": True}),
    "BERT-large, 32 x 512": LARGE,
    "BERT-large, 32 x 512, compiled": LARGE._replace(parallel=COMPILED),
    "BERT-large, 32 x 512, FlashAttention 2 first": LARGE._replace(without="cuDNN's attention first"),
    "BERT-large, budget of 16,384 tokens": BUDGET,
    "BERT-large, budget of 16,384 tokens, compiled": BUDGET._replace(parallel=COMPILED),
    "BERT-large, budget of 16,384 tokens, compiled, graphs": BUDGET._replace(parallel=RECORDED),
    "ModernBERT-base, 16 x 1024": MODERN,
    "BERT-large, 32 x 512, dropout 0.1": LARGE._replace(changes={}),
    "BERT-large, 64 x 512": LARGE._replace(micro_batch=64),
    "BERT-large, 128 x 128": LARGE._replace(length=128, micro_batch=128),
    "BERT-large, 48 rows of 128 to 512": LARGE._replace(micro_batch=48, padded=True),
    "BERT-large, 48 rows of 128 to 512, dropout 0.1": LARGE._replace(micro_batch=48, padded=True, changes={}),
    "BERT-large, 32 x 512, q, k, v one by one": LARGE._replace(without="joined products"),
    "BERT-large, 32 x 512, varlen attention": LARGE._replace(without="attention of equal lengths"),
    "BERT-large, 32 x 512, DeepSpeed's update": LARGE._replace(without="flat update"),
}


PRODUCTS, ATTENTION, BYTES = 790e12, 230e12, 3.0e12
"""Ceilings measured on an H100, a second: operations of a large bf16 product, counted operations of attention by
cuDNN's kernel (12 for each pair and entry), and bytes of a large copy."""
BYTES_OF_A_WEIGHT = 2 * 8 + 4 + 8 + 28 + 6
"""Of a step of two micro-batches: adding gradients (first 6, then 10), norm, clipping, AdamW, the bf16 copy."""
PASSES_OF_WIDTH, PASSES_OF_INNER_WIDTH = 30, 6
"""Reads and writes of [T, D] and [T, F] tensors of a block in forward and backward beside matrix products: residual
sums and norms 16, joined gradients of q, k, v 6, gradients of biases and norms 8; activation 5, its bias 1."""


FP8_PRODUCTS = 1400e12
"""Operations of a large product in fp8, a second: twice bf16's, less a tenth. An assumption."""
INPUT_BYTES, GRADIENT_BYTES = 12, 7
"""Of an entry that is rounded to fp8: read for the largest entry and for rounding, written, and turned over; inputs are
rounded again in the backward pass."""


def predicted_milliseconds(
    learner: Learner, batches: Sequence[Batch], config: RunConfig, *, fp8: bool = False
) -> float:
    """Return the time of a compiled step from its operations and bytes over the ceilings, without idle time."""
    model: Any = config.model
    width, layers = model.width, model.layers
    is_gated = getattr(model, "gated", False)
    inner = model.feed_forward_width * (2 if is_gated else 1)
    tokens = sum(batch.tokens for batch in batches)
    pairs = sum(token_pairs(batch.layout, batch.layout) for batch in batches)
    window = getattr(model, "local_window", 0)
    local_layers = layers - -(-layers // model.global_every) if window and hasattr(model, "global_every") else 0
    seen = (layers - local_layers) * pairs + local_layers * tokens * (2 * window + 1)
    products = sum(map(learner.flops, batches)) - attention_flops(width, layers * pairs)
    entries = layers * tokens * (PASSES_OF_WIDTH * width + PASSES_OF_INNER_WIDTH * inner)
    weights = sum(parameter.numel() for parameter in learner.parameters())
    seconds = products / PRODUCTS + attention_flops(width, seen) / ATTENTION
    if fp8:
        # Query, key, value, output and feed-forward layers, and the entries of their inputs and outputs.
        in_blocks = product_flops(layers * width * (4 * width + (3 if is_gated else 4) * inner // 2), tokens)
        rounded = INPUT_BYTES * (3 * width + model.feed_forward_width) + GRADIENT_BYTES * (5 * width + inner)
        seconds += in_blocks / FP8_PRODUCTS - in_blocks / PRODUCTS + layers * tokens * rounded / BYTES
    return 1e3 * (seconds + (2 * entries + BYTES_OF_A_WEIGHT * weights) / BYTES)


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
    return Ragged(values, boundaries(lengths))
