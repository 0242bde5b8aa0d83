"""Memory of one process at the peak of each phase of a step, compared with training processes in
``tests/pretrain/planning/test_memory.py``. All numbers are bytes."""

from collections.abc import Callable
from typing import NamedTuple

from sesame.pretrain.parallel.matrix_plan import ENTRIES_AT_ONCE
from sesame.pretrain.planning.layout import Counts, Layout
from sesame.pretrain.planning.stages import OFFLOADED, STAGES, Case, Stage
from sesame.pretrain.planning.trace import Pass

MOST_COMPUTED = 5
"""Entries of all tensors while a square matrix is orthogonalized, for each of its own."""


def _per_weight(size: int) -> Callable[[Case], float]:
    return lambda case: size * case.owned


def _of_matrices(case: Case) -> float:
    """Their updates in fp32, and what is computed at once in the precision of products."""
    sizes = [
        _of_group(case, matrices.entries * share, matrices.computed * share)
        for matrices, share in zip(
            (case.counts.shared_matrices, case.counts.expert_matrices), case.layout.shares, strict=True
        )
    ]
    # ZeRO updates experts apart from the rest.
    return max(sizes) if case.layout.zero_stage else sum(sizes)


def _of_group(case: Case, entries: float, computed: float) -> float:
    at_once, computed = min(ENTRIES_AT_ONCE, entries), min(MOST_COMPUTED * ENTRIES_AT_ONCE, computed)
    if case.layout.tensor > 1 or case.layout.zero_stage == 3:
        # All are cut: a process receives pieces, joins them to parts and these to matrices, and sends all back.
        computed = max(3 * at_once + computed, 5 * at_once)
    return 4 * entries + case.bytes * computed


UPDATE = {
    "adamw": _per_weight(0),
    "muon": _of_matrices,
    "lamb": _per_weight(8),
    "adafactor": _per_weight(4),
    "adagrad": _per_weight(4),
    "sgd": _per_weight(4),
}
"""Optimizer -> bytes that an update needs beside its state: the update itself, and roots."""


class Memory(NamedTuple):
    """Bytes of one process at the peak of a step; on the device where nothing else is said."""

    weights: float
    gradients: float
    optimizer: float
    """fp32 copies of weights, moments, and the moving average of the weights."""
    activations: float
    """With logits, the loss and gradients that are on their way."""
    buckets: float
    """DeepSpeed's reduce buckets, which are allocated whatever the model's size."""
    communication: float
    """Gathered weights and flat copies of gradients."""
    host: float
    """Host memory that offloading takes."""
    phase: str
    """Where the peak is: backward, reduction or update."""

    @property
    def total(self) -> float:
        """Of the device."""
        return sum(value for value in self if isinstance(value, float)) - self.host


def estimate(counts: Counts, layout: Layout, traced: Pass, optimizer: str, device: str) -> Memory:
    """Return the largest memory of a process in a step; see :func:`phases`."""
    return max(phases(counts, layout, traced, optimizer, device), key=lambda memory: memory.total)


def phases(counts: Counts, layout: Layout, traced: Pass, optimizer: str, device: str) -> tuple[Memory, ...]:
    """Return the memory of a process at the peak of each phase of a step.

    Args:
        traced: one micro-batch.
        optimizer: row of ``UPDATE``.
        device: type of the device.
    """
    case = Case(counts, layout, device)
    stage = STAGES[layout.zero_stage, layout.precision] if layout.offload == "none" else OFFLOADED[layout.zero_stage]
    weights, gradients = stage.weights(case), stage.gradients(case)
    moments, update = 4.0 * counts.owned_moments(layout), UPDATE[optimizer](case)
    states, host = stage.copies(case) + moments, 0.0
    if stage.host is not None:
        states, host = 0.0, stage.host(case) + moments + update
        update = 0.0
    update += stage.update(case)
    activations, kept = _backward(case, stage, traced)
    buckets = float(stage.buckets(case))
    parts = (
        (kept, activations, buckets, stage.gathered(case), "backward"),
        (gradients, 0.0, buckets, stage.reduction(case), "reduction"),
        # Stage 3 never releases its bucket.
        (gradients, 0.0, buckets * (layout.zero_stage == 3), update, "update"),
    )
    return tuple(
        Memory(float(weights), float(gradient), float(states), activation, bucket, float(other), host, phase)
        for gradient, activation, bucket, other, phase in parts
    )


def _backward(case: Case, stage: Stage, traced: Pass) -> tuple[float, float]:
    """Return (activations, with the gradients that come and go; gradients that stay) at the peak of a backward pass."""
    if stage.releases:
        return traced.released, stage.gradients(case)
    # Stage 1 in bf16 has sums in fp32 beside the gradients in bf16.
    has_sums = case.layout.precision == "bf16"
    sums, kept = (stage.gradients(case), case.working) if has_sums else (0.0, stage.gradients(case))
    if not kept:
        return traced.released, sums
    # FlatUpdate releases the gradients in bf16 after each micro-batch.
    if case.layout.accumulation == 1 or (has_sums and case.has_whole_layers):
        return traced.kept, sums
    return traced.released, sums + kept
