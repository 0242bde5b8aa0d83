"""How long a step takes: products, memory traffic, collectives, update. All times are seconds of one step.

Products of a GPU are counted by the layers' own ``flops``; those of a CPU, which pads rows of similar length to the
longest of them, and traffic by the trace (``trace.py``); collectives from the layout: an all-reduce of S bytes over n
processes moves 2 (n - 1) / n S, a reduce-scatter or an all-gather half of it (Thakur et al. 2005, section 4).
"""

from collections.abc import Mapping
from typing import NamedTuple

from sesame.pretrain.planning.gpus import Assumptions
from sesame.pretrain.planning.layout import Counts, Layout
from sesame.pretrain.planning.stages import BYTES
from sesame.pretrain.planning.trace import Pass


class Work(NamedTuple):
    """Floating-point operations of one sequence through the whole model."""

    flops: float
    """Forward and backward, as training reports them."""
    recomputed: Mapping[str, float]
    """Once more forward through what ``parallel.recompute`` names."""
    is_even: bool
    """Whether all micro-batches have the same shape."""


class StepTime(NamedTuple):
    """Parts of a step."""

    products: float
    new_products: float
    """Generating code for sizes that no earlier step had, as oneDNN does on a CPU."""
    traffic: float
    """Elementwise work, bound by the bandwidth of memory, and on a CPU by functions such as GELU."""
    overhead: float
    """Starting operations, where that takes longer than the device needs for them."""
    tensor: float
    """Collectives of tensor parallelism."""
    zero: float
    """Gradients and weights between data-parallel processes, as far as nothing overlaps with it."""
    experts: float
    """All-to-alls of expert parallelism."""
    update: float
    offload: float
    """Between devices and host memory."""

    @property
    def total(self) -> float:
        return sum(self)


def step_time(layout: Layout, counts: Counts, traced: Pass, work: Work, assumed: Assumptions) -> StepTime:
    """Estimate a step.

    Args:
        counts: weights of one process.
        traced: one micro-batch of one process.
    """
    passes, bandwidth = layout.accumulation, assumed.memory_bandwidth * 1e9 * assumed.bandwidth_efficiency
    products = _products(layout, traced, work, assumed)
    new_products = 0.0 if work.is_even else traced.product_shapes * assumed.new_product_milliseconds * 1e-3
    traffic = traced.moved / bandwidth + traced.evaluated * assumed.function_nanoseconds * 1e-9
    started = traced.operations * assumed.operation_microseconds * 1e-6
    # A GPU works while the next operations are started; a CPU does both itself.
    overhead = started if assumed.device == "cpu" else max(0.0, started - products - traffic)
    tensor = _all_reduce(traced.reduced, layout.tensor) / _link(assumed, layout.tensor, 1)
    experts = traced.exchanged / _link(assumed, layout.expert * layout.tensor, layout.tensor)
    owned, state = counts.owned(layout), counts.owned_moments(layout)
    # Gradient, weight and state are read, weight and state written, and the gradient is read for its norm.
    if layout.offload != "none":
        bandwidth = assumed.host_bandwidth * 1e9
    update = (owned * (16 + BYTES[layout.precision]) + 8 * state) / bandwidth
    computed = passes * assumed.calibration
    return StepTime(
        computed * products,
        computed * new_products,
        computed * traffic,
        computed * overhead,
        passes * tensor,
        _zero(layout, counts, assumed),
        passes * experts,
        assumed.calibration * update,
        _offload(layout, owned) / (assumed.host_link * 1e9),
    )


def _offload(layout: Layout, owned: float) -> float:
    """Bytes between device and host: gradients of each micro-batch, weights after the update or before each use."""
    weights = BYTES[layout.precision] * owned
    moved = {"none": 0.0, "optimizer": weights * (layout.accumulation + 1)}
    return moved.get(layout.offload, weights * layout.accumulation * (3 + (layout.recompute == "block")))


def _products(layout: Layout, traced: Pass, work: Work, assumed: Assumptions) -> float:
    """Time of the products of a micro-batch: that of their arithmetic, and of their operands."""
    flops = traced.flops
    if assumed.device == "cuda":
        flops = (work.flops + work.recomputed[layout.recompute]) * layout.micro_batch / layout.tensor
    moving = traced.operands / (assumed.operand_bandwidth * 1e9) if assumed.operand_bandwidth else 0.0
    in_fp8 = traced.fp8_flops / (assumed.fp8_tflops * 1e12 * assumed.fp8_efficiency) if layout.fp8 else 0.0
    return (flops - traced.fp8_flops) / assumed.flops(layout.precision) + in_fp8 + moving


def _zero(layout: Layout, counts: Counts, assumed: Assumptions) -> float:
    """Time of the collectives between data-parallel processes."""
    if layout.data == 1:
        return 0.0
    entry, passes, data = BYTES[layout.reduction], layout.accumulation, layout.data
    weights, gradients = BYTES[layout.precision] * counts.shared, entry * counts.shared
    moved = {
        0: _all_reduce(gradients, data),
        1: _all_reduce(gradients, data) + _gather(weights, data),
        2: passes * _all_reduce(gradients, data) + _gather(weights, data),
        # Weights are gathered for each pass, and once more where blocks are recomputed.
        3: passes * (_gather(gradients, data) + (2 + (layout.recompute == "block")) * _gather(weights, data)),
    }[layout.zero_stage]
    replicas = data // layout.expert
    moved += _all_reduce(entry * counts.experts, replicas) + _gather(BYTES[layout.precision] * counts.experts, replicas)
    hidden = assumed.overlap if layout.zero_stage > 1 and assumed.device == "cuda" else 0.0
    return moved / _link(assumed, layout.processes, layout.tensor) * (1 - hidden)


def _all_reduce(size: float, processes: int) -> float:
    return 2 * _gather(size, processes)


def _gather(size: float, processes: int) -> float:
    return size * (processes - 1) / processes


def _link(assumed: Assumptions, span: int, groups: int) -> float:
    """Bytes per second of a process in a collective.

    Args:
        span: devices, in order of rank, that the group extends over.
        groups: how many such groups share the network of a machine.
    """
    if span <= assumed.devices_per_node:
        return assumed.link_within * 1e9 * assumed.link_efficiency
    # A ring enters and leaves a machine once, whatever the number of its members there: it has their network together.
    members = max(1, assumed.devices_per_node // groups)
    return min(assumed.link_within, assumed.link_between * members) * 1e9 * assumed.link_efficiency
