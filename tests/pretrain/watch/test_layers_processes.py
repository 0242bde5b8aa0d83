"""The numbers of each layer are those of one process in every layout."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sesame import configs
from sesame.pretrain.config import RunConfig
from sesame.pretrain.train import train
from tests.conftest import World
from tests.pretrain.watch.test_layers import rows_of

Settings = Callable[..., dict[str, Any]]
SEQUENCE = {"tensor": 2, "sequence": True}
LAYOUTS: dict[str, tuple[int, str, dict[str, Any]]] = {
    "ZeRO 0": (2, "bert", {"zero_stage": 0}),
    "ZeRO 1": (2, "bert", {"zero_stage": 1}),
    "ZeRO 2": (2, "bert", {"zero_stage": 2}),
    "ZeRO 3": (2, "bert", {"zero_stage": 3}),
    "ZeRO 3, parameters in host memory": (2, "bert", {"zero_stage": 3, "offload": "parameters"}),
    "tensor 2": (2, "bert", {"zero_stage": 1, "tensor": 2}),
    "tensor 2, ZeRO 0": (2, "bert", {"zero_stage": 0, "tensor": 2}),
    "tensor 2, sequence": (2, "bert", {"zero_stage": 1, **SEQUENCE}),
    "tensor 2, sequence, recompute": (2, "bert", {"zero_stage": 1, **SEQUENCE, "recompute": "block"}),
    "tensor 2, sequence, T5": (2, "t5", {"zero_stage": 1, **SEQUENCE}),
    "tensor 2 x data 2, ZeRO 2": (4, "bert", {"zero_stage": 2, "tensor": 2}),
    "tensor 2 x data 2, sequence, ZeRO 3": (4, "bert", {"zero_stage": 3, **SEQUENCE}),
    "expert 2": (2, "switch", {"zero_stage": 1, "expert": 2}),
    "expert 2 of data 4, ZeRO 2": (4, "switch", {"zero_stage": 2, "expert": 2}),
    "tensor 2 x expert 2": (4, "switch", {"zero_stage": 1, "tensor": 2, "expert": 2}),
}


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])
def test_numbers_of_layers_are_those_of_one_process(
    processes: int, family_settings: Settings, tmp_path: Path, world: World
) -> None:
    layouts = {name: row for name, row in LAYOUTS.items() if row[0] == processes}
    ids = {name: str(number) for number, name in enumerate(layouts)}

    def values(run: str, parallel: dict[str, Any], output: str) -> dict[str, Any]:
        watch = {"layers_every_steps": 1}
        parallel = {"precision": "fp32", "threads": 1, **parallel}
        return family_settings(run, parallel=parallel, watch=watch, steps=2, output=str(tmp_path / output))

    # Worlds of different tensor parallelism cannot follow each other in one process.
    for tensor in (1, 2):
        cases = [
            (values(run, parallel, ids[name]), -1, "")
            for name, (_, run, parallel) in layouts.items()
            if parallel.get("tensor", 1) == tensor
        ]
        (tmp_path / "cases.json").write_text(json.dumps(cases))
        world(processes, Path(__file__).with_name("watch_process.py"), str(tmp_path / "cases.json"))
    for run in {row[1] for row in layouts.values()}:
        train(configs.parse(values(run, {"zero_stage": 1}, run), RunConfig, "the test's run"))
    for name, (_, run, _) in layouts.items():
        expected, found = rows_of(tmp_path / run), rows_of(tmp_path / ids[name])
        assert len(expected) == len(found) == 2
        for one, other in zip(expected, found, strict=True):
            assert one["layers"].keys() == other["layers"].keys(), name
            for layer, numbers in one["layers"].items():
                assert other["layers"][layer] == pytest.approx(numbers, rel=1e-4), (name, layer)
                assert all(number is not None for number in numbers.values())
