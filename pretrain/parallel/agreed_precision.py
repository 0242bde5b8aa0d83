"""The number format of a run, the same in all of its processes."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from sesame.configs.errors import ConfigError
from sesame.pretrain import precision
from sesame.pretrain.parallel.config import ParallelConfig
from sesame.pretrain.precision import Precision


def resolve(
    parallel: ParallelConfig,
    device: torch.device,
    checkpoint: Mapping[str, Any] | None,
    gather: Callable[[Any], list[Any]],
) -> tuple[ParallelConfig, Precision]:
    """Return ``parallel`` with "auto" replaced by a precision, and that precision with the reason.

    Args:
        device: of this process; bf16 is chosen only if the devices of all processes have it.
        checkpoint: resolved configuration of the checkpoint to resume from, whose precision is kept.
        gather: a collective: every process's value, in order of rank.

    Raises:
        ConfigError: the checkpoint's precision is bf16 or fp16, which ``zero_stage`` 0 does not support, or a device
            lacks a number format.
    """
    available = _common(gather(precision.of_device(device)))
    resumed = (checkpoint or {}).get("parallel", {}).get("precision", "auto")
    slow = "" if available.name == "bf16" else f"; slow here: {available.reason}"
    if parallel.precision != "auto":
        chosen = Precision(parallel.precision, "as configured" + slow * (parallel.precision == "bf16"))
    elif resumed != "auto":
        chosen = Precision(resumed, "as its checkpoint" + slow * (resumed == "bf16"))
    elif parallel.zero_stage == 0:
        chosen = Precision("fp32", "zero_stage 0 has no bf16")
    else:
        chosen = Precision(available.name, available.reason)
    if parallel.zero_stage == 0 and chosen.name != "fp32":
        raise ConfigError(
            f"parallel.zero_stage 0 has no {chosen.name}, in which the checkpoint of this run was trained; use "
            "zero_stage 1 or parallel.precision = 'fp32'"
        )
    if chosen.name == "fp16" and not all(gather(precision.computes_fp16(device))):
        raise ConfigError(
            "parallel.precision fp16: a device of this run does not compute it in hardware, and DeepSpeed does not "
            "emulate it; use parallel.precision = 'auto'"
        )
    if parallel.fp8:
        _check_fp8(chosen, gather(precision.lacks_fp8(device)))
    return parallel.model_copy(update={"precision": chosen.name}), chosen


def _check_fp8(chosen: Precision, lacking: list[str]) -> None:
    """Raise ConfigError if a run cannot multiply in fp8.

    Args:
        lacking: what each process's device lacks, in order of rank.
    """
    if chosen.name != "bf16":
        raise ConfigError(
            f"parallel.fp8 needs precision bf16, and this run has {chosen}; use parallel.precision = 'bf16' or "
            "parallel.fp8 = false"
        )
    if found := next(((rank, reason) for rank, reason in enumerate(lacking) if reason), None):
        raise ConfigError(f"parallel.fp8: process {found[0]} has {found[1]}; use parallel.fp8 = false")


def _common(available: list[Precision]) -> Precision:
    """Return fp32, with the reason of the first process that lacks bf16, else bf16."""
    for rank, precision_of_rank in enumerate(available):
        if precision_of_rank.name == "fp32":
            where = f"process {rank} of {len(available)} has a " if len(available) > 1 else ""
            return Precision("fp32", where + precision_of_rank.reason)
    return available[0]
