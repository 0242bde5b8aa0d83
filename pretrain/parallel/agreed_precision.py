"""The number format that all processes of a run compute in."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from configs.errors import ConfigError
from pretrain import precision
from pretrain.parallel.config import ParallelConfig
from pretrain.precision import Precision


def resolve(
    parallel: ParallelConfig,
    device: torch.device,
    checkpoint: Mapping[str, Any] | None,
    gather: Callable[[Any], list[Any]],
) -> tuple[ParallelConfig, Precision]:
    """Return ``parallel`` with its precision in place of "auto", and that precision with the reason.

    Args:
        device: of this process; machines may be of several kinds, and the least of them decides.
        checkpoint: resolved configuration of the checkpoint that is resumed from; its precision stays.
        gather: a collective: every process's value, in order of rank.

    Raises:
        ConfigError: the checkpoint's precision is bf16, which ``zero_stage`` 0 does not have.
    """
    available = _least(gather(precision.of_device(device)))
    began = (checkpoint or {}).get("parallel", {}).get("precision", "auto")
    slow = "" if available.name == "bf16" else f"; slow here: {available.reason}"
    if parallel.precision != "auto":
        chosen = Precision(parallel.precision, "as configured" + slow * (parallel.precision == "bf16"))
    elif began != "auto":
        chosen = Precision(began, "as its checkpoint" + slow * (began == "bf16"))
    elif parallel.zero_stage == 0:
        chosen = Precision("fp32", "zero_stage 0 has no bf16")
    else:
        chosen = Precision(available.name, available.reason)
    if parallel.zero_stage == 0 and chosen.name == "bf16":
        raise ConfigError(
            "parallel.zero_stage 0 has no bf16, in which the checkpoint of this run was trained; use zero_stage 1, or "
            "go on with parallel.precision = 'fp32'"
        )
    return parallel.model_copy(update={"precision": chosen.name}), chosen


def _least(available: list[Precision]) -> Precision:
    """The first fp32 of all processes, else bf16."""
    for rank, each in enumerate(available):
        if each.name == "fp32":
            where = f"process {rank} of {len(available)} has a " if len(available) > 1 else ""
            return Precision("fp32", where + each.reason)
    return available[0]
