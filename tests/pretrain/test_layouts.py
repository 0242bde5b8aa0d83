"""Every layout computes what one process computes: losses, gradient norms, gradients and updated weights.

SGD is compared, not Adam: Adam divides by the root of the second moment, so where a gradient is zero by theory (the key
bias: softmax does not change when all its inputs move together) it turns rounding noise into steps of full size, and
where layouts differ by a rounding of 1e-7 it would hide or invent a difference. SGD passes differences on as they are.
For the same reason a tensor whose gradient is zero by theory is held to the scale of its sibling, the query's bias.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

PROCESS = Path(__file__).with_name("layout_process.py")
STEPS = 4
BOUND = 1e-6

LAYOUTS = {
    "data 2, ZeRO 0": (2, {"zero_stage": 0}),
    "data 2, ZeRO 1": (2, {"zero_stage": 1}),
    "data 2, ZeRO 2": (2, {"zero_stage": 2}),
    "data 2, ZeRO 3": (2, {"zero_stage": 3}),
    "tensor 2, ZeRO 0": (2, {"tensor": 2, "zero_stage": 0}),
    "tensor 2, ZeRO 1": (2, {"tensor": 2, "zero_stage": 1}),
    "tensor 2 x data 2, ZeRO 0": (4, {"tensor": 2, "zero_stage": 0}),
    "tensor 2 x data 2, ZeRO 1": (4, {"tensor": 2, "zero_stage": 1}),
    "tensor 2 x data 2, ZeRO 2": (4, {"tensor": 2, "zero_stage": 2}),
    "tensor 2 x data 2, ZeRO 3": (4, {"tensor": 2, "zero_stage": 3}),
}

Run = Callable[..., dict[str, torch.Tensor]]


@pytest.fixture
def run(world: Callable[..., list[str]], settings: Callable[..., dict[str, Any]], tmp_path: Path) -> Run:
    """Train in a layout and load what was written down."""

    def go(processes: int, parallel: dict[str, Any], **changes: Any) -> dict[str, torch.Tensor]:
        target = tmp_path / f"{processes}-{json.dumps(parallel)}.safetensors"
        values = settings(parallel={"precision": "fp32", "threads": 1, **parallel}, **changes)
        world(processes, PROCESS, json.dumps(values), str(target), str(STEPS))
        return load_file(target)

    return go


@pytest.fixture(scope="module")
def kept() -> dict[str, dict[str, torch.Tensor]]:
    """What one process computed, by optimizer, so that it is computed once."""
    return {}


def scales(reference: dict[str, torch.Tensor]) -> dict[str, float]:
    """Largest entry of each tensor over all steps, for in one step a gradient may cancel to almost nothing."""
    largest: dict[str, float] = {}
    for name, value in reference.items():
        tensor = name.partition("/")[2]
        largest[tensor] = max(largest.get(tensor, 0.0), float(value.abs().max()))
    return {name: largest[name.replace("attention.key.bias", "attention.query.bias")] for name in largest}


def largest_difference(reference: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> tuple[float, str]:
    assert reference.keys() == other.keys()
    scale = scales(reference)
    differences = {
        name: float((value.double() - other[name].double()).abs().max()) / scale[name.partition("/")[2]]
        for name, value in reference.items()
    }
    worst = max(differences, key=differences.__getitem__)
    return differences[worst], worst


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout_equals_one_process(layout: str, run: Run, kept: dict[str, dict[str, torch.Tensor]]) -> None:
    if "sgd" not in kept:
        kept["sgd"] = run(1, {"zero_stage": 1})
    reference = kept["sgd"]
    assert any(float(reference[f"{step}/norm/all"]) > 1.0 for step in range(STEPS)), "clipping must have been at work"
    processes, parallel = LAYOUTS[layout]
    difference, worst = largest_difference(reference, run(processes, parallel))
    assert difference < BOUND, f"{worst} differs by {difference:.2e} of its largest entry"


@pytest.mark.parametrize("layout", ["data 2, ZeRO 1", "data 2, ZeRO 3", "tensor 2 x data 2, ZeRO 2"])
def test_lamb_scales_whole_parameters_in_every_layout(
    layout: str, run: Run, kept: dict[str, dict[str, torch.Tensor]]
) -> None:
    lamb = {"name": "lamb", "learning_rate": 0.01, "epsilon": 1e-3}
    if "lamb" not in kept:
        kept["lamb"] = run(1, {"zero_stage": 0}, optimizer=lamb)
    processes, parallel = LAYOUTS[layout]
    difference, worst = largest_difference(kept["lamb"], run(processes, parallel, optimizer=lamb))
    # Adam's division is inside LAMB, so the bound is that of the noise it enlarges; a ratio taken over a flat
    # buffer instead of a parameter would be off by more than 1.
    assert difference < 1e-3, f"{worst} differs by {difference:.2e} of its largest entry"


@pytest.mark.parametrize("parallel", [{"zero_stage": 1}, {"zero_stage": 2}, {"zero_stage": 3}])
def test_bf16_norm_is_right_under_tensor_parallelism(parallel: dict[str, Any], run: Run) -> None:
    one = run(1, {"precision": "bf16", **parallel})
    two = run(2, {"precision": "bf16", "tensor": 2, **parallel})
    for step in range(STEPS):
        assert float(two[f"{step}/norm/all"]) == pytest.approx(float(one[f"{step}/norm/all"]), rel=0.02)
