"""``precision = "auto"``: its value on each kind of device; a resumed run keeps it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sesame import configs
from sesame.configs.errors import ConfigError
from sesame.pretrain import precision
from sesame.pretrain.checkpoints import record
from sesame.pretrain.config import RunConfig
from sesame.pretrain.parallel import agreed_precision
from sesame.pretrain.parallel.config import ParallelConfig
from sesame.pretrain.precision import Precision
from sesame.pretrain.train import train

Settings = Callable[..., dict[str, Any]]
CPU = torch.device("cpu")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Precision]:
    """``processor(features, capability, **environment)``: the precision of a CPU that torch describes in this way."""

    def get(features: set[str], capability: str = "AVX512", onednn: bool = True, **environment: str) -> Precision:
        available = dict.fromkeys(features, True)
        for variable in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
            monkeypatch.delenv(variable, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(precision, "_cpu_features", lambda: available)
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: onednn)
        return precision.of_device(CPU)

    return get


@pytest.mark.parametrize("features", [{"avx512_bf16"}, {"amx_bf16"}, {"avx512_bf16", "amx_bf16", "avx2"}])
def test_a_processor_with_bf16_instructions_computes_in_bf16(processor, features: set[str]) -> None:
    assert processor(features).name == "bf16"
    assert processor(features, ONEDNN_MAX_CPU_ISA="AVX512_CORE_AMX").name == "bf16"


@pytest.mark.parametrize(
    ("arguments", "environment", "reason"),
    [
        (({"avx2", "avx512_f", "avx_ne_convert"},), {}, "without AVX-512 BF16 and AMX"),
        (({"bf16", "sve_bf16"}, "DEFAULT"), {}, "without AVX-512 BF16 and AMX"),
        (({"avx512_bf16"}, "AVX2"), {}, "ATEN_CPU_CAPABILITY"),
        (({"avx512_bf16"},), {"ONEDNN_MAX_CPU_ISA": "AVX2"}, "ONEDNN_MAX_CPU_ISA=AVX2"),
        (({"avx512_bf16"},), {"DNNL_MAX_CPU_ISA": "avx512_core"}, "DNNL_MAX_CPU_ISA=avx512_core"),
        (({"avx512_bf16"}, "AVX512", False), {}, "without oneDNN"),
    ],
)
def test_any_other_processor_computes_in_fp32_and_the_reason_is_given(
    processor, arguments, environment, reason: str
) -> None:
    chosen = processor(*arguments, **environment)
    assert chosen.name == "fp32" and reason in chosen.reason


@pytest.mark.parametrize(
    ("capability", "name"), [((7, 0), "fp32"), ((7, 5), "fp32"), ((8, 0), "bf16"), ((12, 0), "bf16")]
)
def test_a_gpu_computes_in_bf16_from_ampere_on(capability, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert precision.of_device(torch.device("cuda", 0)).name == name


HARDWARE, NONE = Precision("bf16", "CPU with AMX"), Precision("fp32", "CPU without")


@pytest.mark.parametrize(
    ("parallel", "resumed", "processes", "expected"),
    [
        ({}, None, [HARDWARE], ("bf16", "CPU with AMX")),
        ({}, None, [NONE], ("fp32", "CPU without")),
        ({}, None, [HARDWARE, NONE, HARDWARE], ("fp32", "process 1 of 3 has a CPU without")),
        ({"zero_stage": 0}, None, [HARDWARE], ("fp32", "zero_stage 0 has no bf16")),
        ({}, "fp32", [HARDWARE], ("fp32", "as its checkpoint")),
        ({}, "bf16", [NONE], ("bf16", "as its checkpoint; slow here: CPU without")),
        ({"precision": "fp32"}, "bf16", [HARDWARE], ("fp32", "as configured")),
        ({"precision": "bf16"}, "fp32", [NONE], ("bf16", "as configured; slow here: CPU without")),
    ],
)
def test_precedence_of_setting_checkpoint_and_device(
    parallel, resumed, processes, expected, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "of_device", lambda device: processes[0])
    config = configs.parse(parallel, ParallelConfig, "run.toml")
    record = {"parallel": {"precision": resumed}} if resumed else None
    resolved, chosen = agreed_precision.resolve(config, CPU, record, lambda local: [local, *processes[1:]])
    assert (resolved.precision, chosen) == (expected[0], Precision(*expected))


def test_resuming_in_bf16_with_zero_0_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    record = {"parallel": {"precision": "bf16"}}
    with pytest.raises(ConfigError, match=r"zero_stage 0 has no bf16.*zero_stage 1 or parallel\.precision = 'fp32'"):
        agreed_precision.resolve(ParallelConfig(zero_stage=0), CPU, record, lambda local: [local])


def test_a_resumed_run_keeps_its_precision(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    resolved = []
    for steps, available, configured in (
        (1, HARDWARE, "auto"),
        (2, NONE, "auto"),
        (3, NONE, "fp32"),
        (4, HARDWARE, "auto"),
    ):
        monkeypatch.setattr(precision, "of_device", lambda device, available=available: available)
        values = settings(steps=steps, parallel={"precision": configured})
        folder = train(configs.parse(values, RunConfig, "run.toml"))
        resolved.append(record.read(folder).config["parallel"]["precision"])
    assert resolved == ["bf16", "bf16", "fp32", "fp32"]
    started = [line for line in capsys.readouterr().out.splitlines() if "bert with" in line]
    reasons = ("bf16 (CPU with AMX)", "bf16 (as its checkpoint; slow here: CPU without)")
    reasons += ("fp32 (as configured)", "fp32 (as its checkpoint)")
    assert [reason in line for reason, line in zip(reasons, started, strict=True)] == [True] * 4


PROGRAM = """
import torch
from sesame.pretrain.precision import of_device
print(of_device(torch.device("cpu")).name)
"""


def precision_in_a_process(**environment: str) -> str:
    limits = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
    kept = {name: value for name, value in os.environ.items() if name not in limits}
    command = [sys.executable, "-c", PROGRAM]
    return subprocess.run(
        command, env={**kept, "PYTHONPATH": str(ROOT), **environment}, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_a_processor_that_is_limited_to_avx2_computes_in_fp32() -> None:
    assert precision_in_a_process(ATEN_CPU_CAPABILITY="avx2") == "fp32"


def test_this_processor_computes_in_bf16_where_linux_lists_the_instructions() -> None:
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text().split() if cpuinfo.exists() else []
    if not {"avx512_bf16", "amx_bf16"} & set(flags):
        pytest.skip("this processor has no bf16 instructions")
    assert precision_in_a_process() == "bf16"
