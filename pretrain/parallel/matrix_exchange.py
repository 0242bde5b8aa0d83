"""Whole matrices for an optimizer that needs them, in spite of ZeRO's flat tensors and of tensor parallelism.

A matrix that is whole in one process is computed there. The ranges of a cut one are sent to the process that has most
of it, which computes it and sends the results back: an entry of a cut matrix is sent at most twice, in the precision of
the computation. ZeRO 0 cuts none, ZeRO 1 and 2 one for each border between two processes, ZeRO 3 and tensor
parallelism all. With N processes under ZeRO 3 each sends 2 (N - 1) / N^2 of all entries, less than a fourth of what
the sum of gradients costs from 8 processes on, and computes one Nth of the matrices.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from sesame.pretrain.optimizers.matrices import MatrixLayout, layout_of
from sesame.pretrain.optimizers.muon import Function
from sesame.pretrain.parallel import placement
from sesame.pretrain.parallel.flat_update import copy_all
from sesame.pretrain.parallel.fragments import FLAT_GROUPS, Fragment, ZeroOptimizer
from sesame.pretrain.parallel.matrix_plan import ENTRIES_AT_ONCE, Holding, Piece, Round, Unit, plan_units, rounds
from sesame.pretrain.parallel.mesh import Mesh

Matrix = tuple[MatrixLayout, Tensor]
"""A layout and values in the shape of a unit, which are replaced."""


class MatrixExchange:
    """Applies a function to whole matrices, of which each process updates ranges."""

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        fragments: Mapping[str, Fragment | None],
        zero: ZeroOptimizer,
        stage: int,
        mesh: Mesh,
        dtype: torch.dtype,
    ):
        """
        Args:
            dtype: in which matrices are sent and computed.
        """
        self.mesh, self.dtype = mesh, dtype
        layouts = {name: layout for name in parameters if (layout := layout_of(name)) is not None}
        self.layouts = list(layouts.values())
        slots = {id(parameters[name]): slot for slot, name in enumerate(layouts)}
        own = [_holding(parameters[name], fragments[name], stage, mesh) for name in layouts]
        by_rank: list[list[Holding]] = mesh.gather_objects(own)
        self.splits = [placement.split_dimension(parameters[name]) for name in layouts]
        self.owners = [fragment and id(fragment.owner) for name in layouts for fragment in [fragments[name]]]
        loads = [0] * mesh.world
        units = [
            plan_units(
                slot, placement.local_shape(parameters[name]), layout.is_stacked, [own[slot] for own in by_rank], loads
            )
            for slot, (name, layout) in enumerate(layouts.items())
        ]
        groups = self._groups(parameters, layouts, zero, stage)
        self.batches = []
        """For each tensor, or set of them, that an optimizer updates at once: its id, own units, rounds of cut ones."""
        for owners, members in groups:
            of_group = [unit for parameter in members if id(parameter) in slots for unit in units[slots[id(parameter)]]]
            own_units = [unit for unit in of_group if not unit.is_cut and unit.owner == mesh.rank]
            cut = rounds((unit for unit in of_group if unit.is_cut), mesh.rank, mesh.world)
            self.batches.append((owners, own_units, cut))

    def apply(self, function: Function, updates: dict[int, Tensor]) -> None:
        """Replace every matrix by its value of ``function``; a collective, see ``WholeMatrices``."""
        for owners, own_units, cut in self.batches:
            if owners.isdisjoint(updates):
                continue
            whole = [(unit, self._range(updates, unit.slot, unit.pieces[0])) for unit in own_units]
            self._compute(function, [(self.layouts[unit.slot], entries.view(unit.shape)) for unit, entries in whole])
            for plan in cut:
                self._exchange(function, updates, plan)

    @staticmethod
    def _groups(
        parameters: Mapping[str, nn.Parameter], layouts: Mapping[str, MatrixLayout], zero: ZeroOptimizer, stage: int
    ) -> list[tuple[frozenset[int], Sequence[nn.Parameter]]]:
        """Return (ids of the tensors that are updated together, their parameters), the same in every process."""
        if stage == 0:
            matrices = [parameters[name] for name in layouts]
            return [(frozenset(map(id, matrices)), matrices)]
        return [(frozenset([id(flat)]), members) for flat, members in FLAT_GROUPS[stage](zero)]

    def _range(self, updates: dict[int, Tensor], slot: int, piece: Piece) -> Tensor:
        owner = self.owners[slot]
        assert owner is not None
        return updates[owner].narrow(0, piece.offset, piece.length)

    def _compute(self, function: Function, matrices: Iterable[Matrix]) -> None:
        """Replace matrices by their values of ``function``, those of one shape together."""
        by_shape: dict[tuple[int, ...], list[Tensor]] = defaultdict(list)
        for layout, values in matrices:
            view = layout.view(values)
            by_shape[tuple(view.shape[1:])].append(view)
        for shape, views in by_shape.items():
            for chunk in _chunks(views, max(1, ENTRIES_AT_ONCE // (shape[0] * shape[1]))):
                sizes = [len(view) for view in chunk]
                joined = torch.empty((sum(sizes), *shape), dtype=self.dtype, device=self.mesh.device)
                copy_all(joined.split(sizes), chunk)
                copy_all(chunk, function(joined).split(sizes))

    def _exchange(self, function: Function, updates: dict[int, Tensor], plan: Round) -> None:
        """Send pieces to the processes that compute them, and the results back; a collective."""
        ranges = [self._range(updates, slot, piece) for slot, piece in plan.sent]
        sent = [self._on_device(entries) for entries in ranges]
        buffer = self._all_to_all(sent, plan.sent_sizes, plan.received_sizes)
        pieces = list(zip(plan.received, buffer.split([piece.length for piece in plan.received]), strict=True))
        parts = [(unit, self._joined(unit, [pieces[number] for number in numbers])) for unit, numbers in plan.units]
        wholes = [self._whole(unit, of_unit) for unit, of_unit in parts]
        layouts = [self.layouts[unit.slot] for unit, _ in parts]
        self._compute(function, list(zip(layouts, wholes, strict=True)))
        for (unit, numbers), whole in zip(plan.units, wholes, strict=True):
            results = self._parts(unit, whole)
            for piece, entries in (pieces[number] for number in numbers):
                entries.copy_(results[piece.part].narrow(0, piece.start, piece.length))
        answers = self._all_to_all([buffer], plan.received_sizes, plan.sent_sizes)
        for target, result in zip(ranges, answers.split([len(entries) for entries in ranges]), strict=True):
            target.copy_(result)

    def _on_device(self, values: Tensor) -> Tensor:
        """Return values in the precision of the computation, also those that ``parallel.offload`` keeps on the host."""
        return values.to(self.mesh.device, self.dtype)

    def _joined(self, unit: Unit, pieces: Iterable[tuple[Piece, Tensor]]) -> dict[int, Tensor]:
        """Return the tensor-parallel parts of a unit, flat, by number."""
        parts: dict[int, Tensor] = {}
        for piece, entries in pieces:
            if piece.part not in parts:
                parts[piece.part] = entries.new_empty(unit.shape.numel())
            parts[piece.part].narrow(0, piece.start, piece.length).copy_(entries)
        return parts

    def _whole(self, unit: Unit, parts: Mapping[int, Tensor]) -> Tensor:
        shaped = [parts[part].view(unit.shape) for part in sorted(parts)]
        split = self.splits[unit.slot]
        return shaped[0] if split is None else torch.cat(shaped, dim=split)

    def _parts(self, unit: Unit, whole: Tensor) -> list[Tensor]:
        """Return the tensor-parallel parts of ``whole``, flat."""
        split = self.splits[unit.slot]
        parts = [whole] if split is None else whole.split(unit.shape[split], dim=split)
        return [part.reshape(-1) for part in parts]

    def _all_to_all(self, parts: list[Tensor], sizes: list[int], received_sizes: list[int]) -> Tensor:
        """Send ``sizes[p]`` entries of the joined ``parts`` to process p; return what all processes have sent."""
        empty = torch.empty(0, dtype=self.dtype, device=self.mesh.device)
        joined = torch.cat(parts) if parts else empty
        received = empty.new_empty(sum(received_sizes))
        torch.distributed.all_to_all_single(received, joined, received_sizes, sizes)
        return received


def _holding(parameter: nn.Parameter, fragment: Fragment | None, stage: int, mesh: Mesh) -> Holding:
    """Return what this process updates of a matrix."""
    is_split, is_expert = placement.split_dimension(parameter) is not None, placement.is_expert_parallel(parameter)
    group = (
        mesh.data_rank if stage == 0 else mesh.expert_rank if is_expert else 0,
        0 if is_split else mesh.tensor_rank,
    )
    part = mesh.tensor_rank if is_split else 0
    if fragment is None:
        return Holding(group, part, 0, 0, 0)
    return Holding(group, part, fragment.start, fragment.length, fragment.offset)


def _chunks(values: list[Tensor], size: int) -> Iterable[list[Tensor]]:
    return (values[start : start + size] for start in range(0, len(values), size))
