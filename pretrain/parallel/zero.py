"""Typed configuration -> DeepSpeed's dict -> engine; and access by parameter name to what ZeRO has cut up.

The rest of the project never sees a DeepSpeed dict. Master weights and optimizer moments are read and written here as
rows of whole tensors under the parameter's name, whatever the ZeRO stage and the tensor-parallel split, so that a
checkpoint knows nothing of the layout that wrote it.
"""

import contextlib
import gc
import io
from collections.abc import Iterator
from typing import Any

import deepspeed
import torch
from deepspeed.runtime import compiler
from deepspeed.runtime.zero.parameter_offload import FWD_MODULE_STACK
from deepspeed.runtime.zero.partitioned_param_coordinator import PartitionedParameterCoordinator
from deepspeed.utils import set_z3_leaf_modules
from torch import Tensor, nn

from pretrain.batch import Batch
from pretrain.checkpoints.stored import TensorSlice
from pretrain.initialization import Rows
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
from pretrain.parallel import tensor as tensor_parallel
from pretrain.parallel.config import ParallelConfig
from pretrain.parallel.fragments import FRAGMENTS, SLAB, Fragment, copy_overlap
from pretrain.parallel.mesh import Mesh


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
        _import_muon_uncompiled()
        with contextlib.redirect_stdout(io.StringIO()), _quick_garbage_collection():
            # It prints a memory report for each parameter group.
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
        self.fragments = {name: FRAGMENTS[self.stage](self, parameter) for name, parameter in self.parameters.items()}
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

    def state(self, key: str | None) -> Iterator[TensorSlice]:
        """The fp32 master weights (``key`` None) or a moment, slab by slab; a collective call."""
        for name, parameter in self.parameters.items():
            spread = tensor_parallel.is_expert_parallel(parameter)
            group = self.mesh.expert_data_group if spread else self.mesh.data_group
            shape, fragment = tensor_parallel.local_shape(parameter), self.fragments[name]
            before = tensor_parallel.first_row(parameter, self.mesh)
            replicas = tensor_parallel.replicas(parameter, self.mesh)
            together = self._rows_of_a_slab(parameter)
            for first in range(0, shape[0], together):
                rows = min(together, shape[0] - first)
                local = torch.zeros(rows, *shape[1:], dtype=torch.float32, device=self.mesh.device)
                if fragment is not None:
                    begin = first * shape[1:].numel()
                    copy_overlap(local.view(-1), begin, self._values(fragment, key), fragment.start)
                if self.stage > 0:
                    torch.distributed.all_reduce(local, group=group)
                yield TensorSlice(
                    name, before + first, tensor_parallel.whole_rows(parameter, local, self.mesh), *replicas
                )

    def set_state(self, key: str | None, name: str, whole: Rows) -> None:
        """Write the master weight or moment of parameter ``name``, of which only the rows are asked for that this
        process has a part of; no collective."""
        parameter, fragment = self.parameters[name], self.fragments[name]
        shape = tensor_parallel.local_shape(parameter)
        kept = [self._working_copy(parameter)] if key is None else []
        if fragment is not None:
            kept.append((self._values(fragment, key), fragment.start))
        if not kept:
            return
        rows = tensor_parallel.local_rows(parameter, whole, self.mesh)
        size, together = shape[1:].numel(), self._rows_of_a_slab(parameter)
        last = min(shape[0], -(-max(start + len(values) for values, start in kept) // size))
        for first in range(min(start for _, start in kept) // size, last, together):
            found = rows(first, min(first + together, last)).reshape(-1)
            for values, start in kept:
                copy_overlap(values, start, found, first * size)

    def set_steps(self, steps: int) -> None:
        """Give every flat tensor of the optimizer a state after ``steps`` updates, its moments as they start."""
        # Not by the optimizer's groups: stage 3 fills those only while it steps, one part of the model at a time.
        owners = {id(fragment.owner): fragment.owner for fragment in self.fragments.values() if fragment is not None}
        for owner in owners.values():
            self.inner.state[owner] = fresh_state(self.kind, owner, steps)
        self.deepspeed.global_steps = steps

    def close(self) -> None:
        """Release the model, which DeepSpeed would keep in memory with its optimizer and process groups: by hooks, and
        under stage 3 by a global stack of modules and by methods with a cache."""
        self.deepspeed.destroy()
        FWD_MODULE_STACK.clear()
        for method in vars(PartitionedParameterCoordinator).values():
            for cell in getattr(method, "__closure__", None) or ():
                getattr(cell.cell_contents, "cache_clear", lambda: None)()

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

    def _working_copy(self, parameter: Any) -> tuple[Tensor, int]:
        """(the rounded copy that forward and backward use, flat; where it starts in this process's part)."""
        if self.stage == 3:
            kept = parameter.ds_tensor
            return kept.data.view(-1), kept.ds_numel * self.mesh.data_rank
        return parameter.data.view(-1), 0

    def _rows_of_a_slab(self, parameter: nn.Parameter) -> int:
        """How many whole rows are handled at once."""
        return max(1, SLAB // tensor_parallel.full_shape(parameter, self.mesh)[1:].numel())

    def _clip(self) -> Tensor:
        """Global gradient norm, split parameters counted once each; gradients are scaled down to the limit."""
        squares = torch.zeros(2, 2, device=self.mesh.device)
        gradients = [
            (parameter, parameter.grad) for parameter in self.parameters.values() if parameter.grad is not None
        ]
        for parameter, gradient in gradients:
            split = tensor_parallel.split_dimension(parameter) is not None
            squares[int(split), int(tensor_parallel.is_expert_parallel(parameter))] += gradient.float().square().sum()
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
            spread[slot] = tensor_parallel.is_expert_parallel(parameter)
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


@contextlib.contextmanager
def _quick_garbage_collection() -> Iterator[None]:
    """DeepSpeed collects garbage before each memory report: leave out the million objects that are there before."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _import_muon_uncompiled() -> None:
    """DeepSpeed compares each optimizer with its Muon, which is not offered here. Importing Muon decorates functions
    with torch.compile, which loads torch's compiler back end: more than a second."""
    compile_, compiler.compile = compiler.compile, lambda: lambda function: function
    try:
        with contextlib.suppress(ImportError):
            import deepspeed.runtime.zero.muon.muon_optimizer  # noqa: F401
    finally:
        compiler.compile = compile_


def apart(groups: list[dict[str, Any]], mesh: Mesh) -> list[dict[str, Any]]:
    """Parameter groups with spread experts in groups of their own, marked as DeepSpeed wants it.

    It shares out the optimizer state of such a group over the processes that hold the same experts, and sums their
    gradients over those, but divides by all data-parallel processes: right, for an expert has seen the tokens of all.
    """
    found = []
    for group in groups:
        here = [parameter for parameter in group["params"] if not tensor_parallel.is_expert_parallel(parameter)]
        spread = [parameter for parameter in group["params"] if tensor_parallel.is_expert_parallel(parameter)]
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
