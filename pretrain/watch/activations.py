"""The largest activation and the entropy of attention of each layer, measured in a forward pass of its own.

Attention's kernels do not return its weights, so they are computed again for a few sequences. Numbers are those of the
step's first micro-batch, which is the same in every layout if its size is set (``data.micro_batch`` or
``data.micro_tokens``) and else depends on the number of processes. Data-parallel processes with other micro-batches
compute along, because ZeRO 3 gathers weights from all.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sesame.pretrain.batch import Batch, Layout
from sesame.pretrain.layers.attention import CoreAttention
from sesame.pretrain.layers.attention_pattern import AttentionPattern
from sesame.pretrain.layers.recurrent import ProjectedLSTM
from sesame.pretrain.layers.transformer import PostNormBlock
from sesame.pretrain.parallel.engine import Engine
from sesame.pretrain.parallel.sequence import SplitTokens

SEQUENCES = 4
"""Of a micro-batch whose entropy is computed."""
LAYERS = (PostNormBlock, ProjectedLSTM)
"""Modules whose output is a layer's activation."""


class ActivationMeter:
    """Hooks of one forward pass."""

    def __init__(self, engine: Engine):
        self._engine, self._mesh = engine, engine.mesh
        self._divides_tokens = any(isinstance(part, SplitTokens) for part in engine.learner.modules())
        self._largest: dict[str, list[Tensor]] = {}
        self._entropies: dict[str, list[Tensor]] = {}

    def measure(self, batch: Batch) -> dict[str, dict[str, float]]:
        """Return numbers by layer; of a layer that is used several times (ALBERT), one for each use; a collective.

        Args:
            batch: first micro-batch of this process in a step.
        """
        hooks = []
        for name, part in self._engine.learner.named_modules():
            if isinstance(part, LAYERS):
                hooks.append(part.register_forward_hook(partial(self._note_output, name, batch.layout)))
            if isinstance(part, CoreAttention):
                hooks.append(part.register_forward_pre_hook(partial(self._note_entropy, name)))
        try:
            self._engine.train(False)
            self._engine.evaluate(batch.to(self._mesh.device))
        finally:
            self._engine.train(True)
            for hook in hooks:
                hook.remove()
        largest = self._reduce(self._largest, "activation_max", lambda all_RN: all_RN.amax(0))
        # Tensor-parallel processes have equal numbers of heads.
        entropies = self._reduce(self._entropies, "entropy", lambda all_RN: all_RN.mean(0))
        for name, numbers in entropies.items():
            layer, _, attention = name.rpartition(".")
            largest.setdefault(layer, {})[f"{attention}_entropy"] = numbers["entropy"]
        return largest

    def _note_output(self, name: str, layout: Layout, _: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Note the largest value of the tokens that count: not of dummies, nor of sequence parallelism's padding."""
        layout = inputs[1].query_layout if isinstance(inputs[1], AttentionPattern) else layout
        first = self._mesh.tensor_rank * len(output) if self._divides_tokens else 0
        counted = output[: max(0, sum(layout.lengths) - first)]
        largest = counted.abs().max() if len(counted) else output.new_zeros(())
        self._largest.setdefault(name, []).append(largest.float())

    def _note_entropy(self, name: str, core: nn.Module, inputs: tuple[Any, ...]) -> None:
        query_THK, key_SHK, _, pattern = inputs
        assert isinstance(core, CoreAttention)
        self._entropies.setdefault(name.removesuffix(".core"), []).append(
            attention_entropy(query_THK, key_SHK, pattern, core.scale)
        )

    def _reduce(
        self, values: dict[str, list[Tensor]], what: str, reduce: Callable[[Tensor], Tensor]
    ) -> dict[str, dict[str, float]]:
        """Return the numbers of the processes with the first micro-batch by layer; a collective."""
        names = [_numbered(name, number, len(each)) for name, each in values.items() for number in range(len(each))]
        if not names:
            return {}
        all_RN = torch.zeros(self._mesh.tensor, len(names), device=self._mesh.device)
        if self._mesh.data_rank == 0:
            all_RN[self._mesh.tensor_rank] = torch.stack([each for part in values.values() for each in part])
        numbers = reduce(self._mesh.sum_over_all(all_RN)).tolist()
        return {name: {what: number} for name, number in zip(names, numbers, strict=True)}


@torch.no_grad()
def attention_entropy(query_THK: Tensor, key_SHK: Tensor, pattern: AttentionPattern, scale: float) -> Tensor:
    """Return the entropy of the attention weights in nats, a mean over heads and queries of the first sequences."""
    queries, keys, mask = pattern.query_layout.groups[0], pattern.key_layout.groups[0], pattern.masks[0]
    entropies, starts = [], [queries.start, keys.start]
    measured = queries.lengths[: min(SEQUENCES, len(pattern.query_layout.lengths))]
    for number, lengths in enumerate(zip(measured, keys.lengths, strict=False)):
        query_LHK, key_SHK_own = (
            states[start : start + length]
            for states, start, length in zip((query_THK, key_SHK), starts, lengths, strict=True)
        )
        scores_HLS = scale * torch.einsum("lhk,shk->hls", query_LHK.float(), key_SHK_own.float())
        if mask is not None:
            own = mask[min(number, len(mask) - 1)] if mask.dim() == 4 else mask
            scores_HLS = scores_HLS + own[..., : lengths[0], : lengths[1]]
        entropies.append(torch.special.entr(scores_HLS.softmax(-1)).sum(-1).mean(0))
        starts = [start + length for start, length in zip(starts, lengths, strict=True)]
    return torch.cat(entropies).mean()


def _numbered(name: str, number: int, uses: int) -> str:
    if uses == 1:
        return name
    # A layer's attention is below it: the number belongs to the layer.
    layer, _, last = name.rpartition(".")
    return f"{layer}.{number}.{last}" if last.endswith("attention") else f"{name}.{number}"
