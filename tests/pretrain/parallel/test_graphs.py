"""When blocks are recorded as CUDA graphs; the recorded graphs are tested on a GPU (``tests/pretrain/test_gpu.py``)."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from sesame import configs
from sesame.configs.errors import ConfigError
from sesame.pretrain.config import RunConfig
from sesame.pretrain.data.packing import layout
from sesame.pretrain.layers.attention import AttentionPattern
from sesame.pretrain.parallel import graphs
from sesame.pretrain.parallel.graphs import BlockGraphs
from sesame.pretrain.train import train
from tests.pretrain.parallel.test_recompute import learner

EQUAL, OTHER, UNEVEN = [6, 6, 6], [9, 9], [5, 6, 7]


def recorded_after(model: Any, batches: list[list[int]], monkeypatch: pytest.MonkeyPatch, **pattern: Any) -> list[int]:
    """Return before which of ``batches`` (lengths of sequences) graphs are recorded."""
    numbers: list[int] = []
    begun: list[list[int]] = []
    monkeypatch.setattr(graphs, "record", lambda calls, forwards: numbers.append(len(begun)) or {})
    blocks = BlockGraphs(model)
    for lengths in batches:
        blocks.begin()
        begun.append(lengths)
        part = layout(np.array(lengths))
        hidden = torch.randn(sum(lengths), 32)
        for block in [*model.backbone.blocks] if hasattr(model.backbone, "blocks") else [model.backbone.block] * 2:
            hidden = block(hidden, AttentionPattern(part, part, **pattern))
    return numbers


def test_the_first_shape_that_repeats_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = [EQUAL, EQUAL, OTHER, EQUAL, EQUAL, EQUAL, OTHER]
    assert recorded_after(learner("bert"), batches, monkeypatch) == [6]


@pytest.mark.parametrize(("family", "lengths", "pattern"), [
    ("bert", UNEVEN, {}),
    ("bert", EQUAL, {"bias_HLL": torch.zeros(4, 6, 6)}),
    ("albert", EQUAL, {}),
])  # fmt: skip
def test_what_a_graph_cannot_repeat_is_not_recorded(
    family: str, lengths: list[int], pattern: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other lengths, a bias that is learned, and a block that several layers share."""
    assert not recorded_after(learner(family), [lengths] * 6, monkeypatch, **pattern)


def test_layers_with_experts_and_decoders_stay_as_they_are() -> None:
    assert not BlockGraphs(learner("switch")).forwards
    assert len(BlockGraphs(learner("t5")).forwards) == 2, "the encoder's"


def test_evaluation_is_computed_as_written(monkeypatch: pytest.MonkeyPatch) -> None:
    assert recorded_after(learner("bert"), [EQUAL] * 6, monkeypatch)
    assert not recorded_after(learner("bert").eval(), [EQUAL] * 6, monkeypatch)


def test_a_run_on_a_cpu_is_refused(settings: Callable[..., dict[str, Any]]) -> None:
    values = settings(parallel={"precision": "bf16", "graphs": True})
    with pytest.raises(ConfigError, match=r"parallel\.graphs needs a GPU"):
        train(configs.parse(values, RunConfig, "run.toml"))


def test_recomputed_blocks_are_refused(settings: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(ConfigError, match="graphs is refused with recompute"):
        configs.parse(settings(parallel={"recompute": True, "graphs": True}), RunConfig, "run.toml")
