"""A checkpoint of one layout is continued in another; more layouts are in ``test_moves_thorough.py``."""

from pathlib import Path

import pytest

from tests.conftest import World
from tests.pretrain.checkpoints.moves import ALONE, Move, Settings, State, assert_moved, last_states

MOVES = [
    Move("bert", (2, {"zero_stage": 3}), (1, {"zero_stage": 0})),
    Move("bert", ALONE, (2, {"zero_stage": 3})),
    Move("bert", (2, {"tensor": 2, "zero_stage": 2}), ALONE),
    Move("bert", (2, {"zero_stage": 1}), ALONE, "bf16", tolerance=0.05),
    Move("bert", (2, {"tensor": 2, "zero_stage": 2}), (2, {"zero_stage": 3}), optimizer="muon"),
    Move("switch", ALONE, (2, {"expert": 2, "zero_stage": 1})),
    Move("switch", (4, {"tensor": 2, "expert": 2, "zero_stage": 2}), ALONE),
]


@pytest.fixture(scope="module")
def cached_states() -> dict[str, State]:
    """States for all tests of this module."""
    return {}


@pytest.mark.parametrize("move", MOVES, ids=str)
def test_a_checkpoint_is_resumed_in_another_layout(
    move: Move, cached_states: dict[str, State], family_settings: Settings, world: World, tmp_path: Path
) -> None:
    if not cached_states:
        cached_states.update(last_states(MOVES, family_settings, world, tmp_path))
    assert_moved(move, cached_states)
