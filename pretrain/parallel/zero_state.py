"""Master weights and optimizer moments by parameter name, whatever the ZeRO stage and the tensor-parallel split.

They are read and written as rows of whole tensors, so that a checkpoint does not depend on the layout that wrote it.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from sesame.pretrain.checkpoints.stored import TensorSlice
from sesame.pretrain.initialization import Rows
from sesame.pretrain.optimizers import AVERAGE, OptimizerKind
from sesame.pretrain.optimizers.muon import Muon
from sesame.pretrain.optimizers.norm_scaled import NormScaledOptimizer, Segments
from sesame.pretrain.parallel import placement
from sesame.pretrain.parallel.fragments import FRAGMENTS, Fragment, ZeroOptimizer, copy_overlap
from sesame.pretrain.parallel.matrix_exchange import MatrixExchange
from sesame.pretrain.parallel.mesh import Mesh
from sesame.pretrain.parallel.rows import Range, RowOwners, Turns, row_owners

SLICE_ENTRIES = 2**26
"""Entries (256 MiB in fp32) of a parameter that are in one slice while its state is read or written."""


class ZeroState:
    """The optimizer state of one engine, by parameter name."""

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        wrapper: Any,
        kind: OptimizerKind,
        stage: int,
        uses_bf16_class: bool,
        mesh: Mesh,
    ):
        """
        Args:
            parameters: of the learner, by name, after ``deepspeed.initialize``.
            wrapper: the optimizer that ``deepspeed.initialize`` returned.
            kind: of the optimizer.
            uses_bf16_class: see ``ZeroOptimizer``.
        """
        self.parameters, self.kind, self.stage, self.mesh = parameters, kind, stage, mesh
        self.optimizer: torch.optim.Optimizer = getattr(wrapper, "optimizer", wrapper)
        self.zero = ZeroOptimizer(wrapper, uses_bf16_class, mesh.data_rank)
        self.fragments = {name: FRAGMENTS[stage](self.zero, parameter) for name, parameter in parameters.items()}
        self.owners = self._row_owners()
        self.averages = {id(owner): torch.zeros_like(owner.data) for owner in self._tensors()} if kind.averages else {}
        """Moving averages, by ``id`` of the optimizer's tensor that they are of."""

    def read(self, key: str | None) -> Iterator[TensorSlice]:
        """Yield what this process writes of the fp32 master weights (``key`` None) or a moment; a collective.

        The rows that this process updates are views of the optimizer's own tensors. Sent between processes are only
        rows that ZeRO cuts, and rows that tensor parallelism splits.
        """
        turns = Turns()
        for name, parameter in self.parameters.items():
            if key is not None and key not in self.kind.moments_of(name):
                continue
            owners, slice_rows = self.owners[name], self._slice_rows(parameter)
            first_row = placement.first_row(parameter, self.mesh)
            copies = placement.replicas(parameter, self.mesh)
            # What ZeRO partitions is the same in tensor-parallel processes only.
            own_copies = placement.tensor_replicas(parameter, self.mesh) if self.stage else copies
            kinds = ((False, [owners.own], own_copies), (True, owners.cut, copies))
            for is_cut, ranges, (copy, number_of_copies) in kinds:
                for first, last in _slices(ranges, slice_rows):
                    local = self._joined(name, key, first, last) if is_cut else self._own(name, key, first, last)
                    rows = placement.whole_rows(parameter, local, self.mesh)
                    if turns.is_turn((is_cut, *placement.kind(parameter)), copy, number_of_copies, rows.numel()):
                        yield TensorSlice(name, first_row + first, rows)

    def write(self, key: str | None, name: str, whole: Rows) -> None:
        """Set the master weight (``key`` None) or a moment of parameter ``name``; no collective.

        Args:
            whole: called for the rows only of which this process has a part.
        """
        parameter, fragment = self.parameters[name], self.fragments[name]
        shape = placement.local_shape(parameter)
        targets = [self._working_copy(parameter)] if key is None else []
        if fragment is not None:
            targets.append((self._entries(fragment, key), fragment.start))
            if key is None and self.averages:
                targets.append((self._entries(fragment, AVERAGE), fragment.start))
        if not targets:
            return
        local_rows = placement.local_rows(parameter, whole, self.mesh)
        row_entries, slice_rows = shape[1:].numel(), self._slice_rows(parameter)
        last = min(shape[0], -(-max(start + len(entries) for entries, start in targets) // row_entries))
        for first in range(min(start for _, start in targets) // row_entries, last, slice_rows):
            rows = local_rows(first, min(first + slice_rows, last)).reshape(-1)
            for entries, start in targets:
                copy_overlap(entries, start, rows, first * row_entries)

    def reset(self, steps: int) -> None:
        """Give the optimizer fresh moments and a count of ``steps`` updates."""
        # Not by the optimizer's groups: stage 3 fills those only while it steps, one part of the model at a time.
        owners = {
            id(fragment.owner): (fragment.owner, self.kind.state_of(name))
            for name, fragment in self.fragments.items()
            if fragment is not None
        }
        for owner, spec in owners.values():
            self.optimizer.state[owner] = spec.create(owner, steps)

    @torch.no_grad()
    def update_averages(self, keep: float) -> None:
        """Move the averages towards the weights; ``keep`` is their own share."""
        for owner in self._tensors():
            self.averages[id(owner)].lerp_(owner.data, 1 - keep)

    def set_segments(self, optimizer: NormScaledOptimizer) -> None:
        """Tell ``optimizer`` where in ZeRO's flat tensors each parameter is, and how its norms are completed."""
        segments: dict[int, list[tuple[int, int, int]]] = {}
        for slot, name in enumerate(self.parameters):
            fragment = self.fragments[name]
            if fragment is not None:
                segments.setdefault(id(fragment.owner), []).append((slot, fragment.offset, fragment.length))
        entries = [placement.full_shape(parameter, self.mesh).numel() for parameter in self.parameters.values()]
        by_owner = {owner: Segments(*map(tuple, zip(*rows, strict=True))) for owner, rows in segments.items()}
        optimizer.set_segments(by_owner, entries, self.sum_squares)

    @cached_property
    def placements(self) -> tuple[Tensor, Tensor]:
        """bool [parameters]: whether each is split over tensor-parallel, and over expert-parallel processes."""
        parts = self.parameters.values()
        split = [placement.split_dimension(parameter) is not None for parameter in parts]
        expert_parallel = [placement.is_expert_parallel(parameter) for parameter in parts]
        device = self.mesh.device
        return torch.tensor(split, device=device), torch.tensor(expert_parallel, device=device)

    def sum_squares(self, squares: Tensor, *, is_divided: bool | None = None) -> Tensor:
        """Add up [..., parameters] sums of squares over the processes; a collective.

        Args:
            is_divided: whether they are over the entries that each process updates, or over its part of the model,
                which other data-parallel processes have as well; None: as ZeRO divides the updates.
        """
        is_divided = self.stage > 0 if is_divided is None else is_divided
        split, expert_parallel = self.placements
        # An optimizer whose state is in host memory sums there.
        on_device = squares.to(self.mesh.device)
        if is_divided:
            # Over the fragments of ZeRO, and for experts also over the processes with other experts.
            summed = self.mesh.sum_over_data(on_device)
        else:
            summed = torch.where(expert_parallel, self.mesh.sum_over_experts(on_device.clone()), on_device)
        return torch.where(split, self.mesh.sum_over_tensor(summed.clone()), summed).to(squares.device)

    def own_entries(self, name: str) -> Tensor | None:
        """Return the fp32 master weights of a parameter that this process updates, flat; None if there are none."""
        fragment = self.fragments[name]
        return self._entries(fragment, None) if fragment is not None else None

    def set_matrices(self, optimizer: Muon, dtype: torch.dtype) -> None:
        """Give ``optimizer`` whole matrices, computed in ``dtype``; a collective."""
        optimizer.whole_matrices = MatrixExchange(
            self.parameters, self.fragments, self.zero, self.stage, self.mesh, dtype
        )

    def _row_owners(self) -> dict[str, RowOwners]:
        """Return which rows of each parameter are whole in this process, and which are cut; a collective."""
        shapes = {name: placement.local_shape(parameter) for name, parameter in self.parameters.items()}
        own = [(each.start, each.start + each.length) if each else (0, 0) for each in self.fragments.values()]
        by_rank: list[list[Range]] = [own]
        if self.stage > 0:
            # [data-parallel process, parameter, (first, last)].
            ranges = torch.tensor([own], device=self.mesh.device)
            by_rank = placement.all_gather(ranges, 0, self.mesh.data_group, self.mesh.data).tolist()
        owners = {}
        for number, (name, parameter) in enumerate(self.parameters.items()):
            peers = by_rank
            if self.stage > 0 and placement.is_expert_parallel(parameter):
                peers = by_rank[self.mesh.expert_rank :: self.mesh.expert]
            shape = shapes[name]
            owners[name] = row_owners(own[number], [each[number] for each in peers], shape[0], shape[1:].numel())
        return owners

    def _own(self, name: str, key: str | None, first: int, last: int) -> Tensor:
        """Return rows that are whole in this process, without a copy."""
        fragment, shape = self.fragments[name], placement.local_shape(self.parameters[name])
        assert fragment is not None
        start, length = first * shape[1:].numel() - fragment.start, (last - first) * shape[1:].numel()
        entries = self._entries(fragment, key).narrow(0, start, length)
        return entries.view(last - first, *shape[1:]).float()

    def _joined(self, name: str, key: str | None, first: int, last: int) -> Tensor:
        """Return rows of which several processes have a part; a collective."""
        parameter, fragment = self.parameters[name], self.fragments[name]
        shape = placement.local_shape(parameter)
        rows = torch.zeros(last - first, *shape[1:], dtype=torch.float32, device=self.mesh.device)
        if fragment is not None:
            copy_overlap(rows.view(-1), first * shape[1:].numel(), self._entries(fragment, key), fragment.start)
        expert_parallel = placement.is_expert_parallel(parameter)
        group = self.mesh.expert_data_group if expert_parallel else self.mesh.data_group
        torch.distributed.all_reduce(rows, group=group)
        return rows

    def _entries(self, fragment: Fragment, key: str | None) -> Tensor:
        if key == AVERAGE:
            flat = self.averages[id(fragment.owner)]
        else:
            flat = fragment.owner.data if key is None else self.optimizer.state[fragment.owner][key]
        return flat.view(-1).narrow(0, fragment.offset, fragment.length)

    def _tensors(self) -> Iterable[Tensor]:
        """Return the tensors that the optimizer updates, each once."""
        return {id(each.owner): each.owner for each in self.fragments.values() if each is not None}.values()

    def working_copy(self, name: str) -> Tensor:
        """Return what forward and backward use of a parameter in this process, flat; a view."""
        return self._working_copy(self.parameters[name])[0]

    def set_working_copies(self, values: Mapping[str, Tensor]) -> None:
        """Set what :meth:`working_copy` returns, by name; for forward passes, because the master weights stay."""
        if self.stage == 3:
            # What a forward pass has gathered would otherwise be used again.
            self.zero.wrapper._partition_all_parameters()
        for name, value in values.items():
            self.working_copy(name).copy_(value)

    def whole(self, name: str) -> Tensor:
        """Return the whole of what forward and backward use of a parameter; a collective."""
        parameter, local = self.parameters[name], self.working_copy(name)
        if self.stage == 3:
            local = placement.all_gather(local, 0, self.mesh.data_group, self.mesh.data)
        shape = placement.local_shape(parameter)
        return placement.gather(parameter, local[: shape.numel()].view(shape), self.mesh)

    def _working_copy(self, parameter: Any) -> tuple[Tensor, int]:
        """Return the rounded copy that forward and backward use, flat, and where it starts in this process's part."""
        if self.stage == 3:
            partition = parameter.ds_tensor
            return partition.data.view(-1), partition.ds_numel * self.mesh.data_rank
        return parameter.data.view(-1), 0

    def _slice_rows(self, parameter: nn.Parameter) -> int:
        """Return how many whole rows are handled at once."""
        return max(1, SLICE_ENTRIES // placement.full_shape(parameter, self.mesh)[1:].numel())


def _slices(ranges: Iterable[Range], slice_rows: int) -> Iterator[Range]:
    """Yield ranges of rows again, in parts of at most ``slice_rows``."""
    for first, last in ranges:
        for start in range(first, last, slice_rows):
            yield start, min(start + slice_rows, last)
