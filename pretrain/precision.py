"""What ``precision = "auto"`` becomes: bf16 where the device computes it in hardware, else fp32.

Without such hardware bf16 is emulated: a training step on a CPU is then more than ten times slower than in fp32.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import torch

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
