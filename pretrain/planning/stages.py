"""What each ZeRO stage keeps of weights, gradients and optimizer state, read from DeepSpeed's optimizers
(``bf16_optimizer.py``, ``zero/stage_1_and_2.py``, ``zero/stage3.py`` of 0.19). All numbers are bytes unless said."""

from collections.abc import Callable
from typing import NamedTuple

from sesame.pretrain.planning.layout import Counts, Layout

BUCKET = 500_000_000
"""Entries of DeepSpeed's reduce bucket, which is allocated as a whole whatever the model's size."""
LIVE = 1_000_000_000
"""Entries of weights that stage 3 keeps gathered, at most (``stage3_max_live_parameters``)."""
PREFETCHED = 50_000_000
"""Entries that it gathers ahead (``stage3_prefetch_bucket_size``)."""
BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}


class Stage(NamedTuple):
    """What a ZeRO stage keeps; in bytes where nothing else is said."""

    weights: Callable[["Case"], float]
    copies: Callable[["Case"], float]
    """fp32 copies of the weights."""
    gradients: Callable[["Case"], float]
    """Kept from one micro-batch to the next."""
    buckets: Callable[["Case"], float]
    """Reduce buckets."""
    gathered: Callable[["Case"], float]
    """Weights of other processes during the passes."""
    reduction: Callable[["Case"], float]
    """Flat copies at the end of the last backward pass, when no activation is left."""
    update: Callable[["Case"], float]
    """Additional memory while the optimizer updates."""
    releases: bool
    """Whether a gradient is released as soon as it is complete."""
    host: Callable[["Case"], float] | None = None
    """In host memory, with the update's but without moments; None: nothing, and the moments are on the device."""


class Case(NamedTuple):
    """A layout of a model on a kind of device, and sizes that several stages have."""

    counts: Counts
    layout: Layout
    device: str

    @property
    def bytes(self) -> int:
        return BYTES[self.layout.precision]

    @property
    def entries(self) -> int:
        return self.counts.all

    @property
    def owned(self) -> float:
        return self.counts.owned(self.layout)

    @property
    def overlapping(self) -> int:
        """Number of buckets: two where sums overlap with the backward pass, as the engine asks for on a GPU."""
        return 2 if self.device == "cuda" and self.layout.zero_stage == 2 else 1

    @property
    def is_reduced(self) -> bool:
        return self.layout.data > 1

    @property
    def working(self) -> int:
        """Gradients in working precision beside their fp32 sums; released at once where layers are split."""
        return self.bytes * self.entries * self.has_whole_layers

    @property
    def scratch(self) -> int:
        """Copy of the gradients that ``FlatUpdate`` sums together."""
        return self.bytes * self.counts.small * self.has_whole_layers

    @property
    def converted(self) -> int:
        """The same in fp32, which a CPU makes to add them to the sums of the micro-batches before."""
        return 4 * self.counts.small * (self.device == "cpu" and self.layout.accumulation > 1) * self.has_whole_layers

    @property
    def has_whole_layers(self) -> bool:
        return self.layout.tensor == self.layout.expert == 1

    @property
    def flat(self) -> int:
        """fp32 bytes of a bucket that is copied before it is sent."""
        return 4 * min(self.entries, BUCKET + self.counts.largest)

    @property
    def gathered(self) -> int:
        """Weights that stage 3 has gathered: those that are in use, and flat ones ahead of their use."""
        in_use = min(self.entries, LIVE + self.counts.largest)
        return self.bytes * (in_use + min(self.entries, PREFETCHED)) * self.is_reduced


STAGES: dict[tuple[int, str], Stage] = {
    (0, "fp32"): Stage(
        weights=lambda case: 4 * case.entries,
        copies=lambda case: 0,
        gradients=lambda case: 4 * case.entries,
        buckets=lambda case: 0,
        gathered=lambda case: 0,
        reduction=lambda case: case.flat * case.is_reduced,
        update=lambda case: 0,
        releases=False,
    ),
    (1, "fp32"): Stage(
        weights=lambda case: 4 * case.entries,
        copies=lambda case: 4 * case.owned,
        gradients=lambda case: 4 * case.entries,
        buckets=lambda case: 4 * BUCKET,
        gathered=lambda case: 0,
        reduction=lambda case: 4 * case.owned,
        # A flat copy beside the gradients that it is made of; those of other processes' weights are released.
        update=lambda case: 8 * case.owned - 4 * case.entries,
        releases=False,
    ),
    (1, "bf16"): Stage(
        weights=lambda case: 2 * case.entries,
        copies=lambda case: 4 * case.owned,
        gradients=lambda case: 4 * case.entries,
        buckets=lambda case: 0,
        gathered=lambda case: case.scratch,
        # The gradients are added to the sums; then a model that fits into one bucket is copied to it, and a larger one
        # is reduced in place.
        reduction=lambda case: (
            case.scratch
            + max(case.working + case.converted, 4 * case.entries * (case.is_reduced and case.entries < BUCKET))
        ),
        update=lambda case: case.scratch,
        releases=False,
    ),
    (2, "fp32"): Stage(
        weights=lambda case: 4 * case.entries,
        copies=lambda case: 4 * case.owned,
        gradients=lambda case: 4 * case.owned,
        buckets=lambda case: 4 * BUCKET * case.overlapping,
        gathered=lambda case: 0,
        reduction=lambda case: case.flat,
        update=lambda case: 4 * case.owned,
        releases=True,
    ),
    (2, "bf16"): Stage(
        weights=lambda case: 2 * case.entries,
        copies=lambda case: 4 * case.owned,
        gradients=lambda case: 4 * case.owned,
        buckets=lambda case: 2 * BUCKET * case.overlapping,
        gathered=lambda case: 0,
        # A bucket's copy in fp32, in which it is summed, and a flat one.
        reduction=lambda case: 1.5 * case.flat,
        update=lambda case: 0,
        releases=True,
    ),
    **dict.fromkeys(
        ((3, "fp32"), (3, "bf16")),
        Stage(
            weights=lambda case: case.bytes * case.owned,
            copies=lambda case: 4 * case.owned,
            gradients=lambda case: 4 * case.owned,
            buckets=lambda case: 4 * BUCKET,
            gathered=lambda case: case.gathered,
            # A flat copy, and in bf16 one in fp32 before it; the weights are no longer gathered.
            reduction=lambda case: case.flat * (1 if case.bytes == 4 else 2),
            update=lambda case: 4 * case.owned,
            releases=True,
        ),
    ),
}
"""(ZeRO stage, precision) -> what is kept."""
# Stage 1 in fp16 is computed by the class of stage 2, with buckets in fp32.
STAGES[1, "fp16"] = STAGES[2, "bf16"]._replace(buckets=lambda case: 4 * BUCKET)
STAGES[2, "fp16"], STAGES[3, "fp16"] = STAGES[2, "bf16"], STAGES[3, "bf16"]
OFFLOADED: dict[int, Stage] = {
    **dict.fromkeys(
        (1, 2),
        Stage(
            weights=lambda case: case.bytes * case.entries,
            copies=lambda case: 0,
            gradients=lambda case: 0,
            buckets=lambda case: (4 if case.layout.zero_stage == 1 else case.bytes) * BUCKET * case.overlapping,
            gathered=lambda case: 0,
            reduction=lambda case: case.flat * (1 if case.bytes == 4 else 1.5),
            update=lambda case: 0,
            releases=True,
            # fp32 weights and gradients, the new weights before they are sent, and sums over micro-batches.
            host=lambda case: (8 + case.bytes * (1 + (case.layout.accumulation > 1))) * case.owned,
        ),
    ),
    3: Stage(
        weights=lambda case: case.bytes * case.owned * (case.layout.offload == "optimizer"),
        copies=lambda case: 0,
        gradients=lambda case: 0,
        buckets=lambda case: 4 * BUCKET,
        gathered=lambda case: case.gathered,
        reduction=lambda case: case.flat * (1 if case.bytes == 4 else 2),
        update=lambda case: 0,
        releases=True,
        # fp32 weights and gradients, and sums over micro-batches; weights where they are offloaded too.
        host=lambda case: (8 + 4 + case.bytes * (case.layout.offload == "parameters")) * case.owned,
    ),
}
"""ZeRO stage -> what is kept with ``parallel.offload``."""
