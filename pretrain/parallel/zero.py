"""Typed configuration -> DeepSpeed's dict -> engine; and access by parameter name to what ZeRO has cut up.

The rest of the project never sees a DeepSpeed dict. Master weights and optimizer moments are read and written here as
whole tensors under the parameter's name, whatever the ZeRO stage and the tensor-parallel split, so that a checkpoint
knows nothing of the layout that wrote it.
"""

import contextlib
import io
from collections.abc import Iterator
from typing import Any, NamedTuple

import deepspeed
import torch
from deepspeed.utils import set_z3_leaf_modules
from torch import Tensor, nn

from pretrain.interfaces import Batch
from pretrain.layers.recurrent import ProjectedLSTM
from pretrain.learner import Learner
from pretrain.optimizer import (
    OPTIMIZERS,
    OptimizerConfig,
    Segments,
    WholeParameters,
    fresh_state,
    parameter_groups,
)
from pretrain.parallel import ParallelConfig
from pretrain.parallel import tensor as tensor_parallel
from pretrain.parallel.mesh import Mesh


class Fragment(NamedTuple):
    """The piece of one parameter that this process's optimizer updates."""

    owner: Tensor
    """The flat tensor that the optimizer was given."""
    offset: int
    """Where the piece starts in ``owner``."""
    start: int
    """Where the piece starts in the flattened parameter (this process's tensor-parallel part)."""
    length: int


class Engine:
    """A learner under DeepSpeed, its optimizer state reachable by parameter name."""

    def __init__(
        self, learner: Learner, optimizer: OptimizerConfig, parallel: ParallelConfig, mesh: Mesh, batch: tuple[int, int]
    ):
        """``batch`` is (micro-batch of a process in sequences, micro-batches in a step)."""
        self.mesh, self.stage, self.kind = mesh, parallel.zero_stage, optimizer.name
        self.lone_bf16 = parallel.zero_stage == 1 and parallel.precision == "bf16"
        self.clipping = optimizer.gradient_clipping
        self.pending = False
        groups = apart(parameter_groups(learner, optimizer.weight_decay), mesh)
        if self.stage == 3:
            _keep_recurrent_layers_whole(learner)
        with contextlib.redirect_stdout(io.StringIO()):  # It prints a memory report for each parameter group.
            started: Any = deepspeed.initialize(
                model=learner,
                optimizer=OPTIMIZERS[optimizer.name].make(groups, optimizer),
                config=deepspeed_config(optimizer, parallel, mesh, batch),
                mpu=mesh if mesh.tensor > 1 else None,
                dist_init_required=False,
            )
        self.deepspeed, self.wrapped = started[:2]
        if mesh.data == 1 and self.lone_bf16:
            # With nobody to share them DeepSpeed would still copy all gradients twice: a fifth of a small step.
            self.deepspeed.enable_backward_allreduce = False
        self.learner = learner
        self.parameters = dict(learner.named_parameters())
        self.inner: torch.optim.Optimizer = getattr(self.wrapped, "optimizer", self.wrapped)
        self.fragments = {name: _FRAGMENTS[self.stage](self, parameter) for name, parameter in self.parameters.items()}
        self.set_steps(0)
        if isinstance(self.inner, WholeParameters):
            self._place(self.inner)

    def accumulate(self, batch: Batch) -> dict[str, Tensor]:
        """Forward and backward of one micro-batch -> its named losses."""
        if self.pending:
            # DeepSpeed counts micro-batches by calls of step; all but the last of a step change nothing.
            self.deepspeed.step()
        total, losses = self.deepspeed(batch)
        self.deepspeed.backward(total)
        self.pending = True
        return losses

    def evaluate(self, batch: Batch) -> dict[str, Tensor]:
        """Forward of one micro-batch without gradients -> its named losses."""
        with torch.no_grad():
            return self.deepspeed(batch)[1]

    def step(self, learning_rate: float) -> float:
        """Update the weights after the last micro-batch -> gradient norm before clipping."""
        for group in self.inner.param_groups:
            group["lr"] = learning_rate
        # Stage 0 has no norm of its own, and with tensor parallelism its clipping would be wrong.
        norm = self._clip() if self.stage == 0 else None
        self.deepspeed.step()
        self.pending = False
        return float(norm if norm is not None else self.deepspeed.get_global_grad_norm())

    def train(self, mode: bool = True) -> None:
        self.deepspeed.train(mode)

    def state(self, key: str | None) -> Iterator[tuple[str, Tensor]]:
        """(name, whole fp32 tensor) of the master weights (``key`` None) or of a moment; a collective call."""
        for name, parameter in self.parameters.items():
            shape = tuple(getattr(parameter, "ds_shape", parameter.shape))
            local = torch.zeros(shape, dtype=torch.float32, device=self.mesh.device)
            fragment = self.fragments[name]
            if fragment is not None:
                piece = self._values(fragment, key)
                local.view(-1)[fragment.start : fragment.start + len(piece)].copy_(piece)
            if self.stage > 0:
                spread = tensor_parallel.is_spread(parameter)
                group = self.mesh.expert_data_group if spread else self.mesh.data_group
                torch.distributed.all_reduce(local, group=group)
            yield name, tensor_parallel.gather(parameter, local, self.mesh)

    def set_state(self, key: str | None, name: str, full: Tensor) -> None:
        """Write the whole tensor ``full`` as the master weight or moment of parameter ``name``; no collective."""
        parameter = self.parameters[name]
        local = tensor_parallel.local_part(parameter, full, self.mesh).reshape(-1)
        fragment = self.fragments[name]
        if fragment is not None:
            self._values(fragment, key).copy_(local[fragment.start : fragment.start + fragment.length])
        if key is None:
            self._set_working_copy(parameter, local)

    def set_steps(self, steps: int) -> None:
        """Give every flat tensor of the optimizer a state after ``steps`` updates, its moments as they start."""
        # Not by the optimizer's groups: stage 3 fills those only while it steps, one part of the model at a time.
        owners = {id(fragment.owner): fragment.owner for fragment in self.fragments.values() if fragment is not None}
        for owner in owners.values():
            self.inner.state[owner] = fresh_state(self.kind, owner, steps)
        self.deepspeed.global_steps = steps

    def full_gradients(self) -> dict[str, Tensor]:
        """Whole averaged gradients by name, between the last ``accumulate`` and ``step``; a collective call."""
        from deepspeed.utils import safe_get_full_grad

        gradients = {}
        for name, parameter in self.parameters.items():
            local = safe_get_full_grad(parameter)
            assert local is not None
            gradients[name] = tensor_parallel.gather(parameter, local.float(), self.mesh)
        return gradients

    def _values(self, fragment: Fragment, key: str | None) -> Tensor:
        flat = fragment.owner.data if key is None else self.inner.state[fragment.owner][key]
        return flat.view(-1).narrow(0, fragment.offset, fragment.length)

    def _set_working_copy(self, parameter: nn.Parameter, local: Tensor) -> None:
        """The rounded copy that forward and backward use follows the master weight."""
        if hasattr(parameter, "ds_tensor"):
            start = parameter.ds_tensor.ds_numel * self.mesh.data_rank  # type: ignore[attr-defined]
            piece = local[start : start + parameter.ds_tensor.ds_numel]  # type: ignore[attr-defined]
            parameter.ds_tensor.data.view(-1)[: len(piece)].copy_(piece)  # type: ignore[attr-defined]
        if parameter.numel() == local.numel():
            parameter.data.view(-1).copy_(local)

    def _clip(self) -> Tensor:
        """Global gradient norm, split parameters counted once each; gradients are scaled down to the limit."""
        squares = torch.zeros(2, 2, device=self.mesh.device)
        gradients = [
            (parameter, parameter.grad) for parameter in self.parameters.values() if parameter.grad is not None
        ]
        for parameter, gradient in gradients:
            split = tensor_parallel.split_dimension(parameter) is not None
            squares[int(split), int(tensor_parallel.is_spread(parameter))] += gradient.float().square().sum()
        squares[1] = self.mesh.sum_over_tensor(squares[1].clone())
        squares[:, 1] = self.mesh.sum_over_experts(squares[:, 1].clone())
        norm = squares.sum().sqrt()
        if self.clipping:
            scale = (self.clipping / (norm + 1e-6)).clamp(max=1.0)
            for _, gradient in gradients:
                gradient.mul_(scale)
        return norm

    def _place(self, optimizer: WholeParameters) -> None:
        """Tell the optimizer which parameters lie where in ZeRO's flat tensors, and how their norms are completed."""
        pieces: dict[int, list[tuple[int, int, int]]] = {}
        split = torch.zeros(len(self.parameters), dtype=torch.bool, device=self.mesh.device)
        spread = torch.zeros_like(split)
        for slot, (name, parameter) in enumerate(self.parameters.items()):
            split[slot] = tensor_parallel.split_dimension(parameter) is not None
            spread[slot] = tensor_parallel.is_spread(parameter)
            fragment = self.fragments[name]
            if fragment is not None:
                pieces.setdefault(id(fragment.owner), []).append((slot, fragment.offset, fragment.length))

        def complete(squares: Tensor) -> Tensor:
            if self.stage > 0:
                # That of an expert's pieces, and at once that over the processes of other experts.
                whole = self.mesh.sum_over_data(squares)
            else:
                whole = torch.where(spread, self.mesh.sum_over_experts(squares.clone()), squares)
            return torch.where(split, self.mesh.sum_over_tensor(whole.clone()), whole)

        segments = {owner: Segments(*map(tuple, zip(*rows, strict=True))) for owner, rows in pieces.items()}
        entries = [tensor_parallel.full_shape(parameter, self.mesh).numel() for parameter in self.parameters.values()]
        optimizer.place(segments, entries, complete)


def apart(groups: list[dict[str, Any]], mesh: Mesh) -> list[dict[str, Any]]:
    """Parameter groups with spread experts in groups of their own, marked as DeepSpeed wants it.

    It shares out the optimizer state of such a group over the processes that hold the same experts, and sums their
    gradients over those, but divides by all data-parallel processes: right, for an expert has seen the tokens of all.
    """
    found = []
    for group in groups:
        here = [parameter for parameter in group["params"] if not tensor_parallel.is_spread(parameter)]
        spread = [parameter for parameter in group["params"] if tensor_parallel.is_spread(parameter)]
        found.append({**group, "params": here})
        if spread:
            found.append({**group, "params": spread, "moe": True, "name": mesh.expert_group_name})
    return found


def _keep_recurrent_layers_whole(learner: nn.Module) -> None:
    """Let stage 3 gather a recurrent layer once for a forward: step by step, processes whose rows have other lengths
    would gather another number of times, and wait for each other for ever."""
    if any(isinstance(part, ProjectedLSTM) for part in learner.modules()):
        set_z3_leaf_modules(learner, [ProjectedLSTM])


def deepspeed_config(
    optimizer: OptimizerConfig, parallel: ParallelConfig, mesh: Mesh, batch: tuple[int, int]
) -> dict[str, Any]:
    """What DeepSpeed is told. ``gradient_clipping`` is always set, for its default changes between versions."""
    micro_batch, accumulation = batch
    return {
        "train_batch_size": micro_batch * accumulation * mesh.data,
        "train_micro_batch_size_per_gpu": micro_batch,
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": 0.0 if parallel.zero_stage == 0 else optimizer.gradient_clipping,
        "bf16": {"enabled": parallel.precision == "bf16"},
        "zero_optimization": {
            "stage": parallel.zero_stage,
            "overlap_comm": mesh.device.type == "cuda" and parallel.zero_stage > 1,
            # A parameter that stays whole would have a second copy to keep in step with its parts.
            "stage3_param_persistence_threshold": 0,
        },
        "zero_allow_untested_optimizer": True,
        "data_types": {"grad_accum_dtype": "fp32"},
        # Sums over micro-batches are kept in fp32; DeepSpeed would round them to bf16 before it sums over processes.
        "communication_data_type": "fp32",
        "steps_per_print": None,
    }


def _whole(engine: Engine, parameter: nn.Parameter) -> Fragment | None:
    return Fragment(parameter, 0, 0, parameter.numel())


def _flat(engine: Engine, parameter: Any) -> Fragment | None:
    """Stages 1 and 2: a process owns one stretch of each parameter group, laid end to end."""
    mapping = parameter._hp_mapping
    if mapping is None:
        return None
    zero = engine.wrapped
    # Stage 1 in bf16 is a class of its own in DeepSpeed, with a name of its own for the same thing.
    owners = zero.fp32_groups_flat_partition if engine.lone_bf16 else zero.single_partition_of_fp32_groups
    hp, lp = mapping.hp_fragment_address, mapping.lp_fragment_address
    return Fragment(owners[mapping.param_group_index], hp.start, lp.start, hp.numel)


def _partitioned(engine: Engine, parameter: Any) -> Fragment | None:
    """Stage 3: a process owns an equal stretch of each parameter; the last one may reach beyond its end."""
    zero = parameter._z3_optimizer
    group, offset, length = zero.grad_position[zero.get_param_id(parameter)]
    start = length * engine.mesh.data_rank
    real = min(length, parameter.ds_numel - start)
    return Fragment(zero.fp32_partitioned_groups_flat[group], offset, start, real) if real > 0 else None


_FRAGMENTS = {0: _whole, 1: _flat, 2: _flat, 3: _partitioned}
"""ZeRO stage -> where it keeps its piece of a parameter."""
