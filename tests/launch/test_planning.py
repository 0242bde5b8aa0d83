"""``sesame plan``: what it prints, and what it refuses."""

import io
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from sesame.launch.planning import figures
from sesame.launch.planning.tables import print_layouts
from sesame.pretrain.planning.gpus import Assumptions, assumptions, find
from sesame.pretrain.planning.layout import Layout
from sesame.pretrain.planning.memory import Memory
from sesame.pretrain.planning.plan import Plan
from sesame.pretrain.planning.step_time import StepTime
from tests.launch.conftest import Command, UserError

DEVICE = {
    "name": "one core",
    "type": "cpu",
    "memory_bytes": 2**34,
    "products": {"fp32": 1e11, "bf16": 1e11},
    "memory_bandwidth": 1e10,
    "cores": 1,
}


def machine_file(folder: Path, **changes: Any) -> Path:
    values = {"format": 1, "devices": [DEVICE], "reduction_bandwidth": None, "training": None, **changes}
    path = folder / "machine.json"
    path.write_text(json.dumps(values))
    return path


def test_a_plan_says_everything(sesame: Command) -> None:
    code, out, _ = sesame("plan", "bert_small", "--gpus", "2", "--gpu", "a100-40gb")
    assert code == 0
    assert "1,359,618" in out
    for word in (
        "full rows of small_next_sentence.toml",
        "tokens/s",
        "device-hours",
        "Wh",
        "dollars",
        "parallel.zero_stage",
    ):
        assert word in out, word
    for name in Assumptions.model_fields:
        assert name in out, name
    assert re.search(r"why: .*\n  \S", out)


def layouts_table(*plans: tuple[Layout, float]) -> list[str]:
    """Return the lines of the table, for layouts that take so many GiB."""
    time = StepTime(100.0, *[0.0] * 8)
    made = [Plan(layout, Memory(gib * 2**30, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, "backward"), time) for layout, gib in plans]
    file = io.StringIO()
    planner = SimpleNamespace(assumed=assumptions("a100-40gb", {}))
    print_layouts(planner, 64, made, Console(file=file, width=80))
    return [line.strip() for line in file.getvalue().splitlines()]


def test_the_table_of_layouts_fits_into_eighty_columns() -> None:
    wide = Layout(8, 16, 2048, 3, "attention", "bf16", 128, 1024, True, "parameters")
    title, heading, _, *rows = layouts_table((wide, 30.25), (wide, 300.25))
    assert title == "64 x 39.6 GiB: 1 of 2 layouts fit (–: does not)"
    assert heading == "tensor      data experts ZeRO recompute offload    micro-batch memory    s/step"
    assert rows == [
        "8, sequence 16   2048    3    attention parameters 128 x 1024  30.2 GiB  100",
        "8, sequence 16   2048    3    attention parameters 128 x 1024  300.2 GiB –",
    ]


def test_columns_that_say_nothing_are_left_out() -> None:
    plain = Layout(1, 64, 1, 2, "none", "bf16", 8, 1)
    assert layouts_table((plain, 30.0)) == [
        "64 x 39.6 GiB: 1 of 1 layouts fit",
        "tensor data ZeRO recompute micro-batch memory   s/step",
        "─" * 54,
        "1      64   2    none      8 x 1       30.0 GiB 100",
    ]


def test_an_assumption_changes_the_plan(sesame: Command) -> None:
    def dollars(*options: str) -> float:
        _, out, _ = sesame("plan", "gpt2_small", "--gpus", "1", "--as-configured", *options)
        found = re.search(r"([\d,.]+) dollars", out)
        assert found
        return float(found[1].replace(",", ""))

    assert dollars("--assume", "price=3e6") == pytest.approx(10 * dollars("--assume", "price=3e5"), rel=0.02)


def test_memory_alone_finds_the_fewest_devices(sesame: Command) -> None:
    code, out, _ = sesame("plan", "bert_small", "--for-memory-of", "24")
    assert code == 0
    assert re.search(r"1 x 24\.0 GiB", out)


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("H100-80GB", "h100-80gb"),
        ("h100", "h100-80gb"),
        ("H100 PCIe", "h100-pcie"),
        ("H200", "h200"),
        ("RTX 4090", "rtx4090"),
        ("l4", "l4"),
        ("CPU", "cpu"),
    ],
)
def test_a_device_may_be_written_otherwise(name: str, row: str) -> None:
    assert find(name) == row


def test_the_device_whose_speed_is_assumed_is_named(sesame: Command) -> None:
    _, out, _ = sesame("plan", "bert_small", "--for-memory-of", "24")
    assert "speeds, power and price are those of h100-80gb; name your device with --gpu" in out
    _, out, _ = sesame("plan", "bert_small", "--for-memory-of", "24", "--gpu", "L40S")
    assert "are those of" not in out and "assumptions (l40s)" in out


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (figures.figure(0.00097712), "0.000977"),
        (figures.figure(46_830.7), "46,831"),
        (figures.count(104_857_600_000), "105 billion"),
        (figures.count(524_288), "524,288"),
        (figures.flops(2.76e22), "2.76e22"),
        (figures.energy(3.93e6), "3.93 MWh"),
        (figures.energy(12.0), "12 Wh"),
        (figures.disk(2.0959e12), "2.1 TB"),
        (figures.dollars(14029.6), "14,030 dollars"),
        (figures.dollars(2.04), "2.04 dollars"),
    ],
)
def test_figures_have_no_exponents_and_a_unit_that_fits(shown: str, expected: str) -> None:
    assert shown == expected


def test_a_machines_file_replaces_the_table(sesame: Command, tmp_path: Path) -> None:
    path = machine_file(tmp_path)
    code, out, _ = sesame("plan", "bert_small", "--machine", path, "--as-configured")
    assert code == 0
    assert re.search(r"fp32_tflops\s+│ 0\.1 ", out)
    assert re.search(r"memory_gib\s+│ 16 ", out)


@pytest.mark.parametrize(
    ("name", "tflops"), [("NVIDIA H100 80GB HBM3", "1,?979"), ("NVIDIA A100-SXM4-40GB", "0"), ("a card", "0")]
)
def test_a_measured_gpu_has_the_fp8_of_its_data_sheet(
    name: str, tflops: str, sesame: Command, user_error: UserError, tmp_path: Path
) -> None:
    path = machine_file(tmp_path, devices=[{**DEVICE, "type": "cuda", "name": name}])
    _, out, _ = sesame("plan", "bert_small", "--machine", path, "--as-configured")
    assert re.search(rf"fp8_tflops\s+│ {tflops} ", out)
    if tflops == "0":
        error = user_error("plan", "bert_small", "--machine", path, "--set", "parallel.fp8=true")
        assert "parallel.fp8: the device of this plan has no products in fp8" in error


def test_what_cannot_fit_is_refused_with_what_does(user_error: UserError) -> None:
    error = user_error("plan", "bert_small", "--gpus", "1", "--assume", "memory_gib=1.52")
    assert re.search(r"needs at least \d+\.\d MiB on each of 1 devices", error)
    assert "what does: 2 devices of this kind" in error


def test_a_layout_that_does_not_fit_names_the_nearest(user_error: UserError) -> None:
    error = user_error("plan", "bert_small", "--gpus", "1", "--assume", "memory_gib=1.6", "--as-configured")
    assert re.search(r"micro-batches of 128 needs 1\d\d\.\d MiB", error)
    assert error.endswith("--set parallel.recompute=block\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--gpu", "tpu"), "--gpu tpu: is not in the table"),
        (("--gpu", "A100"), "--gpu A100: give one of a100-80gb, a100-40gb"),
        (("--assume", "prise=1"), "prise"),
        (("--assume", "efficiency=2.0"), "efficiency"),
        (("--assume", "price"), "--assume price: write it as"),
        (("--assume", "reserve_gib=90.0"), "reserve_gib"),
        (("--machine", "no.json"), "sesame doctor --output no.json"),
        (("--set", "data.dataset=elsewhere"), "--corpus"),
        (("--gpus", "3", "--as-configured"), "do not divide 3 devices"),
        (("--gpus", "7"), "cannot be divided over 7 devices"),
    ],
)
def test_bad_options_are_one_sentence(options: tuple[str, ...], message: str, user_error: UserError) -> None:
    assert message in user_error("plan", "bert_small", *options)


def test_a_damaged_machines_file_is_refused(tmp_path: Path, user_error: UserError) -> None:
    path = machine_file(tmp_path, devices=[])
    assert "machine.json" in user_error("plan", "bert_small", "--machine", path)
