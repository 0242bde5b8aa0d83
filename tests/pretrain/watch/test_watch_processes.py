"""Several processes agree on what is wrong and where, and go on like one process, in every layout."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from sesame.pretrain.checkpoints.load import latest, open_checkpoint
from tests.conftest import World
from tests.pretrain.watch.planted import row_of_step
from tests.pretrain.watch.test_watch import last_record, lines

Settings = Callable[..., dict[str, Any]]
BAD_STEP, STEPS = 6, 8
TOLERANCE = {"fp32": 1e-5, "bf16": 0.1}
"""Of the largest entry of a parameter."""
NOISE = "attention.key.bias"
"""Its gradient is zero in theory; AdamW makes steps of the rounding errors."""


class Layout(NamedTuple):
    processes: int
    precision: str
    parallel: dict[str, Any]

    @property
    def tensor(self) -> int:
        return self.parallel.get("tensor", 1)


SEQUENCE: dict[str, Any] = {"tensor": 2, "sequence": True}
LAYOUTS = {
    "ZeRO 0": Layout(2, "fp32", {"zero_stage": 0}),
    "ZeRO 1": Layout(2, "fp32", {"zero_stage": 1}),
    "ZeRO 2": Layout(2, "fp32", {"zero_stage": 2}),
    "ZeRO 3": Layout(2, "fp32", {"zero_stage": 3}),
    "ZeRO 1, bf16": Layout(2, "bf16", {"zero_stage": 1}),
    "ZeRO 2, bf16": Layout(2, "bf16", {"zero_stage": 2}),
    "ZeRO 3, bf16": Layout(2, "bf16", {"zero_stage": 3}),
    "ZeRO 2, offload": Layout(2, "fp32", {"zero_stage": 2, "offload": "optimizer"}),
    "ZeRO 3, parameters in host memory": Layout(2, "fp32", {"zero_stage": 3, "offload": "parameters"}),
    "tensor 2, ZeRO 0": Layout(2, "fp32", {"zero_stage": 0, "tensor": 2}),
    "tensor 2, ZeRO 1": Layout(2, "fp32", {"zero_stage": 1, "tensor": 2}),
    "tensor 2, ZeRO 1, bf16": Layout(2, "bf16", {"zero_stage": 1, "tensor": 2}),
    "tensor 2, ZeRO 2": Layout(2, "fp32", {"zero_stage": 2, "tensor": 2}),
    "tensor 2, ZeRO 3": Layout(2, "fp32", {"zero_stage": 3, "tensor": 2}),
    "tensor 2, ZeRO 2, sequence": Layout(2, "fp32", {"zero_stage": 2, **SEQUENCE}),
    "tensor 2 x data 2, ZeRO 2": Layout(4, "fp32", {"zero_stage": 2, "tensor": 2}),
    "tensor 2 x data 2, ZeRO 3, sequence": Layout(4, "fp32", {"zero_stage": 3, **SEQUENCE}),
}
ALONE = "one process"
KINDS = {"nan gradient": "non_finite_gradient", "spike": "loss_spike"}


def weights(output: Path) -> dict[str, torch.Tensor]:
    folder = latest(output)
    assert folder is not None
    tensors = open_checkpoint(folder).tensors("weights")
    return {name: tensors.whole(name) for name in tensors.shapes}


@pytest.mark.slow
@pytest.mark.parametrize("effect", KINDS)
@pytest.mark.parametrize("policy", ["skip", "roll_back"])
def test_every_layout_goes_on_like_one_process(
    policy: str, effect: str, settings: Settings, dataset: Path, tmp_path: Path, world: World
) -> None:
    row = row_of_step(dataset, BAD_STEP)
    rows = {ALONE: Layout(1, "fp32", {"zero_stage": 1}), **LAYOUTS}
    outputs = {name: tmp_path / str(number) for number, name in enumerate(rows)}
    for processes, tensor in sorted({(layout.processes, layout.tensor) for layout in rows.values()}):
        cases = [
            (_values(settings, layout, policy, outputs[name]), row, effect)
            for name, layout in rows.items()
            if (layout.processes, layout.tensor) == (processes, tensor)
        ]
        (tmp_path / "cases.json").write_text(json.dumps(cases))
        world(processes, Path(__file__).with_name("watch_process.py"), str(tmp_path / "cases.json"))
    expected = weights(outputs[ALONE])
    for name, layout in rows.items():
        _check_events(outputs[name], layout, policy, effect, row)
        for parameter, value in weights(outputs[name]).items():
            difference = float((value - expected[parameter]).abs().max() / expected[parameter].abs().max())
            assert NOISE in parameter or difference < TOLERANCE[layout.precision], (name, parameter, difference)


def _values(settings: Settings, layout: Layout, policy: str, output: Path) -> dict[str, Any]:
    return settings(
        output=str(output),
        steps=STEPS,
        model={"layers": 1},
        optimizer={"name": "adamw", "learning_rate": 1e-3, "epsilon": 1e-3},
        parallel={"precision": layout.precision, **layout.parallel},
        checkpoint={"save_every_steps": 2, "keep": 9},
        watch={"non_finite": policy, "spike": policy, "window": 8, "deviations": 20.0, "slow_factor": 0},
    )


def _check_events(output: Path, layout: Layout, policy: str, effect: str, row: int) -> None:
    (event,) = lines(output / "events.jsonl")
    assert (event["step"], event["kind"], event["action"]) == (BAD_STEP, KINDS[effect], policy), layout
    assert row in event["rows"] and len(event["rows"]) == 4, layout
    # Of four micro-batches of four rows, the row that is planted is in the second.
    data = layout.processes // layout.tensor
    assert event["rank"] == (layout.tensor if data == 2 else 0), layout
    record = last_record(output)
    assert record.updates == (STEPS - 1 if policy == "skip" else STEPS), layout
    assert record.samples == (STEPS + (policy == "roll_back")) * 16, layout
    norms = [norm for line in lines(output / "steps.jsonl") for norm in line["gradient_norms"]]
    is_missing = [
        number == BAD_STEP and policy == "skip" and effect == "nan gradient" for number in range(1, STEPS + 1)
    ]
    assert [norm is None for norm in norms] == is_missing, layout


@pytest.mark.slow
def test_a_slow_process_is_reported(settings: Settings, tmp_path: Path, world: World) -> None:
    values = settings(steps=4, model={"layers": 1}, data={"micro_batch": 8}, watch={"slow_factor": 3.0})
    (tmp_path / "cases.json").write_text(json.dumps([(values, 0, "slow process 1")]))
    world(2, Path(__file__).with_name("watch_process.py"), str(tmp_path / "cases.json"))
    (event,) = lines(tmp_path / "run" / "events.jsonl")
    assert (event["step"], event["kind"], event["rank"], event["action"]) == (4, "slow_rank", 1, "report")
    assert event["value"] > 3
