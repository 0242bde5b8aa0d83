"""The part of a model that one process has: the same layers with smaller sizes, by the model's SHARDING table.

``pretrain/parallel`` does the same with megatron-core's layers, which need process groups; here only shapes matter.
"""

import fnmatch
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sesame.pretrain.layers.attention import CoreAttention
from sesame.pretrain.layers.experts import Experts, TokenDispatcher
from sesame.pretrain.layers.linear import Linear, Product
from sesame.pretrain.layers.positions import RelativePositionBias
from sesame.pretrain.layers.style import Style
from sesame.pretrain.layers.vocabulary import CrossEntropy, VocabularyProjection
from sesame.pretrain.learner import Learner
from sesame.pretrain.models.family import on_meta_device
from sesame.pretrain.parallel.sequence import SplitTokens, TokenGroup, split_tokens


class Division(NamedTuple):
    """What the activations of a process depend on, beside its micro-batch."""

    tensor: int = 1
    expert: int = 1
    precision: str = "fp32"
    recompute: str = "none"
    sequence: bool = False
    fp8: bool = False


class Split:
    """How many processes split the layers (``tensor``) and the experts of a layer (``expert``), whether the first also
    divide the tokens (``sequence``), and what its layers have sent in forward and backward."""

    def __init__(self, tensor: int, expert: int, sequence: bool = False, gathers_again: bool = True):
        self.tensor, self.expert, self.sequence = tensor, expert, sequence
        self.gathers_again = gathers_again
        self.reduced = self.exchanged = 0.0
        """Bytes that were summed over the tensor-parallel processes, and sent to those with other experts."""

    @property
    def token_group(self) -> TokenGroup:
        """Collectives that send nothing; a reduce-scatter and an all-gather move half as much as an all-reduce."""

        def all_gather(part: Tensor) -> Tensor:
            whole = part.new_empty(self.tensor * len(part), *part.shape[1:])
            self.reduced += whole.numel() * whole.element_size() / 2
            return whole

        def reduce_scatter(whole: Tensor) -> Tensor:
            self.reduced += whole.numel() * whole.element_size() / 2
            return whole.new_empty(len(whole) // self.tensor, *whole.shape[1:])

        return TokenGroup(0, self.tensor, all_gather, reduce_scatter, torch.clone)

    def part(self, size: int) -> int:
        """Return one process's part of a size that tensor parallelism splits."""
        if size % self.tensor:
            raise IndivisibleError(size, self.tensor)
        return size // self.tensor


class IndivisibleError(Exception):
    """A size of the model is not divisible by the number of processes that split it."""

    def __init__(self, size: int, processes: int):
        super().__init__(f"{processes} does not divide {size}")


class Column(nn.Linear):
    """The gradient of the input is summed over the processes."""

    split: Split
    has_partial_gradient = False
    product: Product = staticmethod(F.linear)
    """As that of ``Linear``."""

    def keep_partial_gradient(self) -> None:
        """Leave the sum to the module that made the input."""
        self.has_partial_gradient = True

    def forward(self, input: Tensor) -> Tensor:
        whole = input if self.has_partial_gradient else cast(Tensor, _SummedGradient.apply(input, self.split))
        return self.product(whole, self.weight, self.bias)


class Row(nn.Linear):
    """The output is summed over the processes."""

    split: Split
    token_split: tuple[SplitTokens, ...] = ()
    product: Product = staticmethod(F.linear)

    def forward(self, input: Tensor) -> Tensor:
        if self.token_split:
            output = self.token_split[0].sum_parts(self.product(input, self.weight, None))
            return output if self.bias is None else output + self.bias
        output = self.product(input, self.weight, self.bias)
        self.split.reduced += output.numel() * output.element_size()
        return output


class Projection(VocabularyProjection):
    """The gradient of the hidden states is summed over the processes."""

    split: Split

    def forward(self, hidden_PD: Tensor, labels_P: Tensor | None = None) -> Tensor:
        return super().forward(cast(Tensor, _SummedGradient.apply(hidden_PD, self.split)), labels_P)


class _SummedGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, split: Split) -> Tensor:
        ctx.split = split
        return states.view_as(states)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        ctx.split.reduced += gradients[0].numel() * gradients[0].element_size()
        return gradients[0], None


class SplitCrossEntropy(CrossEntropy):
    """megatron-core's loss over a split vocabulary keeps the softmax in fp32."""

    def forward(self, projection: VocabularyProjection, hidden_PD: Tensor, labels_P: Tensor) -> Tensor:
        # The softmax keeps its result for the backward pass, and in fp32 needs no copy of its input.
        return projection(hidden_PD).float().softmax(-1).sum()


class SplitDispatcher(TokenDispatcher):
    """An all-to-all has a second tensor of the size of the states."""

    def __init__(self, split: Split):
        super().__init__()
        self.split = split

    def to_experts(self, states_ECD: Tensor) -> Tensor:
        return self._exchange(states_ECD.unflatten(0, (self.split.expert, -1))).transpose(0, 1).flatten(1, 2)

    def to_tokens(self, states_ECD: Tensor) -> Tensor:
        sent = states_ECD.unflatten(1, (self.split.expert, -1)).transpose(0, 1)
        return self._exchange(sent.contiguous()).flatten(0, 1)

    def _exchange(self, states: Tensor) -> Tensor:
        # In the backward pass the gradient is sent back.
        self.split.exchanged += 2 * states.numel() * states.element_size()
        return states.clone()


def _column(layer: nn.Linear, split: Split) -> nn.Module:
    column = Column(layer.in_features, split.part(layer.out_features), bias=layer.bias is not None)
    column.split = split
    return column


def _row(layer: nn.Linear, split: Split) -> nn.Module:
    row = Row(split.part(layer.in_features), layer.out_features, bias=layer.bias is not None)
    row.split = split
    return row


def _embedding(layer: nn.Embedding, split: Split) -> nn.Module:
    return nn.Embedding(split.part(layer.num_embeddings), layer.embedding_dim)


def _projection(layer: VocabularyProjection, split: Split) -> nn.Module:
    rows, width = layer.weight.shape
    projection = Projection(split.part(rows), width, bias=layer.bias is not None, scale=layer.scale)
    projection.split = split
    return projection


def _core(core: CoreAttention, split: Split) -> nn.Module:
    return CoreAttention(split.part(core.heads), core.scale, core.dropout)


def _position_bias(layer: RelativePositionBias, split: Split) -> nn.Module:
    return RelativePositionBias(layer.buckets, layer.longest_distance, split.part(layer.heads), layer.bidirectional)


def _experts(whole: Experts, split: Split) -> nn.Module:
    if whole.experts % split.expert:
        raise IndivisibleError(whole.experts, split.expert)
    inner = split.part(whole.feed_forward_width)
    style = Style(gated=whole.gate is not None)
    part = Experts(whole.experts // split.expert, whole.up.shape[1], inner, style)
    part.activation = whole.activation
    for parameter in part.parameters():
        # DeepSpeed's attribute of parameters that differ between data-parallel processes.
        parameter.allreduce = split.expert == 1  # type: ignore[attr-defined]
    return part


def _dispatcher(plain: TokenDispatcher, split: Split) -> nn.Module:
    return SplitDispatcher(split) if split.expert > 1 else plain


def _cross_entropy(_: CrossEntropy, __: Split) -> nn.Module:
    return SplitCrossEntropy()


LOCAL_LAYERS: dict[tuple[str, type[nn.Module]], Callable[[Any, Split], nn.Module]] = {
    ("column", Linear): _column,
    ("column", nn.Linear): _column,
    ("row", Linear): _row,
    ("row", nn.Linear): _row,
    ("vocabulary", nn.Embedding): _embedding,
    ("vocabulary", VocabularyProjection): _projection,
    ("vocabulary", CrossEntropy): _cross_entropy,
    ("heads", CoreAttention): _core,
    ("heads", RelativePositionBias): _position_bias,
    ("experts", Experts): _experts,
    ("experts", TokenDispatcher): _dispatcher,
}
"""(style in the SHARDING table, class of the whole layer) -> function that makes one process's part."""


def split_learner(learner: Learner, split: Split) -> None:
    """Replace the layers of ``learner`` (on the meta device) by one process's parts.

    Raises:
        IndivisibleError: a size is not divisible, or the model cannot be split.
    """
    if split.tensor > 1 and learner.backbone.unsplittable:
        raise IndivisibleError(1, split.tensor)
    for pattern, style in learner.sharding():
        if split.tensor == 1 and (style != "experts" or split.expert == 1):
            continue
        for name, module in list(learner.named_modules()):
            if fnmatch.fnmatchcase(name, pattern):
                with on_meta_device():
                    replacement = LOCAL_LAYERS[style, type(module)](module, split)
                parent, _, leaf = name.rpartition(".")
                setattr(learner.get_submodule(parent), leaf, replacement)
    if split.sequence:
        split_tokens(learner, split.token_group, gathers_again=split.gathers_again)
    learner.tie()


def is_expert_part(parameter: torch.nn.Parameter) -> bool:
    """Whether other data-parallel processes have other experts in this parameter's place."""
    return not getattr(parameter, "allreduce", True)
