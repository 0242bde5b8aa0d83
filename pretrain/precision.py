"""The choice of ``precision = "auto"``: bf16 if the device computes it in hardware, else fp32.

Emulated bf16 is slow: a training step on a CPU takes more than ten times as long as in fp32.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import torch

CPU_FEATURES = {"avx512_bf16": "AVX-512 BF16", "amx_bf16": "AMX"}
"""torch's name of CPU instructions that multiply bf16 -> their usual name."""
ATEN_WITHOUT_BF16 = ("DEFAULT", "NO AVX", "AVX2")
"""Values of ``torch.backends.cpu.get_cpu_capability()`` with which torch does not use those instructions."""
ONEDNN_WITHOUT_BF16 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI")
"""Values of ``ONEDNN_MAX_CPU_ISA`` with which oneDNN, which computes torch's bf16 products, does not use them."""


class Precision(NamedTuple):
    """A number format and the reason for it."""

    name: Literal["fp32", "bf16", "fp16"]
    reason: str

    def __str__(self) -> str:
        return f"{self.name} ({self.reason})"


def of_device(device: torch.device) -> Precision:
    """Return bf16 if ``device`` computes it in hardware, else fp32."""
    return PRECISION_OF_DEVICE[device.type](device)


def computes_fp16(device: torch.device) -> bool:
    """Whether ``device`` can train in fp16: every GPU, and CPUs with AVX-512 FP16 or AMX FP16."""
    return device.type == "cuda" or bool(torch.ops.mkldnn._is_mkldnn_fp16_supported())


def lacks_fp8(device: torch.device) -> str:
    """Return why ``device`` does not multiply in fp8, empty if it does; a CPU does in fp32."""
    if device.type == "cpu":
        return ""
    if torch.version.hip:
        return "AMD's GPUs, of which some have other formats, are not supported"
    capability = torch.cuda.get_device_capability(device)
    return "" if capability >= (8, 9) else "a GPU of compute capability {}.{}; fp8 begins at 8.9".format(*capability)


def _of_cuda(device: torch.device) -> Precision:
    major, minor = torch.cuda.get_device_capability(device)
    # AMD numbers its GPUs differently; all that ROCm supports have bf16.
    if major >= 8 or torch.version.hip:
        return Precision("bf16", f"GPU of compute capability {major}.{minor}")
    return Precision("fp32", f"GPU of compute capability {major}.{minor}, bf16 begins at 8.0")


def _of_cpu(device: torch.device) -> Precision:
    available = _cpu_features()
    features = [title for name, title in CPU_FEATURES.items() if available.get(name)]
    if not features:
        return Precision("fp32", f"CPU without {' and '.join(CPU_FEATURES.values())}")
    # The features are the processor's; torch and oneDNN can be restricted to fewer.
    capability = torch.backends.cpu.get_cpu_capability()
    if capability in ATEN_WITHOUT_BF16:
        return Precision("fp32", f"CPU that torch uses as {capability} only, perhaps because of ATEN_CPU_CAPABILITY")
    for variable in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        if os.environ.get(variable, "").upper() in ONEDNN_WITHOUT_BF16:
            return Precision("fp32", f"CPU limited by {variable}={os.environ[variable]}")
    if not torch.backends.mkldnn.is_available():
        return Precision("fp32", "CPU without oneDNN in this build of torch")
    return Precision("bf16", f"CPU with {' and '.join(features)}")


def _cpu_features() -> Mapping[str, Any]:
    """Return the processor's features by torch's names."""
    if hasattr(torch.cpu, "get_capabilities"):
        return torch.cpu.get_capabilities()
    # Older versions of torch.
    return {
        "avx512_bf16": torch.cpu._is_avx512_bf16_supported(),
        "amx_bf16": torch.cpu._is_amx_tile_supported(),
    }


PRECISION_OF_DEVICE: dict[str, Callable[[torch.device], Precision]] = {"cuda": _of_cuda, "cpu": _of_cpu}
"""By device type."""
