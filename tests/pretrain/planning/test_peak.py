"""The peak of a device, and the model-FLOPs use that is reported of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sesame import configs
from sesame.configs.errors import ConfigError
from sesame.configs.machine import Device, Machine, Products
from sesame.pretrain.config import RunConfig
from sesame.pretrain.planning.peak import device_peak, gpu_peak
from sesame.pretrain.precision import Precision
from sesame.pretrain.train import train

FP32, BF16 = Precision("fp32", ""), Precision("bf16", "")

NAMES = [
    # The makers' data sheets.
    ("NVIDIA H100 80GB HBM3", "bf16", 989.4),
    ("NVIDIA H200", "bf16", 989.4),
    ("NVIDIA A100-SXM4-80GB", "bf16", 312),
    ("NVIDIA A100-PCIE-40GB", "fp32", 19.5),
    ("NVIDIA L40S", "bf16", 362),
    ("NVIDIA L4", "bf16", 121),
    ("Tesla V100-SXM2-32GB", "fp32", 15.7),
    ("Tesla V100-SXM2-32GB", "bf16", None),
    ("NVIDIA H100 PCIe", "bf16", 756.5),
    ("NVIDIA H100 PCIe", "fp32", 51),
    ("NVIDIA H100 NVL", "bf16", 835.5),
    ("NVIDIA H100 NVL", "fp32", 60),
    ("NVIDIA H200 NVL", "bf16", 835.5),
    ("NVIDIA GH200 480GB", "bf16", 989.4),
    ("NVIDIA GH200 144G HBM3e", "bf16", 989.4),
    ("NVIDIA B200", "bf16", 2250),
    ("NVIDIA GB200", "bf16", None),
    ("NVIDIA H100 64GB HBM2", "bf16", None),
    ("Quadro of nobody", "fp32", None),
]


@pytest.mark.parametrize(("name", "precision", "tflops"), NAMES)
def test_the_peak_of_a_gpu(name: str, precision: str, tflops: float | None) -> None:
    peak = gpu_peak(name, precision)
    assert peak.flops == (tflops and tflops * 1e12)
    assert name in peak.source and ("unknown" in peak.source) == (tflops is None)


def machine(folder: Path) -> Path:
    path = folder / "machine.json"
    device = Device(
        name="cpu", type="cpu", memory_bytes=1, products=Products(fp32=2e11, bf16=8e11), memory_bandwidth=1, cores=1
    )
    Machine(devices=(device,)).save(path)
    return path


def test_the_peak_of_a_cpu_is_what_doctor_measured(tmp_path: Path) -> None:
    cpu = torch.device("cpu")
    assert device_peak(cpu, FP32, None).flops is None
    assert "sesame doctor --output" in device_peak(cpu, FP32, None).source
    assert device_peak(cpu, FP32, machine(tmp_path)).flops == 2e11
    assert device_peak(cpu, BF16, machine(tmp_path)).flops == 8e11
    with pytest.raises(ConfigError, match=r"no such file; write it with `sesame doctor --output"):
        device_peak(cpu, FP32, tmp_path / "absent.json")


def test_model_flops_use_is_flops_over_peak(settings: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    values = settings(report={"machine": str(machine(tmp_path))}, steps=2)
    train(configs.parse(values, RunConfig, "the test's run"))
    row = json.loads((Path(values["output"]) / "metrics.jsonl").read_text().splitlines()[0])
    assert row["model_flops_use"] == pytest.approx(row["teraflops"] / 0.2, abs=1e-5), "it has five decimals"
    start = json.loads((Path(values["output"]) / "run.jsonl").read_text().splitlines()[0])["start"]
    assert start["peak_flops"] == 2e11 and "machine.json" in start["peak_source"]
