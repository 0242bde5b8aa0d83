"""What ``precision = "auto"`` becomes: bf16 where the device computes it in hardware, else fp32.

Without such hardware bf16 is emulated: a training step on a CPU is then more than ten times slower than in fp32.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import torch

from configs.errors import ConfigError
from pretrain.parallel import ParallelConfig

CPU_FEATURES = {"avx512_bf16": "AVX-512 BF16", "amx_bf16": "AMX"}
"""Instructions that multiply bf16, by torch's name: the usual one."""
ATEN_WITHOUT_BF16 = ("DEFAULT", "NO AVX", "AVX2")
"""Values of ``torch.backends.cpu.get_cpu_capability()`` with which torch leaves those instructions alone."""
ONEDNN_WITHOUT_BF16 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI")
"""Values of ``ONEDNN_MAX_CPU_ISA`` with which oneDNN does, which computes torch's matrix products in bf16."""


class Precision(NamedTuple):
    """A number format, and why it was chosen."""

    name: Literal["fp32", "bf16"]
    reason: str

    def __str__(self) -> str:
        return f"{self.name} ({self.reason})"


def of_device(device: torch.device) -> Precision:
    """Return bf16 where ``device`` computes it in hardware, else fp32."""
    return DEVICES[device.type](device)


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
    available = _least(gather(of_device(device)))
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


def _of_cuda(device: torch.device) -> Precision:
    major, minor = torch.cuda.get_device_capability(device)
    # AMD's cards count otherwise; all that ROCm supports have it.
    if major >= 8 or torch.version.hip:
        return Precision("bf16", f"GPU of compute capability {major}.{minor}")
    return Precision("fp32", f"GPU of compute capability {major}.{minor}, bf16 begins at 8.0")


def _of_cpu(device: torch.device) -> Precision:
    reported = _cpu_features()
    found = [title for name, title in CPU_FEATURES.items() if reported.get(name)]
    if not found:
        return Precision("fp32", f"CPU without {' and '.join(CPU_FEATURES.values())}")
    # What torch reports is the processor's, whatever these make of it.
    capability = torch.backends.cpu.get_cpu_capability()
    if capability in ATEN_WITHOUT_BF16:
        return Precision("fp32", f"CPU that torch uses as {capability} only, perhaps because of ATEN_CPU_CAPABILITY")
    for variable in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        if os.environ.get(variable, "").upper() in ONEDNN_WITHOUT_BF16:
            return Precision("fp32", f"CPU limited by {variable}={os.environ[variable]}")
    if not torch.backends.mkldnn.is_available():
        return Precision("fp32", "CPU without oneDNN in this build of torch")
    return Precision("bf16", f"CPU with {' and '.join(found)}")


def _cpu_features() -> Mapping[str, Any]:
    """What torch says of the processor."""
    if hasattr(torch.cpu, "get_capabilities"):
        return torch.cpu.get_capabilities()
    # A torch that lacks that function.
    return {
        "avx512_bf16": torch.cpu._is_avx512_bf16_supported(),
        "amx_bf16": torch.cpu._is_amx_tile_supported(),
    }


DEVICES: dict[str, Callable[[torch.device], Precision]] = {"cuda": _of_cuda, "cpu": _of_cpu}
"""By type of the device."""
