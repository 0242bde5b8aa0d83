"""A learner under DeepSpeed: the only place where one of its engines is made and called."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from sesame.configs.errors import ConfigError
from sesame.pretrain.batch import Batch
from sesame.pretrain.checkpoints.record import LossScaleState
from sesame.pretrain.checkpoints.stored import TensorSlice
from sesame.pretrain.data.repeated_sizes import sizes_for
from sesame.pretrain.device_number import DeviceNumber
from sesame.pretrain.initialization import Rows
from sesame.pretrain.layers.attention import Attention
from sesame.pretrain.layers.recurrent import ProjectedLSTM
from sesame.pretrain.learner import Trainable
from sesame.pretrain.optimizers import optimizer_kind
from sesame.pretrain.optimizers.config import OptimizerConfig
from sesame.pretrain.optimizers.muon import Muon
from sesame.pretrain.optimizers.norm_scaled import NormScaledOptimizer
from sesame.pretrain.optimizers.uncompiled import keep_compiler_unloaded
from sesame.pretrain.parallel import deepspeed_api, placement
from sesame.pretrain.parallel.config import ParallelConfig
from sesame.pretrain.parallel.deepspeed_api import deepspeed, safe_get_full_grad, set_z3_leaf_modules
from sesame.pretrain.parallel.deepspeed_config import deepspeed_config
from sesame.pretrain.parallel.flat_update import FlatUpdate
from sesame.pretrain.parallel.graphs import BlockGraphs
from sesame.pretrain.parallel.loss_scale import LossScale
from sesame.pretrain.parallel.mesh import Mesh
from sesame.pretrain.parallel.update_gate import Accepts, UpdateGate
from sesame.pretrain.parallel.zero_state import ZeroState
from sesame.pretrain.precision import of_device


class Engine:
    """Forward, backward and update of a learner, and its optimizer state by parameter name."""

    def __init__(
        self,
        learner: Trainable,
        optimizer: OptimizerConfig,
        parallel: ParallelConfig,
        mesh: Mesh,
        batch: tuple[int, int],
        groups: list[dict[str, Any]] | None = None,
    ):
        """
        Args:
            batch: (sequences in a micro-batch of one process, micro-batches in a step).
            groups: of parameters, each with its ``share`` of the learning rate if that is not 1; None: those of the
                optimizer.
        """
        stage = parallel.stage_taken(parallel.precision, mesh.world, mesh.device.type)
        parallel = parallel.model_copy(update={"zero_stage": stage})
        self.mesh, self.stage = mesh, parallel.zero_stage
        uses_bf16_class = stage == 1 and parallel.precision == "bf16" and parallel.offload == "none"
        has_flat_update = uses_bf16_class and mesh.tensor == mesh.expert == 1
        if parallel.graphs and not (has_flat_update and mesh.device.type == "cuda"):
            raise ConfigError(
                "parallel.graphs needs a GPU, precision bf16, zero_stage 1, tensor 1 and expert 1; change them or set "
                "it to false"
            )
        self.clipping, self.average_decay, self.updates = optimizer.gradient_clipping, optimizer.average_decay, 0
        self.has_pending_micro_batch = False
        kind = optimizer_kind(optimizer)
        groups = split_expert_groups(groups or kind.groups(learner, optimizer.weight_decay), mesh)
        if self.stage == 3:
            _keep_recurrent_layers_whole(learner)
            _call_projections_one_by_one(learner)
        keep_compiler_unloaded()
        with deepspeed_api.quick_startup():
            initialized: Any = deepspeed.initialize(
                model=learner,
                optimizer=kind.create(groups, optimizer),
                config=deepspeed_config(optimizer, parallel, mesh, batch),
                mpu=mesh if mesh.tensor > 1 else None,
                dist_init_required=False,
            )
        self.deepspeed, wrapper = initialized[:2]
        if mesh.data == 1 and uses_bf16_class:
            # Without other data-parallel processes DeepSpeed would still copy all gradients twice: a fifth of a small
            # step.
            self.deepspeed.enable_backward_allreduce = False
        self.flat_update = FlatUpdate(wrapper, self.clipping) if has_flat_update else None
        self.graphs = BlockGraphs(learner) if parallel.graphs else None
        self._offloads_sums = parallel.offload != "none" and self.stage in (1, 2)
        self._sized = sizes_for(learner, parallel.precision, mesh.device)
        self.learner = learner
        self.parameters = dict(learner.named_parameters())
        self.zero_state = ZeroState(self.parameters, wrapper, kind, self.stage, uses_bf16_class, mesh)
        self.optimizer = self.zero_state.optimizer
        self._norm: Tensor | None = None
        self.gate = UpdateGate(self.optimizer, lambda: wrapper._global_grad_norm if self._norm is None else self._norm)
        self.loss_scale = LossScale(wrapper) if parallel.precision == "fp16" else None
        self.set_steps(0)
        if isinstance(self.optimizer, NormScaledOptimizer):
            self.zero_state.set_segments(self.optimizer)
        if isinstance(self.optimizer, Muon):
            self.zero_state.set_matrices(self.optimizer, products_dtype(parallel.precision, mesh.device))

    def accumulate(self, batch: Batch) -> dict[str, Tensor]:
        """Run forward and backward of one micro-batch and return its named losses."""
        if self.has_pending_micro_batch:
            # DeepSpeed counts micro-batches by calls of step; all but the last of a step change nothing.
            self.deepspeed.step()
        if batch.ends_step is not None:
            # Steps have different numbers of micro-batches, so DeepSpeed cannot count them.
            self.deepspeed.set_gradient_accumulation_boundary(batch.ends_step)
        if self.graphs is not None:
            self.graphs.begin()
        with self.mesh.timer.phase("forward"):
            total, losses = self.deepspeed(self._sized(batch))
        with self.mesh.timer.phase("backward"):
            self.deepspeed.backward(total)
        self.has_pending_micro_batch = True
        return losses

    def evaluate(self, batch: Batch) -> dict[str, Tensor]:
        """Run forward of one micro-batch without gradients and return its named losses."""
        with torch.no_grad():
            return self.deepspeed(self._sized(batch))[1]

    def step(self, learning_rate: float, accepts: Accepts | None = None) -> DeviceNumber:
        """Update the weights after the last micro-batch and return the gradient norm before clipping.

        Args:
            accepts: decides by the norm whether the update is applied, which waits for the device.

        Returns:
            In fp16, for a step that has no update because a gradient overflowed, the norm of the last one that has.

        Raises:
            TrainingError: see ``LossScale``.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate * group.get("share", 1.0)
        self.gate.ask(accepts)
        with self.mesh.timer.phase("optimizer"):
            # Stage 0 has no norm of its own, and with tensor parallelism its clipping would be wrong.
            self._norm = norm = self._clip() if self.stage == 0 else None
            self.deepspeed.step()
        self.has_pending_micro_batch = False
        if self._offloads_sums:
            deepspeed_api.forget_overflown_gradients(self.deepspeed.optimizer)
        if self.loss_scale is not None and self.loss_scale.step_was_skipped():
            return self.loss_scale.last_norm
        if self.flat_update is not None:
            norm = self.flat_update.norm
        number = DeviceNumber(norm if norm is not None else self.deepspeed.get_global_grad_norm())
        if self.gate.was_applied:
            self.updates += 1
            if self.loss_scale is not None:
                self.loss_scale.last_norm = number
            if self.average_decay:
                self.zero_state.update_averages(min(self.average_decay, (1 + self.updates) / (10 + self.updates)))
        return number

    @property
    def has_overflowed(self) -> bool:
        """Whether the last step has no update, because a gradient overflowed in fp16."""
        return self.loss_scale is not None and self.loss_scale.has_overflowed

    def set_accumulation(self, micro_batches: int) -> None:
        """Set the micro-batches of each process in the next step; they must not change within a step."""
        if micro_batches != self.deepspeed.gradient_accumulation_steps():
            per_process = self.deepspeed.train_micro_batch_size_per_gpu()
            self.deepspeed.set_train_batch_size(per_process * micro_batches * self.mesh.data)
            # Its ZeRO optimizers have a copy.
            self.deepspeed.optimizer.gradient_accumulation_steps = micro_batches

    def train(self, mode: bool = True) -> None:
        self.deepspeed.train(mode)

    def state(self, key: str | None) -> Iterator[TensorSlice]:
        """See ``ZeroState.read``."""
        return self.zero_state.read(key)

    def set_state(self, key: str | None, name: str, whole: Rows) -> None:
        """See ``ZeroState.write``."""
        self.zero_state.write(key, name, whole)

    def set_steps(self, steps: int) -> None:
        """Give the optimizer fresh moments, as after ``steps`` updates."""
        self.zero_state.reset(steps)
        self.updates = steps
        self.deepspeed.global_steps = steps

    def set_loss_scale(self, state: LossScaleState | None) -> None:
        """Continue with the loss scale of a checkpoint; without effect in another precision than fp16."""
        if self.loss_scale is not None:
            self.loss_scale.restore(state)

    def close(self) -> None:
        """Release the model, which DeepSpeed would keep in memory with its optimizer and process groups."""
        self.deepspeed.destroy()
        deepspeed_api.clear_module_caches()

    def full_gradients(self) -> dict[str, Tensor]:
        """Return whole averaged gradients by name, between the last ``accumulate`` and ``step``; a collective."""
        gradients = {}
        for name, parameter in self.parameters.items():
            local = self.averaged_gradient(parameter)
            assert local is not None
            gradients[name] = placement.gather(parameter, local, self.mesh)
        return gradients

    def averaged_gradient(self, parameter: nn.Parameter) -> Tensor | None:
        """Return the averaged gradient of this process's tensor-parallel part in fp32, None if it has none; between the
        last ``accumulate`` and ``step``; a collective."""
        local = safe_get_full_grad(parameter)
        return None if local is None else local.float() / (self.loss_scale.scale if self.loss_scale else 1.0)

    def _clip(self) -> Tensor:
        """Scale gradients down to the clipping threshold and return their global norm, which counts each entry once."""
        gradients = [
            (parameter, parameter.grad) for parameter in self.parameters.values() if parameter.grad is not None
        ]
        # [not split or split over tensor parallelism, not split or split over expert parallelism].
        squares = torch.zeros(2, 2, device=self.mesh.device)
        for parameter, gradient in gradients:
            split = placement.split_dimension(parameter) is not None
            # By row: over a whole matrix of millions of entries the sum in fp32 is wrong by 1e-4.
            rows = torch.linalg.vector_norm(gradient, dim=-1, dtype=torch.float32)
            squares[int(split), int(placement.is_expert_parallel(parameter))] += rows.square().sum()
        squares[1] = self.mesh.sum_over_tensor(squares[1].clone())
        squares[:, 1] = self.mesh.sum_over_experts(squares[:, 1].clone())
        norm = squares.sum().sqrt()
        if self.clipping:
            scale = (self.clipping / (norm + 1e-6)).clamp(max=1.0)
            for _, gradient in gradients:
                gradient.mul_(scale)
        return norm


def products_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Return the format in which an optimizer multiplies matrices: bf16 in a run of 2-byte weights on a device that
    computes it in hardware."""
    return torch.bfloat16 if precision != "fp32" and of_device(device).name == "bf16" else torch.float32


def split_expert_groups(groups: list[dict[str, Any]], mesh: Mesh) -> list[dict[str, Any]]:
    """Put expert-parallel parameters into parameter groups of their own, with the keys that DeepSpeed expects.

    DeepSpeed partitions the optimizer state of such a group over the processes with the same experts and sums
    gradients over those, but divides by all data-parallel processes: right, for an expert sees the tokens of all.
    """
    split = []
    for group in groups:
        experts = [parameter for parameter in group["params"] if placement.is_expert_parallel(parameter)]
        others = [parameter for parameter in group["params"] if not placement.is_expert_parallel(parameter)]
        split.append({**group, "params": others})
        if experts:
            split.append({**group, "params": experts, "moe": True, "name": mesh.expert_group_name})
    return split


def _keep_recurrent_layers_whole(learner: nn.Module) -> None:
    """Let stage 3 gather a recurrent layer once a forward. It would otherwise gather at each time step, and processes
    whose sequences have other lengths would deadlock."""
    if any(isinstance(part, ProjectedLSTM) for part in learner.modules()):
        set_z3_leaf_modules(learner, [ProjectedLSTM])


def _call_projections_one_by_one(learner: nn.Module) -> None:
    """Stage 3 gathers a layer's weights when the layer is called."""
    for part in learner.modules():
        if isinstance(part, Attention):
            part.joins_products = False
