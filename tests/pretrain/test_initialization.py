"""Initial values depend on name and seed only, and some rows of a parameter are drawn without the others."""

import pytest
import torch

from sesame.pretrain import initialization as initial
from sesame.pretrain.initialization import random_rows, random_value

SHAPE = torch.Size([23, 5])


def init_std(name: str, shape: torch.Size) -> float:
    return 0.05


@pytest.mark.parametrize("name", ["a.weight", "a.bias"])
@pytest.mark.parametrize("step", [1, 2, 7, 23])
def test_rows_are_those_of_the_whole_parameter(name: str, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(initial, "BLOCK", 20)
    whole = random_value(1, init_std)(name, SHAPE)
    rows = random_rows(1, name, SHAPE, init_std)
    parts = [rows(first, min(first + step, 23)) for first in range(0, 23, step)]
    assert torch.equal(torch.cat(parts), whole) and whole.shape == SHAPE


def test_blocks_differ_and_are_truncated_at_two_deviations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(initial, "BLOCK", 1000)
    whole = random_value(1, init_std)("a.weight", torch.Size([400, 50]))
    assert len(whole.unique(dim=0)) == 400
    assert float(whole.abs().max()) <= 0.1
    # A normal distribution truncated at two standard deviations has 0.88 of the standard deviation.
    assert float(whole.std()) == pytest.approx(0.05 * 0.8796, rel=0.02)


def test_one_expert_of_switch_c_is_drawn_without_the_others() -> None:
    """The whole tensor would be 105 GB."""
    shape = torch.Size([2048, 2080, 6144])
    expert = random_rows(1, "experts.up", shape, init_std)(2047, 2048)
    assert expert.shape == (1, 2080, 6144) and float(expert.std()) > 0.04
