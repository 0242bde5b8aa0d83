"""Several processes agree on what is wrong and where, and go on like one process, in every layout."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from sesame.pretrain.checkpoints.load import latest, open_checkpoint
from tests.conftest import World
from tests.pretrain.conftest import Datasets
from tests.pretrain.watch.planted import KINDS, row_of_step
from tests.pretrain.watch.test_watch import last_record, lines
from tests.pretrain.watch.watch_process import Case

Settings = Callable[..., dict[str, Any]]
BAD_STEP, CHECKPOINT, STEPS, BATCH = 6, 4, 8, 16
PROCESS = Path(__file__).with_name("watch_process.py")
TOLERANCE = {"fp32": 1e-5, "bf16": 0.1}
"""Of the largest entry of a parameter."""
NOISE = "attention.key.bias"
"""Its gradient is zero in theory; AdamW makes steps of the rounding errors."""


class Layout(NamedTuple):
    processes: int
    precision: str
    parallel: dict[str, Any]
    run: str = "bert"
    """Row of ``FAMILY_RUNS``."""
    data: dict[str, Any] = {}  # noqa: RUF012

    @property
    def tensor(self) -> int:
        return self.parallel.get("tensor", 1)


SEQUENCE: dict[str, Any] = {"tensor": 2, "sequence": True}
OFFLOAD = {"offload": "optimizer"}
LAYOUTS = {
    "ZeRO 0": Layout(2, "fp32", {"zero_stage": 0}),
    "ZeRO 1": Layout(2, "fp32", {"zero_stage": 1}),
    "ZeRO 2": Layout(2, "fp32", {"zero_stage": 2}),
    "ZeRO 3": Layout(2, "fp32", {"zero_stage": 3}),
    "ZeRO 1, bf16": Layout(2, "bf16", {"zero_stage": 1}),
    "ZeRO 2, bf16": Layout(2, "bf16", {"zero_stage": 2}),
    "ZeRO 3, bf16": Layout(2, "bf16", {"zero_stage": 3}),
    "ZeRO 1, offload": Layout(2, "fp32", {"zero_stage": 1, **OFFLOAD}),
    "ZeRO 2, offload": Layout(2, "fp32", {"zero_stage": 2, **OFFLOAD}),
    "ZeRO 3, offload": Layout(2, "fp32", {"zero_stage": 3, **OFFLOAD}),
    "ZeRO 2, offload, bf16": Layout(2, "bf16", {"zero_stage": 2, **OFFLOAD}),
    "ZeRO 3, parameters in host memory": Layout(2, "fp32", {"zero_stage": 3, "offload": "parameters"}),
    "ZeRO 1, token budget": Layout(2, "fp32", {"zero_stage": 1}, data={"micro_batch": 0, "micro_tokens": 200}),
    "ZeRO 1, expert 2": Layout(2, "fp32", {"zero_stage": 1, "expert": 2}, "switch"),
    "tensor 2, ZeRO 0": Layout(2, "fp32", {"zero_stage": 0, "tensor": 2}),
    "tensor 2, ZeRO 1": Layout(2, "fp32", {"zero_stage": 1, "tensor": 2}),
    "tensor 2, ZeRO 1, bf16": Layout(2, "bf16", {"zero_stage": 1, "tensor": 2}),
    "tensor 2, ZeRO 2": Layout(2, "fp32", {"zero_stage": 2, "tensor": 2}),
    "tensor 2, ZeRO 3": Layout(2, "fp32", {"zero_stage": 3, "tensor": 2}),
    "tensor 2, ZeRO 2, offload": Layout(2, "fp32", {"zero_stage": 2, "tensor": 2, **OFFLOAD}),
    "tensor 2, ZeRO 2, sequence": Layout(2, "fp32", {"zero_stage": 2, **SEQUENCE}),
    "tensor 2 x data 2, ZeRO 2": Layout(4, "fp32", {"zero_stage": 2, "tensor": 2}),
    "tensor 2 x data 2, ZeRO 3, sequence": Layout(4, "fp32", {"zero_stage": 3, **SEQUENCE}),
}
ALONE = {run: Layout(1, "fp32", {"zero_stage": 1}, run) for run in ("bert", "switch")}
BROKEN = [effect for effect, kind in KINDS.items() if kind.startswith("non_finite")]
PLANTED = [
    *(("stop", effect) for effect in BROKEN),
    *((policy, effect) for policy in ("skip", "roll_back") for effect in KINDS),
]


def weights(output: Path) -> dict[str, torch.Tensor]:
    folder = latest(output)
    assert folder is not None
    tensors = open_checkpoint(folder).tensors("weights")
    return {name: tensors.whole(name) for name in tensors.shapes}


@pytest.mark.slow
@pytest.mark.parametrize(("policy", "effect"), PLANTED)
def test_every_layout_goes_on_like_one_process(
    policy: str, effect: str, family_settings: Settings, datasets: Datasets, tmp_path: Path, world: World
) -> None:
    """And, after it has rolled back, with the same bits as a run in the same layout without the rows of the step."""
    rows = {"bert": row_of_step(datasets("pairs"), BAD_STEP), "switch": row_of_step(datasets("spans"), BAD_STEP)}
    layouts = {**ALONE, **LAYOUTS}
    outputs = {name: tmp_path / str(number) for number, name in enumerate(layouts)}
    for processes, tensor in sorted({(layout.processes, layout.tensor) for layout in layouts.values()}):
        names = [name for name, layout in layouts.items() if (layout.processes, layout.tensor) == (processes, tensor)]
        cases: list[Case] = []
        for name in names:
            layout, output = layouts[name], outputs[name]
            cases.append(Case(_values(family_settings, layout, policy, output), rows[layout.run], effect))
            if policy == "roll_back":
                clean = _values(family_settings, layout, policy, _without(output))
                cases.append(Case(clean, skipped=[((BAD_STEP - 1) * BATCH, BAD_STEP * BATCH)]))
        (tmp_path / "cases.json").write_text(json.dumps(cases))
        world(processes, PROCESS, str(tmp_path / "cases.json"))
    for name, layout in layouts.items():
        _check_events(outputs[name], layout, policy, effect, rows[layout.run])
        if policy == "roll_back":
            assert last_record(outputs[name]).files == last_record(_without(outputs[name])).files, name
        expected = weights(outputs[layout.run])
        for parameter, value in weights(outputs[name]).items():
            difference = float((value - expected[parameter]).abs().max() / expected[parameter].abs().max())
            assert NOISE in parameter or difference < TOLERANCE[layout.precision], (name, parameter, difference)


def _without(output: Path) -> Path:
    """Folder of the run without the rows."""
    return output.with_name(f"{output.name}-without")


def _values(family_settings: Settings, layout: Layout, policy: str, output: Path) -> dict[str, Any]:
    values = family_settings(
        layout.run,
        output=str(output),
        steps=STEPS,
        data=layout.data,
        optimizer={"name": "adamw", "learning_rate": 1e-3, "epsilon": 1e-3},
        parallel={"precision": layout.precision, **layout.parallel},
        checkpoint={"save_every_steps": 2, "keep": 9},
        watch={
            "non_finite": policy,
            "spike": "report" if policy == "stop" else policy,
            "window": 8,
            "deviations": 20.0,
            "slow_factor": 0,
        },
    )
    return values | ({"model": {**values["model"], "layers": 1}} if layout.run == "bert" else {})


def _check_events(output: Path, layout: Layout, policy: str, effect: str, row: int) -> None:
    (event,) = lines(output / "events.jsonl")
    assert (event["step"], event["kind"], event["action"]) == (BAD_STEP, KINDS[effect], policy), layout
    _check_place(event, layout, row)
    steps = BAD_STEP if policy == "stop" else STEPS
    norms = [norm for line in lines(output / "steps.jsonl") for norm in line["gradient_norms"]]
    is_missing = [number == BAD_STEP and policy != "roll_back" and effect in BROKEN for number in range(1, steps + 1)]
    assert [norm is None for norm in norms] == is_missing, layout
    record = last_record(output)
    if policy == "stop":
        assert record.step == CHECKPOINT, layout
        assert (output / "error.txt").read_text().startswith(event["message"]), layout
        return
    assert record.updates == (STEPS - 1 if policy == "skip" else STEPS), layout
    assert record.samples == (STEPS + (policy == "roll_back")) * BATCH, layout
    if policy == "roll_back":
        samples = [(BAD_STEP - 1) * BATCH, BAD_STEP * BATCH]
        assert (event["checkpoint_step"], event["samples"]) == (CHECKPOINT, samples), layout
        assert [list(each) for each in record.watched.skipped_samples] == [samples], layout


def _check_place(event: dict[str, Any], layout: Layout, row: int) -> None:
    assert row in event["rows"] and len(event["rows"]) < BATCH, layout
    if layout.data:
        # A token budget decides which rows are together.
        return
    assert len(event["rows"]) == 4, layout
    # Of four micro-batches of four rows, the row that is planted is in the second.
    data = layout.processes // layout.tensor
    assert event["rank"] == (layout.tensor if data == 2 else 0), layout


@pytest.mark.slow
def test_a_slow_process_is_reported(settings: Settings, tmp_path: Path, world: World) -> None:
    values = settings(steps=4, model={"layers": 1}, data={"micro_batch": 8}, watch={"slow_factor": 3.0})
    (tmp_path / "cases.json").write_text(json.dumps([(values, 0, "slow process 1")]))
    world(2, PROCESS, str(tmp_path / "cases.json"))
    (event,) = lines(tmp_path / "run" / "events.jsonl")
    assert (event["step"], event["kind"], event["rank"], event["action"]) == (4, "slow_rank", 1, "report")
    assert event["value"] > 3
