"""The fragment of each parameter that this process's optimizer updates, for every ZeRO stage."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor, nn


class Fragment(NamedTuple):
    """The part of one parameter that this process's optimizer updates."""

    owner: Tensor
    """The flat tensor that the optimizer was given."""
    offset: int
    """Where the fragment starts in ``owner``."""
    start: int
    """Where the fragment starts in the flattened parameter (this process's tensor-parallel part)."""
    length: int


class ZeroOptimizer(NamedTuple):
    """DeepSpeed's optimizer and how this process takes part in it."""

    wrapper: Any
    """DeepSpeed's optimizer around the plain one."""
    uses_bf16_class: bool
    """Stage 1 in bf16 is ``BF16_Optimizer``, whose attributes have other names."""
    data_rank: int


def copy_overlap(target: Tensor, start: int, source: Tensor, source_start: int) -> None:
    """Copy the entries that two ranges of one flat tensor have in common; ``start`` is where each range begins."""
    first, last = max(start, source_start), min(start + len(target), source_start + len(source))
    if first < last:
        target[first - start : last - start].copy_(source[first - source_start : last - source_start])


def _whole(zero: ZeroOptimizer, parameter: nn.Parameter) -> Fragment | None:
    return Fragment(parameter, 0, 0, parameter.numel())


def _flat(zero: ZeroOptimizer, parameter: Any) -> Fragment | None:
    """Stages 1 and 2: a process owns one range of each parameter group, concatenated."""
    mapping = parameter._hp_mapping
    if mapping is None:
        return None
    wrapper = zero.wrapper
    owners = wrapper.fp32_groups_flat_partition if zero.uses_bf16_class else wrapper.single_partition_of_fp32_groups
    hp, lp = mapping.hp_fragment_address, mapping.lp_fragment_address
    return Fragment(owners[mapping.param_group_index], hp.start, lp.start, hp.numel)


def _partitioned(zero: ZeroOptimizer, parameter: Any) -> Fragment | None:
    """Stage 3: a process owns an equal range of each parameter; the last range is padded."""
    wrapper = parameter._z3_optimizer
    group, offset, length = wrapper.grad_position[wrapper.get_param_id(parameter)]
    start = length * zero.data_rank
    unpadded = min(length, parameter.ds_numel - start)
    return Fragment(wrapper.fp32_partitioned_groups_flat[group], offset, start, unpadded) if unpadded > 0 else None


FRAGMENTS: dict[int, Callable[[ZeroOptimizer, Any], Fragment | None]] = {
    0: _whole,
    1: _flat,
    2: _flat,
    3: _partitioned,
}
"""ZeRO stage -> the fragment of a parameter; None where this process updates nothing of it."""

FlatGroups = list[tuple[Tensor, list[nn.Parameter]]]
"""(tensor that the optimizer updates at once, the parameters of which some process has a fragment in its own)."""

FLAT_GROUPS: dict[int, Callable[[ZeroOptimizer], FlatGroups]] = {
    1: lambda zero: (
        list(zip(zero.wrapper.fp32_groups_flat_partition, zero.wrapper.bf16_groups, strict=True))
        if zero.uses_bf16_class
        else list(zip(zero.wrapper.single_partition_of_fp32_groups, zero.wrapper.bit16_groups, strict=True))
    ),
    2: lambda zero: list(zip(zero.wrapper.single_partition_of_fp32_groups, zero.wrapper.bit16_groups, strict=True)),
    3: lambda zero: list(zip(zero.wrapper.fp32_partitioned_groups_flat, zero.wrapper.fp16_groups, strict=True)),
}
"""ZeRO stage -> flat tensors and their parameters, the same parameters in the same order in every process."""
