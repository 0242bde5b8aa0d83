"""Transformer blocks as CUDA graphs: the host starts a block's forward or backward pass with one launch.

A graph repeats the kernels of one shape on the same memory. It is captured when micro-batches of one shape have come
several times in a row: sequences of one length, or any of a token budget (``data.micro_tokens``), whose boundaries and
positions are copied to that memory. Causal micro-batches (``data.causal_every``) have graphs of their own.
Micro-batches of another shape are computed as before; so are those of a later dataset with other lengths
(``data.stages``), because a block that has a graph gets no other.
"""

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from sesame.pretrain.layers.attention_pattern import AttentionPattern
from sesame.pretrain.layers.experts import SparseFeedForward
from sesame.pretrain.layers.transformer import BLOCKS

REPEATS = 3
"""Micro-batches of one shape after which it is captured."""
WARM_UP = 2
"""Passes before the capture, in which libraries choose kernels and allocate."""

Shapes = tuple["Shape | None", ...]
"""Of the blocks of a micro-batch."""
Forward = Callable[[Tensor, AttentionPattern], Tensor]


class Shape(NamedTuple):
    """What a block's kernels depend on, beside its weights."""

    size: tuple[int, ...]
    """[T, D] of the hidden states."""
    longest: int
    sequences: int
    has_equal_lengths: bool
    causal: bool
    window: int
    dtype: torch.dtype

    @classmethod
    def of(cls, hidden_TD: Tensor, pattern: AttentionPattern) -> "Shape | None":
        """Return the shape of a batch of sequences of one length or of a token budget; None of any other batch."""
        queries, equal = pattern.query_layout, pattern.query_layout.has_equal_lengths
        is_fixed = pattern.key_layout is queries and (equal or queries.dummies)
        # Of each micro-batch, so not in the memory that a graph reads.
        is_fixed = is_fixed and pattern.bias_HLL is None and pattern.added_values_SD is None
        if not is_fixed:
            return None
        sizes = tuple(hidden_TD.shape), queries.longest, queries.sequences, equal
        return cls(*sizes, pattern.causal, pattern.window, hidden_TD.dtype)


class Call(NamedTuple):
    """A call of a block in the last micro-batch."""

    block: nn.Module
    shape: Shape | None
    pattern: AttentionPattern


class BlockGraphs:
    """Replaces ``forward`` of a learner's blocks by one that replays graphs where there are some."""

    def __init__(self, learner: nn.Module):
        kinds = tuple(BLOCKS.values())
        self.forwards: dict[nn.Module, Forward] = {}
        for part in learner.modules():
            if type(part) in kinds and not isinstance(getattr(part, "feed_forward", None), SparseFeedForward):
                self.forwards[part] = part.forward
                part.forward = partial(self._run, part)  # type: ignore[method-assign]
        self.calls: list[Call] = []
        self.repeats: dict[bool, tuple[Shapes, int]] = {}
        """Whether micro-batches are causal -> shapes of the last one, and how many in a row had them."""
        self.captured: dict[tuple[nn.Module, bool], BlockGraph] = {}
        self.copied: set[int] = set()
        """``id`` of the captured patterns that have the values of this micro-batch."""

    def begin(self) -> None:
        """Start a micro-batch of training; capture the graphs if the last ones had the same shapes."""
        calls, self.calls = self.calls, []
        self.copied.clear()
        if not calls:
            return
        causal, shapes = calls[0].pattern.causal, tuple(call.shape for call in calls)
        before, repeats = self.repeats.get(causal, (shapes, 0))
        repeats = repeats + 1 if shapes == before else 1
        self.repeats[causal] = shapes, repeats
        uses = Counter(call.block for call in calls)
        # A block that is shared by several layers would overwrite what its own backward passes need.
        if repeats >= REPEATS and None not in shapes and max(uses.values()) == 1:
            self.captured |= capture(calls)
            # Those of the capture.
            self.calls.clear()

    def _run(self, block: nn.Module, hidden_TD: Tensor, pattern: AttentionPattern) -> Tensor:
        if not (block.training and torch.is_grad_enabled()):
            return self.forwards[block](hidden_TD, pattern)
        graph, shape = self.captured.get((block, pattern.causal)), Shape.of(hidden_TD, pattern)
        if graph is not None and graph.shape == shape:
            if id(graph.pattern) not in self.copied:
                _copy(pattern, graph.pattern)
                self.copied.add(id(graph.pattern))
            return cast(Tensor, _Replay.apply(graph, hidden_TD, *graph.parameters))
        if graph is None:
            self.calls.append(Call(block, shape, pattern))
        return self.forwards[block](hidden_TD, pattern)


def _copy(pattern: AttentionPattern, captured: AttentionPattern) -> None:
    """Give the memory that kernels read beside states and weights the values of another micro-batch."""
    if pattern is captured:
        return
    captured.query_layout.cu_seqlens_B1.copy_(pattern.query_layout.cu_seqlens_B1)
    for target, source in zip(captured.rotary_angles or (), pattern.rotary_angles or (), strict=True):
        target.copy_(source)


class BlockGraph:
    """The graphs of one block, and the memory that they work on."""

    def __init__(self, call: Call, hidden_TD: Tensor):
        self.block, self.shape, self.pattern = call
        self.parameters = list(self.block.parameters())
        # The same memory. Nodes of the autograd graph that others hold (DeepSpeed does) belong to their stream, which
        # the capture would have to wait for.
        self.aliases: dict[str, Tensor] = {
            name: nn.Parameter(part.detach()) for name, part in self.block.named_parameters()
        }
        self.hidden = hidden_TD.detach().requires_grad_()
        self.forward_graph, self.backward_graph = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        self.output = self.output_gradient = hidden_TD
        self.gradients: tuple[Tensor, ...] = ()

    def compute(self) -> Tensor:
        """Return the output of the block."""
        return cast(Tensor, torch.func.functional_call(self.block, self.aliases, (self.hidden, self.pattern)))

    def differentiate(self, output: Tensor, output_gradient: Tensor) -> tuple[Tensor, ...]:
        """Return the gradients of the input and of the parameters."""
        return torch.autograd.grad(output, (self.hidden, *self.aliases.values()), output_gradient)


class _Replay(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, graph: BlockGraph, hidden_TD: Tensor, *_: Tensor) -> Tensor:
        ctx.graph = graph
        if hidden_TD.data_ptr() != graph.hidden.data_ptr():
            graph.hidden.detach().copy_(hidden_TD)
        graph.forward_graph.replay()
        return graph.output.detach()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        graph: BlockGraph = ctx.graph
        if gradients[0].data_ptr() != graph.output_gradient.data_ptr():
            graph.output_gradient.copy_(gradients[0])
        graph.backward_graph.replay()
        return None, *(gradient.detach() for gradient in graph.gradients)


def capture(calls: list[Call]) -> dict[tuple[nn.Module, bool], BlockGraph]:
    """Capture the forward passes of blocks in the order of ``calls``, and then their backward passes.

    The graphs share memory as the passes of a micro-batch do, so they have to be replayed in that order.
    """
    first = calls[0]
    assert first.shape is not None
    device = first.pattern.query_layout.cu_seqlens_B1.device
    random_state = torch.cuda.get_rng_state(device)
    hidden = torch.randn(first.shape.size, dtype=first.shape.dtype, device=device)
    torch.cuda.synchronize(device)
    stream, pool = torch.cuda.Stream(device), torch.cuda.graph_pool_handle()
    graphs = {(call.block, call.pattern.causal): BlockGraph(call, hidden) for call in calls}
    with torch.cuda.stream(stream):
        for graph in graphs.values():
            for _ in range(WARM_UP):
                output = graph.compute()
                graph.differentiate(output, torch.ones_like(output))
    torch.cuda.synchronize(device)
    # Other threads, such as that of NCCL, may use the device during the capture.
    capturing = partial(torch.cuda.graph, pool=pool, stream=stream, capture_error_mode="thread_local")
    for graph in graphs.values():
        # The memory of the block before it, so that nothing is copied between two blocks.
        graph.hidden = hidden.detach().requires_grad_()
        with capturing(graph.forward_graph):
            graph.output = graph.compute()
        hidden = graph.output
    gradient = torch.ones_like(hidden)
    for graph in reversed(graphs.values()):
        graph.output_gradient = gradient
        with capturing(graph.backward_graph):
            graph.gradients = graph.differentiate(graph.output, gradient)
        gradient, graph.output = graph.gradients[0], graph.output.detach()
    torch.cuda.synchronize(device)
    torch.cuda.set_rng_state(random_state, device)
    return graphs
