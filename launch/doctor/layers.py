"""Speed of a model's layers on a CPU, in sizes that training has.

Small products are slower than large ones, and elementwise work is faster than a copy of what no cache holds, so forward
and backward passes of one layer of BERT, of some widths and lengths, are measured. Their time is explained by what the
planner counts of them (``pretrain/planning/trace.py``): the rates are those that are nearest to all of the times.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from sesame.configs.machine import IMMEASURABLE
from sesame.launch.doctor import training
from sesame.launch.doctor.check import Answer, Verdict
from sesame.launch.doctor.context import Context, device

PRECISIONS = ("fp32", "bf16")


class Sample(NamedTuple):
    """Sizes of a layer and its batch."""

    width: int
    tokens: int
    """Of the longest sequence."""
    sequences: int
    vocabulary: int = 2048
    is_even: bool = True
    """Whether all sequences have the same length, or any up to the longest, which are padded in groups."""


SAMPLES = (
    Sample(64, 16, 4),
    Sample(64, 128, 16),
    Sample(128, 64, 32),
    Sample(128, 48, 32, is_even=False),
    Sample(256, 64, 8, is_even=False),
    Sample(256, 128, 8, 8192),
    Sample(512, 32, 16),
    Sample(512, 64, 32),
    Sample(768, 128, 4),
)
ACTIVATIONS: tuple[tuple[str, dict[str, str]], ...] = (("relu", {}), ("gelu", {}), ("gelu", {"approximate": "tanh"}))
"""Of samples without products: names in ``torch.nn.functional``, and options."""
NORM_TOKENS, NORM_WIDTH = 2048, 512
NEW = Sample(320, 48, 16)
"""Measured in sizes that were not computed before."""
SHOWN = (
    ("flops", "products", 1e12, 2, "TFLOP/s"),
    ("operand_bandwidth", "their operands", 1e9, 1, "GB/s"),
    ("bandwidth", "other work", 1e9, 1, "GB/s"),
)
"""Rate, its title, size of the unit, decimals, unit."""
REPEATED, QUICK_REPEATED = 9, 4
LEAST_SECONDS = 0.02
"""Shorter samples are repeated more often, within this time."""
Clock = Callable[[], float]


def measure(context: Context) -> dict[str, Any]:
    """Rates by precision (``machine.Layers``); none on a GPU, whose large products are like those of the training."""
    if device(context).type != "cpu":
        return {}
    import torch

    torch.set_num_threads(context.cores)
    repeated = QUICK_REPEATED if context.quick else REPEATED
    return {precision: rates(precision, repeated, time.perf_counter) for precision in PRECISIONS}


def rates(precision: str, repeated: int, clock: Clock) -> dict[str, float]:
    """Measure all samples and return the rates that explain their times.

    Args:
        clock: seconds; a test measures processor time.
    """
    import numpy as np
    from scipy.optimize import nnls

    counts, seconds = [], []
    # The last ones are without products, whose operands are nearly in proportion to what the rest of a layer moves.
    measured = [
        *(partial(_layer, sample) for sample in SAMPLES),
        *(partial(_elementwise, *each) for each in ACTIVATIONS),
    ]
    for make in measured:
        learner, batch, counted = make(precision)
        counts.append((counted.flops, counted.operands, counted.moved, counted.evaluated, counted.operations))
        seconds.append(_seconds(learner, batch, repeated, clock))
    # Relative errors count, so each row is divided by its time.
    shares = np.array(counts) / np.array(seconds)[:, None]
    scale = shares.max(axis=0)
    costs = nnls(shares / scale, np.ones(len(shares)))[0] / scale
    per_flop, per_operand_byte, per_moved_byte, per_function, per_operation = (float(cost) for cost in costs)
    return {
        "flops": _inverse(per_flop),
        "operand_bandwidth": _inverse(per_operand_byte),
        "bandwidth": _inverse(per_moved_byte),
        "function_seconds": per_function,
        "operation_seconds": per_operation,
        "new_product_seconds": _new_product_seconds(precision, repeated, clock),
    }


def _inverse(cost: float) -> float:
    """Return the rate of a cost; a cost of 0 is too small to be measured."""
    return 1 / max(cost, 1e-18)


def _layer(sample: Sample, precision: str) -> tuple[Any, Any, Any]:
    """Return a learner of one layer, a batch for it, and what the planner counts of their forward and backward pass."""
    from sesame import configs
    from sesame.pretrain.config import RunConfig
    from sesame.pretrain.learner import build
    from sesame.pretrain.models.family import Vocabulary
    from sesame.pretrain.planning.activations import DTYPES
    from sesame.pretrain.planning.split import Split
    from sesame.pretrain.planning.trace import trace

    values = training.run_config(training.Shape(1, sample.width, sample.tokens, 0, 1), Path("none"), Path("none"), 1)
    run = configs.parse(values, RunConfig, "a layer of sesame doctor")
    learner = build(run.model, run.objectives, Vocabulary(sample.vocabulary))
    batch = _batch(sample, learner.reads)
    return learner, batch, trace(learner, batch, Split(1, 1), DTYPES[precision], recompute="none")


def _elementwise(name: str, options: Mapping[str, str], precision: str) -> tuple[Any, Any, Any]:
    """Return a function of a tensor that has no product, the tensor, and what the planner counts of both passes."""
    import torch
    from torch.nn import functional

    from sesame.pretrain.planning.activations import DTYPES
    from sesame.pretrain.planning.trace import LiveTensors

    states = torch.zeros(NORM_TOKENS, NORM_WIDTH, dtype=DTYPES[precision], requires_grad=True)

    def run(states: Any) -> tuple[Any]:
        normed = functional.layer_norm(states, (NORM_WIDTH,))
        return ((states + getattr(functional, name)(normed, **options)).sum(),)

    with LiveTensors(iter([states])) as counted:
        run(states)[0].backward()
    return run, states, counted


def _batch(sample: Sample, reads: Sequence[str]) -> Any:
    from sesame.data_pipeline.dataset.synthetic import MASKED
    from sesame.pretrain.planning.rows import Rows, shape_batch

    lengths = () if sample.is_even else tuple(range(2, sample.tokens + 1))
    rows = Rows(sample.tokens, round(MASKED * sample.tokens), "a layer of sesame doctor", lengths)
    return shape_batch(rows, sample.sequences, reads)


def _seconds(learner: Any, batch: Any, repeated: int, clock: Clock) -> float:
    """Median time of a pass, after one that is not counted."""
    _once(learner, batch, clock)
    times: list[float] = []
    while len(times) < repeated or sum(times) < LEAST_SECONDS:
        times.append(_once(learner, batch, clock))
    return median(times)


def _once(learner: Any, batch: Any, clock: Clock) -> float:
    begin = clock()
    learner(batch)[0].backward()
    return clock() - begin


def _new_product_seconds(precision: str, repeated: int, clock: Clock) -> float:
    """By how much longer each product takes when its size is new: oneDNN generates code for each size."""
    learner, _, counted = _layer(NEW, precision)
    more = []
    for number in range(repeated):
        batch = _batch(NEW._replace(tokens=NEW.tokens - 1 - number), learner.reads)
        more.append(_once(learner, batch, clock) - _once(learner, batch, clock))
    return max(0.0, median(more)) / counted.product_shapes


def judge(answers: Sequence[Answer]) -> Verdict:
    if not answers[0].value:
        return Verdict("not needed on a GPU")
    return Verdict("; ".join(_shown(name, answers[0].value[name]) for name in PRECISIONS))


def _shown(name: str, rates: Mapping[str, float]) -> str:
    shown = [
        f"{what} {rates[key] / size:,.{digits}f} {unit}"
        for key, what, size, digits, unit in SHOWN
        if rates[key] < IMMEASURABLE
    ]
    new = f"{rates['new_product_seconds'] * 1e3:.1f} ms for a product of a new size"
    return f"{name}: {', '.join([*shown, new])}"
