"""``parallel.reduction = "bf16"`` halves the bytes of gradients that are sent."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import World

Settings = Callable[..., dict[str, Any]]
LAYOUTS = [("fp32", 0), ("fp32", 1), ("bf16", 1), ("bf16", 2), ("fp32", 3), ("bf16", 3)]


@pytest.mark.slow
def test_bytes_of_gradients_are_halved(settings: Settings, world: World, tmp_path: Path) -> None:
    """In a step of one micro-batch, in which every gradient is sent once; norms and losses are a few numbers more."""
    cases = [
        settings(
            data={"micro_batch": 8},
            parallel={"precision": precision, "zero_stage": stage, "reduction": reduction},
            output=str(tmp_path / f"{precision}-{stage}-{reduction}"),
        )
        for precision, stage in LAYOUTS
        for reduction in ("fp32", "bf16")
    ]
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    printed = world(2, Path(__file__).with_name("reduction_process.py"), str(tmp_path / "cases.json"))
    (line,) = [line for line in printed[0].splitlines() if line.startswith("COUNTED")]
    counted = json.loads(line.removeprefix("COUNTED"))
    for layout, whole, half in zip(LAYOUTS, counted[::2], counted[1::2], strict=True):
        gradients = 4 * whole["entries"]
        assert whole["float32"] == pytest.approx(gradients, rel=0.01), layout
        assert half["bfloat16"] == pytest.approx(gradients / 2, rel=0.01), layout
        assert half.get("float32", 0) < 0.01 * gradients and whole.get("bfloat16", 0) == 0, layout
