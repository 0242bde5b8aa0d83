"""Speed of each process's device: copies in memory (as STREAM's, McCalpin 1995) and matrix products."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Any

from sesame.launch.doctor.check import Answer, Finding, Level, Verdict
from sesame.launch.doctor.context import Context, device
from sesame.launch.doctor.data_sheets import DataSheet, data_sheet
from sesame.launch.doctor.slow import slower

COPY_BYTES = {"cpu": 2**28, "cuda": 2**30}
"""More than any cache, by device type."""
SIZES = {"cpu": 1024, "cuda": 8192}
"""Rows and columns of the matrices, by device type."""
PRECISIONS = ("fp32", "bf16")
SECONDS, QUICK_SECONDS = 2.0, 0.5
"""Time of one measurement."""
LEAST_SHARE = {"fp32": 0.6, "bf16": 0.5, "memory": 0.6}
"""Of the data sheet. Large products reach 70 to 85 % of bf16, because the clock falls under power."""


def measure_memory(context: Context) -> dict[str, Any]:
    """Bytes read and written per second by copying one tensor to another."""
    import torch

    chosen = device(context)
    torch.set_num_threads(context.cores)
    source = torch.ones(COPY_BYTES[chosen.type], dtype=torch.uint8, device=chosen)
    target = torch.empty_like(source)
    seconds = _seconds(lambda: target.copy_(source), _budget(context), _synchronize(chosen))
    return {"name": _name(chosen), "bandwidth": 2 * source.numel() / seconds}


def measure_products(context: Context) -> dict[str, Any]:
    """Floating-point operations per second of square matrix products, by precision."""
    import torch

    chosen = device(context)
    torch.set_num_threads(context.cores)
    size, speeds = SIZES[chosen.type], {}
    for precision in PRECISIONS:
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
        left = torch.rand(size, size, device=chosen).to(dtype)
        right = torch.rand(size, size, device=chosen).to(dtype)
        product = partial(context.instruments.multiply, left, right)
        seconds = _seconds(product, _budget(context), _synchronize(chosen))
        speeds[precision] = 2 * size**3 / seconds
    return {"name": _name(chosen), **speeds}


def _seconds(work: Callable[[], Any], budget: float, synchronize: Callable[[], None]) -> float:
    """Median time of some runs within ``budget`` seconds, after one that is not counted."""
    work()
    synchronize()
    times: list[float] = []
    end = time.perf_counter() + budget
    while len(times) < 3 or time.perf_counter() < end:
        begin = time.perf_counter()
        work()
        synchronize()
        times.append(time.perf_counter() - begin)
    return median(times)


def _budget(context: Context) -> float:
    return QUICK_SECONDS if context.quick else SECONDS


def _synchronize(chosen: Any) -> Callable[[], None]:
    import torch

    return torch.cuda.synchronize if chosen.type == "cuda" else lambda: None


def _name(chosen: Any) -> str:
    import torch

    return torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else "cpu"


def judge_memory(answers: Sequence[Answer]) -> Verdict:
    speeds = {answer.process: answer.value["bandwidth"] for answer in answers}
    found = slower(speeds, "copies memory", "GB/s", 1e9)
    for answer in answers:
        if sheet := data_sheet(answer.value["name"]):
            found += _below_sheet(answer, "memory", answer.value["bandwidth"] / 1e9, sheet.bandwidth, "GB/s")
    return Verdict(f"{_range(list(speeds.values()), 1e9)} GB/s for each process", found)


def judge_products(answers: Sequence[Answer]) -> Verdict:
    found: list[Finding] = []
    for precision in PRECISIONS:
        speeds = {answer.process: answer.value[precision] for answer in answers}
        found += slower(speeds, f"multiplies {precision}", "TFLOP/s", 1e12)
        for answer in answers:
            if (sheet := data_sheet(answer.value["name"])) and (best := _of_sheet(sheet, precision)):
                found += _below_sheet(answer, precision, answer.value[precision] / 1e12, best, "TFLOP/s")
    shown = (f"{each} {_range([answer.value[each] for answer in answers], 1e12)}" for each in PRECISIONS)
    sheet = data_sheet(answers[0].value["name"])
    expected = f" (data sheet: fp32 {sheet.fp32:,.0f}, bf16 {sheet.bf16 or 0:,.0f})" if sheet else ""
    return Verdict(f"{', '.join(shown)} TFLOP/s for each process{expected}", found)


def _of_sheet(sheet: DataSheet, precision: str) -> float | None:
    return {"fp32": sheet.fp32, "bf16": sheet.bf16}[precision]


def _below_sheet(answer: Answer, what: str, speed: float, expected: float, unit: str) -> list[Finding]:
    if speed >= LEAST_SHARE[what] * expected:
        return []
    sentence = (
        f"{answer.process}: {what} reaches {speed:,.0f} {unit}, {speed / expected:.0%} of the data sheet of "
        f"{answer.value['name']}"
    )
    change = "look at nvidia-smi for other processes, a power limit, throttling and MIG"
    return [Finding(Level.SLOW, sentence, change)]


def _range(values: Sequence[float], scale: float) -> str:
    low, high = min(values) / scale, max(values) / scale
    digits = 2 if high < 10 else 0
    shown = f"{low:,.{digits}f}", f"{high:,.{digits}f}"
    return shown[0] if shown[0] == shown[1] else f"{shown[0]} to {shown[1]}"
