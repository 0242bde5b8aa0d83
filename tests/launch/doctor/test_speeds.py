"""What the checks of speed and training find in measured values."""

from typing import Any

import pytest

from sesame.launch.doctor import (
    devices,
    hosts,
    interconnect,
    layers,
    speed,
    training,
)
from sesame.launch.doctor.slow import slower
from tests.launch.doctor.judging import answers, sentences


def test_the_slow_ones_are_named() -> None:
    assert not slower({"a": 1.0}, "writes", "MB/s", 1.0)
    assert not slower({"a": 100.0, "b": 90.0, "c": 85.0}, "writes", "MB/s", 1.0)
    found = slower({"a": 100.0, "b": 50.0, "c": 102.0, "d": 101.0}, "writes", "MB/s", 1.0)
    assert [each.what for each in found] == ["b writes at 50.00 MB/s, 50% below the median of 101.00"]
    assert len(slower({"a": 100.0, "b": 50.0}, "writes", "MB/s", 1.0)) == 1


def test_a_gpu_below_its_data_sheet_and_a_gpu_that_is_not_in_the_table() -> None:
    name = "NVIDIA H100 80GB HBM3"
    slow, good = {"name": name, "fp32": 50e12, "bf16": 200e12}, {"name": name, "fp32": 50e12, "bf16": 700e12}
    assert not speed.judge_products(answers(good)).findings
    (sentence,) = sentences(speed.judge_products(answers(slow)))
    assert "bf16 reaches 200 TFLOP/s, 20% of the data sheet of NVIDIA H100" in sentence and "nvidia-smi" in sentence
    assert not speed.judge_products(answers(slow | {"name": "another"})).findings
    assert "memory reaches 1,000 GB/s" in sentences(speed.judge_memory(answers({"name": name, "bandwidth": 1e12})))[0]


def test_devices_that_differ_and_gpus_that_torch_does_not_find() -> None:
    cpu = {"type": "cpu", "cores": 4, "precision": "bf16", "why": "AMX", "name": "Xeon", "memory_bytes": 2**34}
    good, without, old = cpu | {"unused_gpus": 0}, cpu | {"unused_gpus": 8}, cpu | {"unused_gpus": 0, "name": "Atom"}
    assert not devices.judge(answers(good, good)).findings
    assert "process 0 (n0) finds no GPU, but the machine has 8" in sentences(devices.judge(answers(without)))[0]
    (sentence,) = sentences(devices.judge(answers(good, good, old)))
    assert "devices differ: process 2 (n2) has Atom" in sentence


def test_a_busy_machine_and_a_slow_network() -> None:
    assert not hosts.judge(answers({"load": 0.5, "cores": 2})).findings
    assert "n0 is busy: a load of 9.0 on 2 cores" in sentences(hosts.judge(answers({"load": 9.0, "cores": 2})))[0]
    slow = {"type": "cuda", "one_machine": False, "all": {"268435456": 2.0, "4096": 0.001}, "machine": {}}
    (sentence,) = sentences(interconnect.judge_reduction(answers(slow, slow)))
    assert "move 0.13 GB/s" in sentence and "NCCL_SOCKET_IFNAME" in sentence
    assert not interconnect.judge_reduction(answers(*[slow | {"all": {"268435456": 0.02}}] * 2)).findings


def trained(**changes: Any) -> dict[str, Any]:
    losses = [9.0 - step * 0.05 for step in range(40)]
    speeds = {"tokens_per_second": 1e4, "flops_per_second": 1e11}
    return {"losses": losses, "is_finite": True, "digest": "a", "precision": "bf16", **speeds, **changes}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, None),
        ({"digest": "b"}, "BAD process 1 (n1) has other weights than process 0"),
        ({"is_finite": False}, "BAD process 1 (n1) trained to a loss or gradient that is not finite"),
    ],
)
def test_a_process_that_trains_otherwise_is_named(change: dict[str, Any], expected: str | None) -> None:
    found = sentences(training.judge(answers(trained(), trained(**change))))
    assert len(found) == bool(expected)
    assert expected is None or found[0].startswith(expected)


def test_a_loss_that_does_not_fall() -> None:
    assert sentences(training.judge(answers(trained(losses=[9.0] * 40))))[0].startswith("BAD the loss fell from 9.00")
    assert sentences(training.judge(answers(trained(losses=[9.0] * 4))))[0].startswith("SLOW only 4 steps")


RATES = {"flops": 1e11, "operand_bandwidth": 2.5e10, "bandwidth": 1e10, "new_product_seconds": 1e-3}


@pytest.mark.parametrize(
    ("immeasurable", "text"),
    [
        ((), "fp32: products 0.10 TFLOP/s, their operands 25.0 GB/s, other work 10.0 GB/s, 1.0 ms for a product of"),
        (
            ("operand_bandwidth",),
            "fp32: products 0.10 TFLOP/s, other work 10.0 GB/s, 1.0 ms for a product of a new size",
        ),
        (("flops", "bandwidth"), "fp32: their operands 25.0 GB/s, 1.0 ms for a product of a new size"),
    ],
)
def test_what_takes_no_measurable_time_is_not_shown_as_a_speed(immeasurable: tuple[str, ...], text: str) -> None:
    rates = RATES | dict.fromkeys(immeasurable, 1e18)
    assert layers.judge(answers({"fp32": rates, "bf16": rates})).text.startswith(text)
