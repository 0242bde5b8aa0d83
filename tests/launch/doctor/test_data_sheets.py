"""The table of GPUs that ``sesame doctor`` compares with, and that of ``sesame plan``."""

import re

import pytest

from sesame.launch.doctor.data_sheets import data_sheet
from sesame.pretrain.planning.gpus import assumptions
from sesame.pretrain.planning.peak import GPUS, gpu_peak
from tests.pretrain.planning.test_peak import NAMES


@pytest.mark.parametrize(
    ("name", "bf16"),
    [
        ("NVIDIA H100 80GB HBM3", 989.0),
        ("NVIDIA H100 PCIe", 756.0),
        ("NVIDIA H200", 989.0),
        ("NVIDIA H200 NVL", 835.0),
        ("NVIDIA GH200 480GB", 989.0),
        ("NVIDIA A100-SXM4-40GB", 312.0),
        ("NVIDIA A10", 125.0),
        ("NVIDIA L4", 121.0),
        ("NVIDIA L40S", 362.0),
        ("Tesla T4", None),
    ],
)
def test_the_name_of_a_gpu_finds_its_data_sheet(name: str, bf16: float | None) -> None:
    sheet = data_sheet(name)
    assert sheet is not None and sheet.bf16 == bf16


@pytest.mark.parametrize("name", [name for name, precision, _ in NAMES if precision == "bf16"])
def test_both_tables_of_gpus_have_the_same_speeds(name: str) -> None:
    """What ``sesame doctor`` expects of a GPU is what ``sesame plan`` and training take as its peak."""
    for precision in ("fp32", "bf16"):
        peak, sheet = gpu_peak(name, precision), data_sheet(name)
        if peak.flops is not None:
            assert sheet is not None
            assert getattr(sheet, precision) == pytest.approx(peak.flops / 1e12, rel=1e-3)
            row = next(row for pattern, row in GPUS.items() if re.search(pattern, name))
            assert sheet.bandwidth == assumptions(row, {}).memory_bandwidth
