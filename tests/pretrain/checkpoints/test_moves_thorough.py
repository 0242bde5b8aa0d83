"""Checkpoints move between layouts with sequence parallelism, offload, recomputation and fp16."""

from pathlib import Path
from typing import Any

import pytest
import torch

from sesame.pretrain import precision
from tests.conftest import World
from tests.pretrain.checkpoints.moves import ALONE, Move, Settings, assert_moved, last_states

SEQUENCE: dict[str, Any] = {"tensor": 2, "sequence": True}
OFFLOAD: dict[str, Any] = {"zero_stage": 2, "offload": "optimizer"}
ON_HOST: dict[str, Any] = {"zero_stage": 3, "offload": "parameters"}
FP16: dict[str, Any] = {"zero_stage": 1, "precision": "fp16"}
AVERAGED: dict[str, Any] = {"optimizer": "sgd", "average_decay": 0.3}
IN_FP16: dict[str, Any] = {"loss_weight": 0.25, "tolerance": 0.02, "noise": 1e-7}
"""The loss is so small that no gradient overflows at the first loss scale."""
MOVES = {
    "fp32": [
        Move("bert", (2, {**SEQUENCE, "zero_stage": 1}), (1, OFFLOAD)),
        Move("bert", (1, ON_HOST), (2, {**SEQUENCE, "recompute": "block"})),
        Move("bert", (2, {"tensor": 2, "recompute": "attention"}), (2, {"zero_stage": 3, "offload": "optimizer"})),
        Move("t5", (2, {**SEQUENCE, "zero_stage": 3}), (2, {"zero_stage": 1, "recompute": "block"})),
        Move("switch", (2, {**SEQUENCE, "zero_stage": 2}), (2, {"expert": 2, "zero_stage": 1})),
        Move("bert", (2, OFFLOAD), (2, {**SEQUENCE, "zero_stage": 3}), optimizer="muon"),
        Move("bert", (2, {**SEQUENCE, "zero_stage": 2}), (2, ON_HOST), optimizer="muon"),
        Move("bert", (2, {**SEQUENCE, "zero_stage": 2}), (2, {"zero_stage": 3}), **AVERAGED),
        Move("bert", (2, OFFLOAD), (2, {"tensor": 2, "zero_stage": 0}), **AVERAGED),
        Move("bert", (4, {**SEQUENCE, "zero_stage": 3}), (2, {"zero_stage": 1}), **AVERAGED),
    ],
    "fp16": [
        Move("bert", (1, FP16), ALONE, **IN_FP16),
        Move("bert", ALONE, (2, {**FP16, **SEQUENCE}), **IN_FP16),
        Move("bert", (2, {**FP16, "zero_stage": 3}), (2, {**FP16, **OFFLOAD}), **IN_FP16),
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", MOVES)
def test_a_checkpoint_is_resumed_in_another_layout(
    kind: str, family_settings: Settings, world: World, tmp_path: Path
) -> None:
    if kind == "fp16" and not precision.computes_fp16(torch.device("cpu")):
        pytest.skip("needs a processor with fp16")
    states = last_states(MOVES[kind], family_settings, world, tmp_path)
    for move in MOVES[kind]:
        assert_moved(move, states)
