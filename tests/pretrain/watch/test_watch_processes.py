"""Several processes agree on what is wrong and where, in every layout."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import World
from tests.pretrain.watch.planted import row_of_step
from tests.pretrain.watch.test_watch import last_record, lines

Settings = Callable[..., dict[str, Any]]
BAD_STEP = 3
LAYOUTS: list[tuple[str, dict[str, Any]]] = [
    ("fp32", {"zero_stage": 0}),
    ("fp32", {"zero_stage": 1}),
    ("fp32", {"zero_stage": 2}),
    ("fp32", {"zero_stage": 3}),
    ("bf16", {"zero_stage": 1}),
    ("bf16", {"zero_stage": 2}),
    ("bf16", {"zero_stage": 3}),
    ("fp32", {"zero_stage": 1, "tensor": 2}),
    ("bf16", {"zero_stage": 1, "tensor": 2}),
]


@pytest.mark.slow
def test_a_bad_gradient_of_one_process_is_found_in_every_layout(
    settings: Settings, dataset: Path, tmp_path: Path, world: World
) -> None:
    row = row_of_step(dataset, BAD_STEP)
    cases, outputs = [], []
    for policy in ("skip", "roll_back"):
        for precision, layout in LAYOUTS:
            outputs.append(tmp_path / f"{policy}-{precision}-{layout['zero_stage']}-{layout.get('tensor', 1)}")
            values = settings(
                output=str(outputs[-1]),
                steps=4,
                model={"layers": 1},
                optimizer={"name": "adamw", "learning_rate": 1e-3},
                parallel={"precision": precision, **layout},
                checkpoint={"save_every_steps": 2, "keep": 9},
                watch={"non_finite": policy},
            )
            cases.append((values, row, "nan gradient"))
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    world(2, Path(__file__).with_name("watch_process.py"), str(tmp_path / "cases.json"))
    for output in outputs:
        policy, _, _, tensor = output.name.split("-")
        (event,) = lines(output / "events.jsonl")
        assert (event["step"], event["kind"], event["action"]) == (BAD_STEP, "non_finite_gradient", policy), output
        assert row in event["rows"] and len(event["rows"]) == 4, output
        # Of four micro-batches of four rows, the row that is planted is in the second.
        assert event["rank"] == (1 if tensor == "1" else 0), output
        record = last_record(output)
        assert record.updates == (3 if policy == "skip" else 4), output
        assert record.samples == (4 if policy == "skip" else 5) * 16, output
        norms = [norm for line in lines(output / "steps.jsonl") for norm in line["gradient_norms"]]
        assert [norm is None for norm in norms] == [False, False, policy == "skip", False], output


@pytest.mark.slow
def test_a_slow_process_is_reported(settings: Settings, tmp_path: Path, world: World) -> None:
    values = settings(steps=4, model={"layers": 1}, data={"micro_batch": 8}, watch={"slow_factor": 3.0})
    (tmp_path / "cases.json").write_text(json.dumps([(values, 0, "slow process 1")]))
    world(2, Path(__file__).with_name("watch_process.py"), str(tmp_path / "cases.json"))
    (event,) = lines(tmp_path / "run" / "events.jsonl")
    assert (event["step"], event["kind"], event["rank"], event["action"]) == (4, "slow_rank", 1, "report")
    assert event["value"] > 3
