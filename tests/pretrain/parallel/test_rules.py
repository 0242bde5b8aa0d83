"""Combinations of settings that are refused, and what their sentences say to use instead."""

import itertools
import re
from types import SimpleNamespace
from typing import Any, Literal

import pytest

from sesame import configs
from sesame.configs.errors import ConfigError
from sesame.pretrain.parallel.config import ParallelConfig
from sesame.pretrain.precision import Precision
from sesame.pretrain.start import describe

VALUES: dict[str, tuple[Any, ...]] = {
    "tensor": (1, 2),
    "expert": (1, 2),
    "zero_stage": (0, 1, 2, 3),
    "sequence": (False, True),
    "compile": (False, True),
    "fp8": (False, True),
    "offload": ("none", "optimizer", "parameters"),
    "precision": ("auto", "fp32", "bf16", "fp16"),
}


def refusal(values: dict[str, Any]) -> str:
    try:
        configs.parse(values, ParallelConfig, "[parallel]")
    except ConfigError as error:
        return str(error)
    return ""


def remedies(sentence: str) -> list[dict[str, Any]]:
    words = {"true": True, "false": False, **{str(number): number for number in range(4)}}
    return [
        {name: words.get(value, value) for name, value in (change.split() for change in each.split(" and "))}
        for each in re.split(", or ", sentence.rpartition("; use ")[2])
    ]


def test_what_a_refusal_names_works() -> None:
    refused = 0
    for values in itertools.product(*VALUES.values()):
        settings = dict(zip(VALUES, values, strict=True))
        if sentence := refusal(settings):
            refused += 1
            assert sentence.count(" is refused, because ") == 1
            for changes in remedies(sentence):
                assert not refusal({**settings, **changes}), (settings, changes)
                assert all(settings[name] != value for name, value in changes.items())
    assert 0 < refused < len(list(itertools.product(*VALUES.values())))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sequence": True}, r"sequence with tensor 1 is refused.*; use sequence false"),
        (
            {"offload": "optimizer", "zero_stage": 0},
            r"offload with zero_stage 0 is refused.*; use zero_stage 1, or off",
        ),
        ({"offload": "parameters"}, r"offload 'parameters' with zero_stage 1 or 2.*; use zero_stage 3, or offload opt"),
        ({"zero_stage": 0, "precision": "fp16"}, r"zero_stage 0 with bf16 or fp16 is refused.*; use zero_stage 1"),
        (
            {"compile": True, "zero_stage": 3},
            r"compile with zero_stage 3 is refused.*; use zero_stage 2, or compile fa",
        ),
        ({"offload": "optimizer", "expert": 2}, r"offload with expert > 1 is refused.*; use offload none, or expert 1"),
    ],
)
def test_the_nearest_combination_is_named(settings: dict[str, Any], message: str) -> None:
    assert re.search(message, refusal(settings))


@pytest.mark.parametrize(
    ("settings", "precision", "processes", "device", "stage"),
    [
        ({}, "fp32", 1, "cpu", 0),
        ({}, "fp32", 2, "cpu", 1),
        ({}, "bf16", 1, "cpu", 1),
        ({}, "fp32", 1, "cuda", 1),
        ({"zero_stage": 2}, "fp32", 1, "cpu", 2),
        ({"offload": "optimizer"}, "fp32", 1, "cpu", 1),
    ],
)
def test_one_process_divides_nothing(
    settings: dict[str, Any], precision: Literal["fp32", "bf16"], processes: int, device: str, stage: int
) -> None:
    parallel = ParallelConfig(**settings)
    assert parallel.stage_taken(precision, processes, device) == stage
    mesh: Any = SimpleNamespace(
        world=processes, device=SimpleNamespace(type=device), tensor=1, data=processes, expert=1
    )
    run: Any = SimpleNamespace(parallel=parallel, model=SimpleNamespace(family="bert"))
    line = describe(run, mesh, Precision(precision, "a reason"), 1000, 9)
    assert f"(tensor 1 x data {processes}, ZeRO {stage}) in {precision} (a reason); 9 training rows" in line
