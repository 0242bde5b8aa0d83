"""Sequence parallelism (Korthikanti et al. 2022, section 4.2.2): between the layers that tensor parallelism splits, a
process has a part of the tokens, so that norms, dropout and residuals are computed and kept once instead of in each.

Sums of partial results become reduce-scatters, and all-gathers come before the layers that are split by columns, which
together send as much as the all-reduces they replace. What an all-gather has joined is not kept: the backward pass
gathers it again, unless the block is recomputed as a whole. A batch is packed, so its tokens are padded to a multiple
of the processes with copies; padding reaches no other token, and its gradient is zero. megatron-core has the same
collectives for whole multiples on CUDA only, so they are made here.

R tokens of one process; other shape suffixes as in ``pretrain/batch.py``.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sesame.pretrain.layers.dropout import Dropout, dropout
from sesame.pretrain.layers.experts import SparseFeedForward
from sesame.pretrain.layers.token_split import TokenSplit
from sesame.pretrain.layers.transformer import PostNormBlock
from sesame.pretrain.learner import Trainable


class TokenGroup(NamedTuple):
    """The processes that divide the tokens among them, and their collectives."""

    rank: int
    processes: int
    all_gather: Callable[[Tensor], Tensor]
    """[R, D] -> [processes x R, D]."""
    reduce_scatter: Callable[[Tensor], Tensor]
    """[processes x R, D] -> this process's part of the sum, [R, D]."""
    all_reduce: Callable[[Tensor], Tensor]
    """The sum, as a new tensor."""


class SplitTokens(TokenSplit):
    """The tokens of one stack of blocks, of which this process has the ``rank``-th part."""

    def __init__(self, blocks: str, group: TokenGroup, gathers_again: bool):
        super().__init__(blocks)
        self.group, self.gathers_again = group, gathers_again
        self.tokens = 0
        """Of the micro-batch that is computed, without padding."""

    def enter(self, states_TD: Tensor) -> Tensor:
        """Return this process's tokens; all processes have the same ``states_TD``."""
        self.tokens = len(states_TD)
        return cast(Tensor, _Divide.apply(states_TD, self))

    def leave(self, states_TD: Tensor) -> Tensor:
        """Join the tokens for computations that all processes repeat."""
        return cast(Tensor, _Join.apply(states_TD, self, False))

    def gather(self, states_RD: Tensor) -> Tensor:
        """Join the tokens for a layer that is split, whose input's gradient is summed over the processes."""
        return cast(Tensor, _Join.apply(states_RD, self, True))

    def sum_parts(self, partial_TD: Tensor) -> Tensor:
        """Sum partial results over the processes and return this process's tokens."""
        return cast(Tensor, _SumParts.apply(partial_TD, self))

    def own(self, whole_TD: Tensor) -> Tensor:
        """Copy this process's tokens, padded with zeros; no collective."""
        rows = -(-len(whole_TD) // self.group.processes)
        own = whole_TD[self.group.rank * rows : (self.group.rank + 1) * rows]
        # A copy, because a view would keep the whole in memory.
        return F.pad(own, (0, 0, 0, rows - len(own))) if len(own) < rows else own.clone()

    def join(self, part_RD: Tensor, tokens: int) -> Tensor:
        return self.group.all_gather(part_RD.contiguous())[:tokens]

    def reduce(self, whole_TD: Tensor) -> Tensor:
        extra = -len(whole_TD) % self.group.processes
        padded = F.pad(whole_TD, (0, 0, 0, extra)) if extra else whole_TD.contiguous()
        return self.group.reduce_scatter(padded)


class _Divide(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states_TD: Tensor, split: SplitTokens) -> Tensor:
        ctx.split, ctx.tokens = split, split.tokens
        own_RD = split.own(states_TD)
        # Not zeros: the inverse standard deviation of a norm would be infinite in fp16.
        padding = max(0, min(len(own_RD), (split.group.rank + 1) * len(own_RD) - len(states_TD)))
        own_RD[len(own_RD) - padding :] = states_TD[:1]
        return own_RD

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.split.join(gradients[0], ctx.tokens), None


class _Join(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states_RD: Tensor, split: SplitTokens, is_summed: bool) -> Tensor:
        ctx.split, ctx.is_summed = split, is_summed
        return split.join(states_RD, split.tokens)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        own = ctx.split.reduce if ctx.is_summed else ctx.split.own
        return own(gradients[0]), None, None


class _SumParts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, partial_TD: Tensor, split: SplitTokens) -> Tensor:
        ctx.split, ctx.tokens = split, len(partial_TD)
        return split.reduce(partial_TD)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.split.join(gradients[0], ctx.tokens), None


class TokenDropout(Dropout):
    """Draws the numbers of all tokens and uses those of its own, so that a layout drops what every other one drops."""

    def __init__(self, p: float, split: SplitTokens):
        super().__init__(p)
        self.split = (split,)

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or not self.p:
            return input
        (split,) = self.split
        kept = self.draw(input.new_ones(split.tokens, input.shape[1]))
        return input * split.own(kept) * (1 / (1 - self.p))

    def draw(self, ones: Tensor) -> Tensor:
        """Return which entries of a tensor of ones are kept."""
        return dropout(ones, self.p) != 0


class _GatheredAgain:
    """A tensor of joined tokens that is kept for the backward pass as this process's tokens."""

    def __init__(self, states_RD: Tensor, split: SplitTokens):
        self.states_RD, self.split, self.tokens = states_RD.detach(), split, split.tokens
        self.uses = 0
        """Layers that have yet to read it."""
        self.whole: Tensor | None = None

    def get(self) -> Tensor:
        """Join the tokens, once for all layers."""
        whole = self.split.join(self.states_RD, self.tokens) if self.whole is None else self.whole
        self.uses -= 1
        self.whole = whole if self.uses > 0 else None
        return whole


def split_tokens(learner: Trainable, group: TokenGroup, *, gathers_again: bool) -> int:
    """Divide the tokens within each stack of blocks, and return how many stacks there are.

    Args:
        learner: with the layers of tensor parallelism. Parameters whose gradient is then of a process's own tokens get
            the attribute ``has_partial_gradient``.
        gathers_again: keep no joined tokens for the backward pass; False for blocks that are recomputed.
    """
    stacks = [(name, part) for name, part in learner.named_modules() if type(part) is TokenSplit]
    for name, plain in stacks:
        parent, _, leaf = name.rpartition(".")
        owner = learner.get_submodule(parent)
        split = SplitTokens(plain.blocks, group, gathers_again)
        setattr(owner, leaf, split)
        for block in getattr(owner, plain.blocks).modules():
            if isinstance(block, PostNormBlock):
                _split_block(block, split)
    return len(stacks)


def sum_partial_gradients(learner: nn.Module, group: TokenGroup) -> None:
    """Let each backward pass sum the gradients of norms and biases over the processes, before ZeRO takes them.

    DeepSpeed does not do it, and megatron-core only in a function that DeepSpeed never calls.
    """
    for parameter in learner.parameters():
        if getattr(parameter, "has_partial_gradient", False):
            parameter.register_hook(group.all_reduce)


def _split_block(block: Any, split: SplitTokens) -> None:
    block.dropout = TokenDropout(block.dropout.p, split)
    attention, cross, feed_forward = block.attention, getattr(block, "cross_attention", None), block.feed_forward
    columns, rows = [attention.query, attention.key, attention.value], [attention.output]
    _gather_input(attention, "project", split)
    if cross is not None:
        # Its keys and values are of the encoder's states, which have left their stack.
        columns.append(cross.query)
        rows.append(cross.output)
        _gather_input(cross, "project", split)
    if isinstance(feed_forward, SparseFeedForward):
        # The router sees all tokens, and each process computes the same routes.
        block.feed_forward.forward = partial(_for_all_tokens, feed_forward.forward, split)
    else:
        columns += [layer for layer in (feed_forward.up, feed_forward.gate) if layer is not None]
        rows.append(feed_forward.down)
        _gather_input(feed_forward, "forward", split)
    for column in columns:
        column.keep_partial_gradient()
    for row in rows:
        row.token_split = (split,)
    norms = [part for name, part in block.named_children() if name.endswith("norm")]
    partial_gradients = [*(parameter for norm in norms for parameter in norm.parameters()), *(row.bias for row in rows)]
    for parameter in partial_gradients:
        if parameter is not None:
            parameter.has_partial_gradient = True


def _gather_input(part: Any, method: str, split: SplitTokens) -> None:
    """Let a method join the tokens of its first argument, once for all layers that read it."""
    setattr(part, method, partial(_with_gathered_input, getattr(part, method), split))


def _for_all_tokens(forward: Callable[[Tensor], Tensor], split: SplitTokens, states_RD: Tensor) -> Tensor:
    return split.enter(forward(split.leave(states_RD)))


def _with_gathered_input(method: Callable[..., Any], split: SplitTokens, states_RD: Tensor, *others: Any) -> Any:
    whole_TD = split.gather(states_RD)
    if not split.gathers_again:
        return method(whole_TD, *others)
    kept, storage = _GatheredAgain(states_RD, split), whole_TD.untyped_storage()._cdata

    def pack(tensor: Tensor) -> Tensor | _GatheredAgain:
        if tensor.untyped_storage()._cdata != storage:
            return tensor
        kept.uses += 1
        return kept

    with torch.autograd.graph.saved_tensors_hooks(pack, _unpack):
        return method(whole_TD, *others)


def _unpack(kept: Tensor | _GatheredAgain) -> Tensor:
    return kept.get() if isinstance(kept, _GatheredAgain) else kept
