"""Speeds of GPUs as their makers give them: dense matrix products without sparsity, and memory."""

import re
from typing import NamedTuple


class DataSheet(NamedTuple):
    """Highest speeds of one kind of GPU."""

    pattern: str
    """Regular expression that is found in the device's name."""
    fp32: float
    """TFLOP/s of fp32, without TF32."""
    bf16: float | None
    """TFLOP/s of bf16 with fp32 sums; None: not in hardware."""
    bandwidth: float
    """GB/s of memory."""


DATA_SHEETS = (
    DataSheet(r"B200", 75.0, 2250.0, 7700.0),
    DataSheet(r"GH200", 67.0, 989.0, 4000.0),
    DataSheet(r"H200 NVL", 60.0, 835.0, 4800.0),
    DataSheet(r"H200", 67.0, 989.0, 4800.0),
    DataSheet(r"H100 NVL", 60.0, 835.0, 3900.0),
    DataSheet(r"H100 PCIe", 51.0, 756.0, 2000.0),
    DataSheet(r"H100", 67.0, 989.0, 3350.0),
    DataSheet(r"H800", 67.0, 989.0, 3350.0),
    DataSheet(r"H20\b", 44.0, 148.0, 4000.0),
    DataSheet(r"A100.*40GB", 19.5, 312.0, 1555.0),
    DataSheet(r"A100", 19.5, 312.0, 2039.0),
    DataSheet(r"A800", 19.5, 312.0, 2039.0),
    DataSheet(r"A40\b", 37.4, 149.7, 696.0),
    DataSheet(r"A30\b", 10.3, 165.0, 933.0),
    DataSheet(r"A10\b", 31.2, 125.0, 600.0),
    DataSheet(r"L40S", 91.6, 362.0, 864.0),
    DataSheet(r"L40\b", 90.5, 181.0, 864.0),
    DataSheet(r"L4\b", 30.3, 121.0, 300.0),
    DataSheet(r"RTX 6000 Ada", 91.1, 364.2, 960.0),
    DataSheet(r"RTX A6000", 38.7, 154.8, 768.0),
    DataSheet(r"RTX 4090", 82.6, 165.2, 1008.0),
    DataSheet(r"RTX 3090", 35.6, 71.0, 936.0),
    DataSheet(r"V100", 15.7, None, 900.0),
    DataSheet(r"\bT4\b", 8.1, None, 320.0),
    DataSheet(r"MI300X", 163.4, 1307.4, 5300.0),
    DataSheet(r"MI250X", 47.9, 383.0, 3277.0),
)
"""The first row whose pattern is found counts. From the data sheets, of the SXM form unless the name says PCIe."""


def data_sheet(name: str) -> DataSheet | None:
    """The row of a device's name; None for a device that is not in the table."""
    return next((sheet for sheet in DATA_SHEETS if re.search(sheet.pattern, name)), None)
