"""Which layouts of a run fit a number of devices, how long each takes, and which one to take."""

import itertools
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple, get_args

from sesame.configs.errors import ConfigError
from sesame.pretrain.config import RunConfig
from sesame.pretrain.layers.experts import Experts
from sesame.pretrain.layers.token_split import TokenSplit
from sesame.pretrain.learner import Learner, build
from sesame.pretrain.models.family import Vocabulary
from sesame.pretrain.optimizers import optimizer_kind
from sesame.pretrain.parallel.config import ParallelConfig, Recompute
from sesame.pretrain.parallel.fp8 import UnevenSizeError, use_fp8
from sesame.pretrain.parallel.rules import refusal
from sesame.pretrain.planning.activations import Activations
from sesame.pretrain.planning.gpus import Assumptions
from sesame.pretrain.planning.layout import Counts, Layout
from sesame.pretrain.planning.memory import Memory, estimate
from sesame.pretrain.planning.rows import Rows, shape_batch
from sesame.pretrain.planning.split import IndivisibleError, Split, split_learner
from sesame.pretrain.planning.step_time import StepTime, Work, step_time
from sesame.pretrain.planning.trace import without_values

SIMILAR = 1.03
"""Layouts that take at most so many times as long as the fastest are as good; the simplest of them is taken."""

COUNTED = 64
"""Rows of different lengths whose mean number of floating-point operations is taken."""


class Plan(NamedTuple):
    """One layout, and what it needs."""

    layout: Layout
    memory: Memory
    time: StepTime

    def fits(self, assumed: Assumptions) -> bool:
        fits_host = self.memory.host <= assumed.host_gib * 2**30
        return self.memory.total <= assumed.usable_bytes and fits_host


class Planner:
    """The layouts of one run on one kind of device."""

    def __init__(self, run: RunConfig, vocabulary_size: int, rows: Rows, assumed: Assumptions):
        """
        Raises:
            ConfigError: the device or the model does not have the products that the run asks for.
        """
        self.run, self.rows, self.assumed = run, rows, assumed
        self.vocabulary = Vocabulary(vocabulary_size)
        self.activations = Activations(run.model, run.objectives, self.vocabulary, rows, assumed.device)
        self.counts = cache(self._counts)
        learner = build(run.model, run.objectives, self.vocabulary)
        whole = Counts.of(learner, optimizer_kind(run.optimizer))
        self.parameters, self.moments = whole.all, whole.shared_moments
        self.experts = max((part.experts for part in learner.modules() if isinstance(part, Experts)), default=1)
        kinds = {"none", *(getattr(part, "recomputable", "none") for part in learner.modules())}
        if assumed.device == "cuda":
            # Fused kernels keep no scores that recomputation could save.
            kinds.discard("attention")
        self.recomputable = [kind for kind in get_args(Recompute) if kind in kinds]
        self.has_stacks = any(isinstance(part, TokenSplit) for part in learner.modules())
        self.work = _work(learner, rows)
        if run.parallel.fp8:
            self._check_fp8(learner)

    @property
    def precision(self) -> str:
        """The precision of the run on the device."""
        configured = self.run.parallel.precision
        return configured if configured != "auto" else "bf16" if self.assumed.bf16_tflops else "fp32"

    @property
    def step_flops(self) -> float:
        """Floating-point operations of a step, without recomputation."""
        return self.work.flops * self.run.data.global_batch

    @property
    def step_tokens(self) -> int:
        return self.rows.tokens * self.run.data.global_batch

    @property
    def checkpoint_bytes(self) -> int:
        """fp32 weights, moments, and the moving average of the weights."""
        return 4 * (self.parameters + self.moments)

    def plan(self, layout: Layout, *, exact: bool = False) -> Plan:
        """Estimate one layout.

        Args:
            exact: trace this micro-batch; otherwise it is interpolated between 1 and the largest.

        Raises:
            IndivisibleError, UnevenSizeError: the model cannot be split so.
        """
        counts = self.counts(layout.tensor, layout.expert)
        if exact:
            traced = self.activations.of_sequences(layout.division, layout.micro_batch)
        else:
            traced = self.activations.of(layout.division, layout.micro_batch, self.run.data.global_batch)
        optimizer, device = self.run.optimizer.name, self.assumed.device
        memory = estimate(counts, layout, traced, optimizer, device)
        return Plan(layout, memory, step_time(layout, counts, traced, self.work, self.assumed))

    def configured(self, devices: int) -> Layout | None:
        """Return the layout of the run's file, None if the devices or the batch do not divide by it."""
        parallel, batch = self.run.parallel, self.run.data.global_batch
        data, rest = divmod(devices, parallel.tensor)
        if rest or data < 1 or data % parallel.expert or batch % data:
            return None
        share, micro_tokens = batch // data, self.run.data.micro_tokens
        micro_batch = self.run.data.micro_batch or share
        if micro_tokens:
            micro_batch = max(1, min(share, micro_tokens // self.rows.tokens))
        elif share % micro_batch:
            return None
        precision = "fp32" if parallel.zero_stage == 0 else self.precision
        return Layout(
            parallel.tensor,
            data,
            parallel.expert,
            parallel.stage_taken(precision, devices, self.assumed.device),
            parallel.recompute,
            precision,
            micro_batch,
            -(-share // micro_batch),
            parallel.sequence,
            parallel.offload,
            parallel.reduction,
            parallel.fp8,
        )

    def layouts(self, devices: int) -> Iterator[Layout]:
        """Yield the layouts of so many devices that keep the global batch: micro-batches are powers of two, the file's
        and the whole share."""
        for tensor in _powers_of_two(min(devices, self.assumed.devices_per_node)):
            data, rest = divmod(devices, tensor)
            if rest or self.run.data.global_batch % data:
                continue
            share = self.run.data.global_batch // data
            micro_batches = {size for size in _powers_of_two(share) if share % size == 0} | {share}
            if self.run.data.micro_batch and share % self.run.data.micro_batch == 0:
                micro_batches.add(self.run.data.micro_batch)
            for expert in self._expert_sizes(data):
                for stage, recompute in itertools.product(self._stages(data, expert), self.recomputable):
                    for offload, size in itertools.product(self._offloads(stage, expert), sorted(micro_batches)):
                        yield Layout(
                            tensor,
                            data,
                            expert,
                            stage,
                            recompute,
                            self.precision,
                            size,
                            share // size,
                            self._sequence(tensor),
                            offload,
                            self.run.parallel.reduction,
                            self.run.parallel.fp8,
                        )

    def plans(self, devices: int) -> list[Plan]:
        """Estimate every layout that the model can be divided into; for each with the same split only the fastest
        micro-batch that fits, or the smallest if none does."""
        best: dict[Layout, Plan] = {}
        for layout in self.layouts(devices):
            try:
                plan = self.plan(layout)
            except (IndivisibleError, UnevenSizeError):
                continue
            key = layout._replace(micro_batch=0, accumulation=0)
            known = best.get(key)
            if known is None or (plan.fits(self.assumed) and plan.time.total < known.time.total):
                best[key] = plan
        return list(best.values())

    def choose(self, plans: list[Plan]) -> Plan | None:
        """Return the simplest of the fastest that fit; None if none does."""
        fitting = [plan for plan in plans if plan.fits(self.assumed)]
        if not fitting:
            return None
        fastest = min(plan.time.total for plan in fitting)
        similar = [plan for plan in fitting if plan.time.total <= SIMILAR * fastest]
        return min(similar, key=lambda plan: (_complexity(plan.layout), plan.time.total))

    def smallest(self, most: int) -> tuple[int, list[Plan]] | None:
        """Return the smallest power of two of devices, at most ``most``, that the run fits on, and their plans."""
        for devices in _powers_of_two(most):
            plans = self.plans(devices)
            if self.choose(plans):
                return devices, plans
        return None

    def _check_fp8(self, learner: Learner) -> None:
        """Raise ConfigError if the device or the model cannot multiply in fp8."""
        if not self.assumed.fp8_tflops:
            raise ConfigError(
                "parallel.fp8: the device of this plan has no products in fp8 that Sesame uses; give another --gpu, "
                "--assume fp8_tflops=NUMBER or --set parallel.fp8=false"
            )
        family = self.run.model.family
        if not use_fp8(learner):
            raise ConfigError(f"parallel.fp8: model.family '{family}' has no Transformer blocks; remove it")

    def _counts(self, tensor: int, expert: int) -> Counts:
        learner = build(self.run.model, self.run.objectives, self.vocabulary)
        split_learner(learner, Split(tensor, expert))
        return Counts.of(learner, optimizer_kind(self.run.optimizer))

    def _expert_sizes(self, data: int) -> list[int]:
        """Return 1, the file's, and the largest that divide both experts and processes, within a machine and of all."""
        fitting = [size for size in _powers_of_two(data) if data % size == 0 and self.experts % size == 0]
        within = [size for size in fitting if size <= self.assumed.devices_per_node]
        configured = self.run.parallel.expert
        sizes = {1, max(within), max(fitting)}
        return sorted(sizes | {configured} if data % configured == self.experts % configured == 0 else sizes)

    def _sequence(self, tensor: int) -> bool:
        """Whether to divide the tokens too: with tensor parallelism that never needs more memory."""
        return tensor > 1 and self.has_stacks

    def _offloads(self, stage: int, expert: int) -> list[str]:
        """Return what can be in host memory; nothing is on a machine whose devices are its host."""
        words = ["none", "optimizer", "parameters"] if self.assumed.device == "cuda" else ["none"]
        settings = {"zero_stage": stage, "expert": expert, "precision": self.precision}
        return [word for word in words if not refusal(ParallelConfig.model_construct(**settings, offload=word))]

    def _stages(self, data: int, expert: int) -> list[int]:
        stages = [1] if data == 1 else [1, 2, 3]
        if expert > 1:
            stages = [stage for stage in stages if stage < 3]
        return [0, *stages] if self.precision == "fp32" else stages


def _complexity(layout: Layout) -> tuple[int, ...]:
    recompute = get_args(Recompute).index(layout.recompute)
    offload = ("none", "optimizer", "parameters").index(layout.offload)
    split = layout.tensor, layout.sequence, layout.expert, abs(layout.zero_stage - 1)
    return offload, recompute, *split, -layout.micro_batch


def _work(learner: Learner, rows: Rows) -> Work:
    """Return the operations of one row.

    The core of attention has all that grows with the square of a row's length.
    """
    counted = COUNTED if rows.quantiles else 1
    with without_values():
        single, double = (shape_batch(_longer(rows, times), counted, learner.reads) for times in (1, 2))
    total = learner.flops(single) / counted
    blocks, of_double = (learner.backbone.flops(batch) / counted for batch in (single, double))
    # A third of the operations are those of the forward pass.
    recomputed = {"none": 0.0, "attention": (of_double - 2 * blocks) / 2 / 3, "block": blocks / 3}
    return Work(total, recomputed, is_even=not rows.quantiles)


def _longer(rows: Rows, times: int) -> Rows:
    quantiles = tuple(times * length for length in rows.quantiles)
    return rows._replace(tokens=times * rows.tokens, predictions=times * rows.predictions, quantiles=quantiles)


def _powers_of_two(most: int) -> list[int]:
    return [2**exponent for exponent in range(most.bit_length()) if 2**exponent <= most]
