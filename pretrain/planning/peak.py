"""The peak that a run's model-FLOPs use is a share of."""

import re
from pathlib import Path
from typing import NamedTuple

import torch

from sesame.configs.machine import Machine
from sesame.pretrain.planning.gpus import ROWS, assumptions
from sesame.pretrain.precision import Precision

GPUS = {
    r"\bB200": "b200",
    r"\bH200 NVL": "h200-nvl",
    r"\bH200": "h200",
    r"\bGH200": "gh200",
    r"H100 80GB HBM3": "h100-80gb",
    r"H100 NVL": "h100-nvl",
    r"H100 PCIe": "h100-pcie",
    r"A100.*80GB": "a100-80gb",
    r"A100.*40GB": "a100-40gb",
    r"V100.*32GB": "v100-32gb",
    r"V100.*16GB": "v100-16gb",
    r"L40S": "l40s",
    r"\bL4\b": "l4",
    r"RTX 5090": "rtx5090",
    r"RTX 4090": "rtx4090",
    r"MI300X": "mi300x",
}
"""Regular expression that is found in the name of a device -> its row in the table of devices; the first one counts.
Other forms of a GPU have other peaks."""


class Peak(NamedTuple):
    """The most floating-point operations that the device of one process can do in a second."""

    flops: float | None
    """None if it is unknown."""
    source: str


def device_peak(device: torch.device, precision: Precision, machine: Path | None) -> Peak:
    """Return the peak of this process's device for matrix products.

    Args:
        machine: file of ``sesame doctor --output``, whose measured products count instead of a data sheet.

    Raises:
        ConfigError: the file is missing or damaged.
    """
    if machine is not None:
        measured = Machine.load(machine).devices[0]
        flops = measured.products.fp32 if precision.name == "fp32" else measured.products.bf16
        return Peak(flops, f"{flops / 1e12:.3g} TFLOP/s of {precision.name} products of {measured.name}, in {machine}")
    if device.type == "cpu":
        return Peak(None, "unknown: measure it with `sesame doctor --output FILE` and set report.machine to that file")
    return gpu_peak(torch.cuda.get_device_name(device), precision.name)


def row_of(name: str) -> str | None:
    """Return the row of a GPU in the table of devices, None if it has none."""
    return next((row for pattern, row in GPUS.items() if re.search(pattern, name)), None)


def gpu_peak(name: str, precision: str) -> Peak:
    """Return the peak of a GPU by its data sheet."""
    row = row_of(name)
    if row is None:
        return Peak(None, f"unknown: {name} is not in the table of devices ({', '.join(ROWS)})")
    sheet = assumptions(row, {})
    tflops = sheet.fp32_tflops if precision == "fp32" else sheet.bf16_tflops
    if not tflops:
        return Peak(None, f"unknown: the table has no {precision} products of {name}")
    return Peak(tflops * 1e12, f"{tflops:g} TFLOP/s of dense {precision} products, data sheet of {name}")
