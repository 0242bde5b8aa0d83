"""What CUDA kernels keep in memory, for shapes that are computed on a CPU.

The layers choose other kernels on a GPU than on a CPU: fused attention, which keeps no scores, torch's dropout with a
mask of one byte, and a loss over larger parts of the logits.
"""

from collections.abc import Callable
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from sesame.pretrain.layers.attention import Attention, AttentionPattern, CoreAttention
from sesame.pretrain.layers.dropout import Dropout
from sesame.pretrain.layers.vocabulary import VocabularyProjection
from sesame.pretrain.parallel.sequence import TokenDropout
from sesame.pretrain.planning.split import Projection


class FusedAttention(nn.Module):
    """FlashAttention (Dao et al. 2022) keeps queries, keys, values, output and one fp32 number for a query and head."""

    recomputable: ClassVar[str] = CoreAttention.recomputable

    def __init__(self, core: CoreAttention):
        super().__init__()

    def forward(self, query_THK: Tensor, key_SHK: Tensor, value_SHK: Tensor, pattern: AttentionPattern) -> Tensor:
        bias = pattern.masks[0] if pattern.bias_HLL is not None else None
        return cast(Tensor, _Fused.apply(query_THK, key_SHK, value_SHK, bias))


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
        output = torch.empty_like(query)
        statistics = query.new_empty(query.shape[:2], dtype=torch.float32)
        ctx.save_for_backward(query, key, value, bias, output, statistics)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, bias, *_ = ctx.saved_tensors
        bias_gradient = None if bias is None or not ctx.needs_input_grad[3] else torch.empty_like(bias)
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value), bias_gradient


class FusedDropout(nn.Module):
    """torch's dropout on a GPU keeps a mask of one byte for each entry."""

    def __init__(self, plain: Dropout):
        super().__init__()
        self.p = plain.p

    def forward(self, states: Tensor) -> Tensor:
        return torch.native_dropout(states, self.p, True)[0] if self.p else states


class FusedTokenDropout(TokenDropout):
    """The same where tokens are divided."""

    def __init__(self, plain: TokenDropout):
        super().__init__(plain.p, *plain.split)

    def draw(self, ones: Tensor) -> Tensor:
        return torch.native_dropout(ones, self.p, True)[1]


def _for_gpu(part: Any) -> nn.Module:
    """Let a layer divide and join its products as it does on a GPU; ZeRO 3, which joins none, needs a little less."""
    part.device_type = "cuda"
    return part


REPLACEMENTS: dict[str, dict[type[nn.Module], Callable[[Any], nn.Module]]] = {
    "cpu": {},
    "cuda": {
        Attention: _for_gpu,
        CoreAttention: FusedAttention,
        Dropout: FusedDropout,
        TokenDropout: FusedTokenDropout,
        Projection: _for_gpu,
        VocabularyProjection: _for_gpu,
    },
}
"""Device type -> class of a layer -> the layer that keeps what the device's kernel keeps."""


def use_kernels(module: nn.Module, device: str) -> None:
    """Replace the layers of ``module`` whose kernels differ on ``device``."""
    for name, part in list(module.named_modules()):
        if replace := REPLACEMENTS[device].get(type(part)):
            parent, _, leaf = name.rpartition(".")
            setattr(module.get_submodule(parent), leaf, replace(part))
