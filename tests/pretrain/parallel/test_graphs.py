"""When blocks are captured as CUDA graphs; the captured graphs are tested on a GPU (``tests/pretrain/test_gpu.py``)."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from sesame import configs
from sesame.configs.errors import ConfigError
from sesame.pretrain.config import RunConfig
from sesame.pretrain.data.packing import layout
from sesame.pretrain.layers import attention
from sesame.pretrain.layers.attention import AttentionPattern
from sesame.pretrain.parallel import graphs
from sesame.pretrain.parallel.graphs import BlockGraph, BlockGraphs
from sesame.pretrain.train import train
from tests.pretrain.parallel import test_recompute
from tests.pretrain.parallel.test_recompute import learner

EQUAL, OTHER, UNEVEN = [6, 6, 6], [9, 9], [5, 6, 7]


def captured_after(model: Any, batches: list[list[int]], monkeypatch: pytest.MonkeyPatch, **pattern: Any) -> list[int]:
    """Return before which of ``batches`` (lengths of sequences) graphs are captured."""
    numbers: list[int] = []
    begun: list[list[int]] = []
    monkeypatch.setattr(graphs, "capture", lambda calls: numbers.append(len(begun)) or {})
    blocks = BlockGraphs(model)
    for lengths in batches:
        blocks.begin()
        begun.append(lengths)
        part = layout(np.array(lengths))
        hidden = torch.randn(sum(lengths), 32)
        for block in [*model.backbone.blocks] if hasattr(model.backbone, "blocks") else [model.backbone.block] * 2:
            hidden = block(hidden, AttentionPattern(part, part, **pattern))
    return numbers


def test_the_first_shape_that_repeats_is_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = [EQUAL, EQUAL, OTHER, EQUAL, EQUAL, EQUAL, OTHER]
    assert captured_after(learner("bert"), batches, monkeypatch) == [6]


@pytest.mark.parametrize(("family", "lengths", "pattern"), [
    ("bert", UNEVEN, {}),
    ("bert", EQUAL, {"bias_HLL": torch.zeros(4, 6, 6)}),
    ("albert", EQUAL, {}),
])  # fmt: skip
def test_what_a_graph_cannot_repeat_is_not_captured(
    family: str, lengths: list[int], pattern: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other lengths, a bias that is learned, and a block that several layers share."""
    assert not captured_after(learner(family), [lengths] * 6, monkeypatch, **pattern)


class FakeGraph:
    """Stands for a CUDA graph: a replay calls a function that works on the captured memory."""

    def __init__(self) -> None:
        self.replay: Callable[[], None] = lambda: None


@pytest.fixture
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "CUDAGraph", FakeGraph)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, **_: nullcontext())
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: None)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: torch.get_rng_state())
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: torch.set_rng_state(state))


def compute_again(graph: BlockGraph, forward: Any) -> None:
    """Let replays do what the graphs of a block would: the same passes on the same memory."""
    passes: list[tuple[torch.Tensor, torch.Tensor]] = []

    def replay_forward() -> None:
        with torch.enable_grad():
            hidden = graph.hidden.detach().clone().requires_grad_()
            passes.append((hidden, forward(hidden, graph.pattern)))
        graph.output.copy_(passes[-1][1].detach())

    def replay_backward() -> None:
        hidden, output = passes.pop()
        gradients = torch.autograd.grad(output, (hidden, *graph.parameters), graph.output_gradient.clone())
        for memory, gradient in zip(graph.gradients, gradients, strict=True):
            memory.copy_(gradient)

    graph.forward_graph.replay, graph.backward_graph.replay = replay_forward, replay_backward  # type: ignore[method-assign]


def test_replayed_blocks_have_the_same_gradients(fake_cuda: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(test_recompute.SHAPE, "dropout", 0.0)
    monkeypatch.setitem(test_recompute.SHAPE, "attention_dropout", 0.0)
    captured, plain = learner("bert"), learner("bert")
    part = layout(np.array(EQUAL))
    pattern = AttentionPattern(part, part)

    def computed(model: Any, hidden: torch.Tensor) -> list[torch.Tensor]:
        state = hidden.clone().requires_grad_()
        output = state
        for block in model.backbone.blocks:
            output = block(output, pattern)
        parameters = list(model.backbone.blocks.parameters())
        return [output.detach().clone(), *(each.clone() for each in gradient_of(output, [state, *parameters]))]

    blocks = BlockGraphs(captured)
    for _ in range(4):
        blocks.begin()
        if not blocks.captured:
            computed(captured, torch.randn(18, 32))
    first, second = (blocks.captured[block, False] for block in captured.backbone.blocks)
    assert second.hidden.data_ptr() == first.output.data_ptr(), "nothing is copied between blocks"
    assert first.output_gradient.data_ptr() == second.gradients[0].data_ptr()
    for (block, _), graph in blocks.captured.items():
        compute_again(graph, blocks.forwards[block])
    for _ in range(2):
        hidden = torch.randn(18, 32)
        for ours, expected in zip(computed(captured, hidden), computed(plain, hidden), strict=True):
            torch.testing.assert_close(ours, expected)


def test_a_capture_touches_no_node_that_others_hold(fake_cuda: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """DeepSpeed holds the nodes that accumulate gradients; they belong to another stream, which ended the capture."""
    model: Any = learner("bert")
    leaves: list[Any] = []
    differentiate = BlockGraph.differentiate

    def watched(graph: BlockGraph, output: torch.Tensor, gradient: torch.Tensor) -> Any:
        nodes: list[Any] = [output.grad_fn]
        for node in nodes:
            assert node is not None
            leaves.extend([node.variable] if hasattr(node, "variable") else [])
            nodes += [after for after, _ in node.next_functions if after is not None]
        return differentiate(graph, output, gradient)

    monkeypatch.setattr(BlockGraph, "differentiate", watched)
    assert captured_graphs(model)
    assert leaves and not {id(leaf) for leaf in leaves} & {id(parameter) for parameter in model.parameters()}


def captured_graphs(model: Any) -> Any:
    blocks, part = BlockGraphs(model), layout(np.array(EQUAL))
    for _ in range(4):
        blocks.begin()
        hidden = torch.randn(18, 32)
        if not blocks.captured:
            for block in model.backbone.blocks:
                hidden = block(hidden, AttentionPattern(part, part))
    return blocks.captured


def gradient_of(output: torch.Tensor, inputs: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    return torch.autograd.grad(output.square().sum(), inputs)


def test_layers_with_experts_and_decoders_stay_as_they_are() -> None:
    assert not BlockGraphs(learner("switch")).forwards
    assert len(BlockGraphs(learner("t5")).forwards) == 2, "the encoder's"


def test_evaluation_is_computed_as_written(monkeypatch: pytest.MonkeyPatch) -> None:
    assert captured_after(learner("bert"), [EQUAL] * 6, monkeypatch)
    assert not captured_after(learner("bert").eval(), [EQUAL] * 6, monkeypatch)


def test_a_run_on_a_cpu_is_refused(settings: Callable[..., dict[str, Any]]) -> None:
    values = settings(parallel={"precision": "bf16", "graphs": True})
    with pytest.raises(ConfigError, match=r"parallel\.graphs needs a GPU"):
        train(configs.parse(values, RunConfig, "run.toml"))


def test_recomputed_blocks_are_refused(settings: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(ConfigError, match="graphs with recompute is refused"):
        configs.parse(settings(parallel={"recompute": True, "graphs": True}), RunConfig, "run.toml")


def attention_by_boundaries(query, key, value, pattern: AttentionPattern, scale: float, dropout_p: float) -> Any:
    """Read only the memory that a kernel of a GPU reads."""
    lengths = pattern.query_layout.cu_seqlens_B1.diff().tolist()
    parts = zip(query.split(lengths), key.split(lengths), value.split(lengths), strict=True)
    scores = [(torch.einsum("ihk,jhk->hij", q, k) * scale, v) for q, k, v in parts]
    return torch.cat([torch.einsum("hij,jhk->ihk", score.softmax(-1), v) for score, v in scores])


def test_blocks_of_a_token_budget_get_the_boundaries_of_each_micro_batch(
    fake_cuda: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(test_recompute.SHAPE, "dropout", 0.0)
    monkeypatch.setitem(test_recompute.SHAPE, "attention_dropout", 0.0)
    monkeypatch.setattr(attention, "choose_kernel", lambda *_: attention_by_boundaries)
    captured, plain = learner("bert"), learner("bert")
    blocks = BlockGraphs(captured)

    def computed(model: Any, hidden: torch.Tensor, lengths: list[int]) -> list[torch.Tensor]:
        part = replace(layout(np.array(lengths)), longest=12, dummies=1)
        pattern, state = AttentionPattern(part, part), hidden.clone().requires_grad_()
        output = state
        for block in model.backbone.blocks:
            output = block(output, pattern)
        parameters = list(model.backbone.blocks.parameters())
        return [output.detach().clone(), *(each.clone() for each in gradient_of(output, [state, *parameters]))]

    for _ in range(4):
        blocks.begin()
        if not blocks.captured:
            computed(captured, torch.randn(18, 32), [0, 3, 4, 11])
    assert len(blocks.captured) == 2
    for (block, _), graph in blocks.captured.items():
        compute_again(graph, blocks.forwards[block])
    for lengths in ([0, 3, 4, 11], [2, 2, 12, 2], [0, 0, 6, 12]):
        blocks.begin()
        hidden = torch.randn(18, 32)
        expected = computed(plain, hidden, lengths)
        for ours, theirs in zip(computed(captured, hidden, lengths), expected, strict=True):
            torch.testing.assert_close(ours, theirs)
