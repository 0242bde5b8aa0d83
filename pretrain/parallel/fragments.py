"""Where ZeRO keeps the piece of a parameter that a process's optimizer updates, and how much is handled at once."""

from typing import Any, NamedTuple

from torch import Tensor, nn

SLAB = 2**26
"""Values (256 MiB in fp32) of a parameter that are in memory at once while its state is read or written."""


class Fragment(NamedTuple):
    """The piece of one parameter that this process's optimizer updates."""

    owner: Tensor
    """The flat tensor that the optimizer was given."""
    offset: int
    """Where the piece starts in ``owner``."""
    start: int
    """Where the piece starts in the flattened parameter (this process's tensor-parallel part)."""
    length: int


def copy_overlap(target: Tensor, start: int, source: Tensor, source_start: int) -> None:
    """Copy what two stretches of one flat tensor, each told by where it starts there, have in common."""
    first, last = max(start, source_start), min(start + len(target), source_start + len(source))
    if first < last:
        target[first - start : last - start].copy_(source[first - source_start : last - source_start])


def _whole(engine: Any, parameter: nn.Parameter) -> Fragment | None:
    return Fragment(parameter, 0, 0, parameter.numel())


def _flat(engine: Any, parameter: Any) -> Fragment | None:
    """Stages 1 and 2: a process owns one stretch of each parameter group, laid end to end."""
    mapping = parameter._hp_mapping
    if mapping is None:
        return None
    zero = engine.wrapped
    # Stage 1 in bf16 is a class of its own in DeepSpeed, with a name of its own for the same thing.
    owners = zero.fp32_groups_flat_partition if engine.lone_bf16 else zero.single_partition_of_fp32_groups
    hp, lp = mapping.hp_fragment_address, mapping.lp_fragment_address
    return Fragment(owners[mapping.param_group_index], hp.start, lp.start, hp.numel)


def _partitioned(engine: Any, parameter: Any) -> Fragment | None:
    """Stage 3: a process owns an equal stretch of each parameter; the last one may reach beyond its end."""
    zero = parameter._z3_optimizer
    group, offset, length = zero.grad_position[zero.get_param_id(parameter)]
    start = length * engine.mesh.data_rank
    real = min(length, parameter.ds_numel - start)
    return Fragment(zero.fp32_partitioned_groups_flat[group], offset, start, real) if real > 0 else None


FRAGMENTS = {0: _whole, 1: _flat, 2: _flat, 3: _partitioned}
"""ZeRO stage -> where it keeps its piece of a parameter."""
