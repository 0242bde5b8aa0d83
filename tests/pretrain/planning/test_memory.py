"""The planned memory of a process is that of a real training process, within a tenth.

Measured is the peak of all tensors that torch's allocator has made, which does not depend on the machine; DeepSpeed's
buckets, two gigabytes beside models of some megabytes, are compared apart from the rest.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from sesame import configs
from sesame.pretrain.config import RunConfig
from sesame.pretrain.planning import memory
from sesame.pretrain.planning.gpus import assumptions
from sesame.pretrain.planning.plan import Planner
from sesame.pretrain.planning.rows import find
from tests.pretrain.family_runs import FAMILY_RUNS

PROCESS = Path(__file__).with_name("memory_process.py")
BOUND = 0.1

# Large enough that weights and activations, not scalars, are the memory.
STACK: dict[str, Any] = {"layers": 4, "width": 256, "heads": 8, "feed_forward_width": 1024}
TWO_STACKS: dict[str, Any] = {**STACK, "layers": 2, "decoder_layers": 2, "head_width": 32}
SIZES: dict[str, dict[str, Any]] = {
    "t5": TWO_STACKS,
    "switch": TWO_STACKS,
    "elmo": {"width": 256, "cells": 512},
}
"""Family -> changes of its run's shape; ``STACK`` for the others."""


class Case(NamedTuple):
    run: str = "bert"
    """Row of ``FAMILY_RUNS``."""
    parallel: dict[str, Any] = {}  # noqa: RUF012
    optimizer: dict[str, Any] = {}  # noqa: RUF012
    model: dict[str, Any] = {}  # noqa: RUF012


BF16 = {"precision": "bf16"}
MUON = {"name": "muon"}
AVERAGE = {"average_decay": 0.999}
SEQUENCE = {"tensor": 2, "sequence": True}
ONE = {
    "ZeRO 1": Case(),
    "ZeRO 0": Case(parallel={"zero_stage": 0}),
    "ZeRO 1, bf16": Case(parallel=BF16),
    "ZeRO 2, bf16": Case(parallel={"zero_stage": 2, **BF16}),
    "recompute": Case(parallel={"recompute": "block", "zero_stage": 0}),
    "recompute, bf16": Case("gpt", {"recompute": "block", **BF16}),
    "recompute of attention": Case(parallel={"recompute": "attention"}, model={"attention_dropout": 0.1}),
    "recompute of attention, T5": Case("t5", {"recompute": "attention"}),
    "dropout": Case(model={"dropout": 0.1, "attention_dropout": 0.1}),
    "Muon": Case(optimizer=MUON),
    "Muon, ZeRO 0": Case("gpt", {"zero_stage": 0}, MUON),
    "Muon, ELMo, bf16": Case("elmo", BF16, MUON),
    "Muon, ZeRO 2, bf16, moving average": Case("gpt", {"zero_stage": 2, **BF16}, {**MUON, **AVERAGE}),
    "moving average": Case(optimizer=AVERAGE),
    "moving average, bf16": Case(parallel=BF16, optimizer=AVERAGE),
    "moving average, offload": Case(parallel={"zero_stage": 2, "offload": "optimizer", **BF16}, optimizer=AVERAGE),
    "LAMB": Case(optimizer={"name": "lamb"}),
    **{f"ZeRO {stage}, fp16": Case("gpt", {"zero_stage": stage, "precision": "fp16"}) for stage in (1, 2, 3)},
    **{
        f"ZeRO {stage}, {precision}, offload {part}": Case(
            parallel={"zero_stage": stage, "precision": precision, "offload": part}
        )
        for stage, precision, part in (
            (1, "bf16", "optimizer"),
            (2, "bf16", "optimizer"),
            (2, "fp32", "optimizer"),
            (3, "bf16", "optimizer"),
            (3, "bf16", "parameters"),
            (3, "fp32", "parameters"),
        )
    },
    "fp8": Case(parallel={"fp8": True, **BF16}),
    "modern": Case("bert, modern"),
    "ALBERT": Case("albert"),
    "ELMo": Case("elmo", optimizer={"name": "adagrad"}),
    "GPT": Case("gpt"),
    "T5": Case("t5", optimizer={"name": "adafactor"}),
    "Switch": Case("switch"),
}
TWO = {
    "data 2, ZeRO 0": Case(parallel={"zero_stage": 0}),
    "data 2, ZeRO 1": Case(),
    "data 2, ZeRO 1, bf16": Case(parallel=BF16),
    "data 2, ZeRO 2": Case("gpt", {"zero_stage": 2}),
    "data 2, ZeRO 2, bf16": Case(parallel={"zero_stage": 2, **BF16}),
    "data 2, ZeRO 3": Case(parallel={"zero_stage": 3}),
    "data 2, ZeRO 3, bf16": Case("gpt", {"zero_stage": 3, **BF16}),
    "tensor 2": Case(parallel={"tensor": 2}),
    "tensor 2, bf16": Case("gpt", {"tensor": 2, **BF16}),
    "tensor 2, recompute": Case("t5", {"tensor": 2, "recompute": "block"}),
    "expert 2": Case("switch", {"expert": 2}),
    "tensor 2, sequence": Case("gpt", {**SEQUENCE}),
    "tensor 2, sequence, bf16, dropout": Case(parallel={**SEQUENCE, **BF16}, model={"dropout": 0.1}),
    "tensor 2, sequence, recompute": Case("t5", {**SEQUENCE, "recompute": "block"}),
    "tensor 2, sequence, experts": Case("switch", SEQUENCE),
    "tensor 2, sequence, fp8": Case("gpt", {**SEQUENCE, "fp8": True, **BF16}),
    "expert 2, bf16": Case("switch", {"expert": 2, **BF16}),
    "data 2, Muon, ZeRO 3, bf16": Case("gpt", {"zero_stage": 3, **BF16}, MUON),
    "tensor 2, Muon": Case(parallel={"tensor": 2}, optimizer=MUON),
    "expert 2, Muon, moving average": Case("switch", {"expert": 2}, {**MUON, **AVERAGE}),
}


def settings(case: Case, dataset: Path, output: Path) -> dict[str, Any]:
    run = FAMILY_RUNS[case.run]
    return {
        "output": str(output),
        "steps": 10,
        "data": {"dataset": str(dataset), "global_batch": 16, "micro_batch": 8},
        "model": {**run.model, **SIZES.get(run.model["family"], STACK), **case.model},
        "objectives": run.objectives,
        "optimizer": {"learning_rate": 1e-3, **case.optimizer},
        "parallel": {"precision": "fp32", "threads": 1, **case.parallel},
        "report": {"tensorboard": False},
    }


def planned(values: dict[str, Any], processes: int) -> dict[str, float]:
    """Return the planned peak without buckets, and the buckets."""
    run = configs.parse(values, RunConfig, "the test's run")
    text = find(Path(run.data.dataset), None, None, None)
    planner = Planner(run, text.vocabulary, text.rows, assumptions("cpu", {"fp8_tflops": 1.0}))
    layout = planner.configured(processes)
    assert layout is not None
    traced = planner.activations.of_sequences(layout.division, layout.micro_batch)
    counts = planner.counts(layout.tensor, layout.expert)
    phases = memory.phases(counts, layout, traced, run.optimizer.name, "cpu")
    return {
        # On a CPU, host memory is the device's.
        "peak": max(each.total + each.host - each.buckets for each in phases),
        "bucket": max(each.buckets for each in phases),
    }


def check(cases: dict[str, Case], processes: int, datasets: Any, world: Callable[..., Any], folder: Path) -> None:
    runs = {
        name: settings(case, datasets(FAMILY_RUNS[case.run].dataset), folder / f"run {number}")
        for number, (name, case) in enumerate(cases.items())
    }
    errors = {}
    for name, values in runs.items():
        # A process group for each: what a run leaves behind would be counted in the next one.
        (folder / "run.json").write_text(json.dumps(values))
        world(processes, PROCESS, str(folder / "run.json"), str(folder / "peaks.json"))
        measured = json.loads((folder / "peaks.json").read_text())
        plan = planned(values, processes)
        errors[name] = plan["peak"] / measured["peak"] - 1
        print(f"{name:<24}{measured['peak'] / 1e6:8.1f} MB measured, {errors[name]:+.1%} planned")
        assert plan["bucket"] == measured["bucket"], name
    assert max(map(abs, errors.values())) < BOUND, errors


def test_the_memory_of_one_process_is_as_planned(datasets: Any, world: Callable[..., Any], tmp_path: Path) -> None:
    check({name: ONE[name] for name in ("ZeRO 1, bf16",)}, 1, datasets, world, tmp_path)


@pytest.mark.slow
def test_the_memory_of_every_family_is_as_planned(datasets: Any, world: Callable[..., Any], tmp_path: Path) -> None:
    check(ONE, 1, datasets, world, tmp_path)


@pytest.mark.slow
def test_the_memory_of_two_processes_is_as_planned(datasets: Any, world: Callable[..., Any], tmp_path: Path) -> None:
    check(TWO, 2, datasets, world, tmp_path)
