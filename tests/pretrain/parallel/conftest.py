"""The runs that the tests of layouts compare."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sesame.pretrain import precision
from tests.pretrain.family_runs import FAMILY_RUNS
from tests.pretrain.parallel.layout_cases import Case
from tests.pretrain.parallel.layout_comparison import STEPS, Computed, Recorded

PROCESS = Path(__file__).with_name("layout_process.py")


@pytest.fixture(scope="module")
def cache() -> dict[str, Recorded]:
    """Recorded tensors by case."""
    return {}


@pytest.fixture(scope="module")
def selected(request: pytest.FixtureRequest) -> frozenset[str]:
    """The runs that are compared: all, or those of ``pytest -k FAMILY``."""
    items: Any = [item for item in request.session.items if item.path == request.path and hasattr(item, "callspec")]
    runs = {item.callspec.params.get("run") for item in items}
    return frozenset(FAMILY_RUNS if None in runs or not runs else runs)


@pytest.fixture
def computed(
    request: pytest.FixtureRequest,
    cache: dict[str, Recorded],
    selected: frozenset[str],
    world: Callable[..., list[str]],
    family_settings: Callable[..., dict[str, Any]],
    tmp_path: Path,
) -> Computed:
    """``computed(case)``: recorded tensors of a row of the module's ``CASES``; the first use of a world runs all cases
    that share it."""
    all_cases: dict[str, Case] = request.module.CASES

    def get(name: str) -> Recorded:
        if name not in cache:
            wanted = all_cases[name]
            sharing = [
                other
                for other, case in all_cases.items()
                if (case.processes, case.parallel.get("tensor")) == (wanted.processes, wanted.parallel.get("tensor"))
                and case.run in selected
                and (case.parallel.get("precision") != "fp16" or precision.computes_fp16(torch.device("cpu")))
            ]
            targets = {other: tmp_path / f"{number}.safetensors" for number, other in enumerate(sharing)}
            pairs = [
                (_settings(family_settings, all_cases[other], target), str(target)) for other, target in targets.items()
            ]
            cases = tmp_path / "cases.json"
            cases.write_text(json.dumps(pairs))
            world(wanted.processes, PROCESS, str(cases), str(STEPS))
            cache.update({other: load_file(target) for other, target in targets.items()})
        return cache[name]

    return get


def _settings(family_settings: Callable[..., dict[str, Any]], case: Case, target: Path) -> dict[str, Any]:
    parallel = {"precision": "fp32", "threads": 1, **case.parallel}
    output = str(target.with_suffix(""))
    settings = family_settings(
        case.run, parallel=parallel, optimizer=case.optimizer, output=output, loss=case.loss or {}, data=dict(case.data)
    )
    objectives = {name: weight * case.loss_weight for name, weight in settings["objectives"].items()}
    return {**settings, "model": {**settings["model"], **case.model}, "objectives": objectives}
