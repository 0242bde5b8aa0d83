"""A replay of several processes is the same in every bit, and finds what changed in the memory of one of them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import World

Settings = Callable[..., dict[str, Any]]
STEP, STEPS = 6, 7
PROCESS = Path(__file__).with_name("replay_process.py")
SEQUENCE: dict[str, Any] = {"tensor": 2, "sequence": True}
LAYOUTS: dict[str, tuple[int, dict[str, Any]]] = {
    "ZeRO 1, bf16": (2, {"zero_stage": 1, "precision": "bf16"}),
    "ZeRO 2, offload": (2, {"zero_stage": 2, "offload": "optimizer"}),
    "ZeRO 3": (2, {"zero_stage": 3}),
    "ZeRO 3, parameters in host memory": (2, {"zero_stage": 3, "offload": "parameters"}),
    "tensor 2, ZeRO 0": (2, {"tensor": 2, "zero_stage": 0}),
    "tensor 2, sequence, recompute": (2, {**SEQUENCE, "recompute": "block"}),
    "tensor 2 x data 2, sequence, ZeRO 3": (4, {**SEQUENCE, "zero_stage": 3}),
}


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "tensor"), [(2, 1), (2, 2), (4, 2)])
def test_a_run_of_several_processes_is_replayed(
    processes: int, tensor: int, settings: Settings, tmp_path: Path, world: World
) -> None:
    names = [name for name, (size, each) in LAYOUTS.items() if (size, each.get("tensor", 1)) == (processes, tensor)]
    outputs = {(name, flipped): tmp_path / f"{names.index(name)}-{flipped}" for name in names for flipped in (0, 5)}
    cases = [(_values(settings, LAYOUTS[name][1], output), flipped) for (name, flipped), output in outputs.items()]
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    world(processes, PROCESS, str(tmp_path / "cases.json"), str(STEP))
    for (name, flipped), output in outputs.items():
        is_same, lines = json.loads((output / "replay.json").read_text())
        assert is_same == (not flipped), (name, lines)
        if flipped:
            assert "first difference is the" in lines[0] and "a fault of the run's memory" in lines[1], (name, lines)


def _values(settings: Settings, parallel: dict[str, Any], output: Path) -> dict[str, Any]:
    return settings(
        output=str(output),
        steps=STEPS,
        model={"layers": 1, "dropout": 0.1},
        optimizer={"name": "adamw", "learning_rate": 1e-3},
        parallel={"precision": "fp32", **parallel},
        checkpoint={"save_every_steps": 3, "keep": 9},
    )
