"""Activation memory of one process of a layout, from traces of a few layers and few sequences.

It is linear in the number of layers, so a model of a hundred layers is not traced as a whole. It is linear in the
number of sequences, too, as long as all their logits are computed at once, and again where they are computed in several
parts (``LOGITS_AT_ONCE``).
"""

from collections.abc import Mapping
from functools import cache

import torch

from sesame.pretrain.data.repeated_sizes import sizes_for
from sesame.pretrain.layers.vocabulary import LOGITS_AT_ONCE
from sesame.pretrain.learner import build
from sesame.pretrain.models.family import ModelConfig, Vocabulary
from sesame.pretrain.parallel.fp8 import use_fp8
from sesame.pretrain.planning.kernels import use_kernels
from sesame.pretrain.planning.rows import Rows, shape_batch
from sesame.pretrain.planning.split import Division, Split, split_learner
from sesame.pretrain.planning.trace import Pass, extrapolate, trace, without_values

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
TRACED_PERIODS = 2
"""Repetitions of the pattern of layers that are traced, and one more."""
TRACED_PARTS = 4
"""Parts of the logits that are traced, and twice as many."""


class Activations:
    """Activation memory by layout, each traced once."""

    def __init__(
        self, model: ModelConfig, objectives: Mapping[str, float], vocabulary: Vocabulary, rows: Rows, device: str
    ):
        """
        Args:
            device: type of the device whose kernels are assumed.
        """
        self.model, self.objectives, self.vocabulary = model, objectives, vocabulary
        self.rows, self.device = rows, device
        self.traced = cache(self._traced)
        self.of_sequences = cache(self._of_sequences)

    def of(self, division: Division, micro_batch: int, most: int) -> Pass:
        """Return the pass of a micro-batch.

        Args:
            most: the largest micro-batch that is asked for.

        Raises:
            IndivisibleError: the model cannot be split so.
        """
        low, high = self._traced_sequences(division, micro_batch, most)
        few, many = self.of_sequences(division, low), self.of_sequences(division, high)
        return extrapolate(few, many, (micro_batch - low) / (high - low))

    def _traced_sequences(self, division: Division, micro_batch: int, most: int) -> tuple[int, int]:
        """Return two micro-batches from which the count is interpolated."""
        logits = self.rows.entries("P") * self.vocabulary.size
        # A vocabulary that is split has all its logits at once.
        in_a_part = LOGITS_AT_ONCE[self.device] / logits if division.tensor == 1 else most
        if micro_batch <= in_a_part:
            return 1, max(2, min(most, int(in_a_part)))
        low = max(TRACED_PARTS, int(TRACED_PARTS * in_a_part))
        return low, max(2 * TRACED_PARTS, int(2 * TRACED_PARTS * in_a_part))

    def _of_sequences(self, division: Division, micro_batch: int) -> Pass:
        """Extrapolate from few layers to all of them."""
        stacks = {name: getattr(self.model, name) for name in ("layers", "decoder_layers") if hasattr(self.model, name)}
        period = getattr(self.model, "sparse_every", 1)

        def small(layers: int) -> int:
            return min(layers, TRACED_PERIODS * period + layers % period)

        few = {name: small(layers) for name, layers in stacks.items()}
        counted = self.traced(division, micro_batch, tuple(few.items()))
        result = counted
        for name, layers in stacks.items():
            if layers > few[name]:
                more = self.traced(division, micro_batch, tuple({**few, name: few[name] + period}.items()))
                change = extrapolate(counted, more, (layers - few[name]) / period)
                result = Pass(*(total + new - old for total, new, old in zip(result, change, counted, strict=True)))
        return result

    def _traced(self, division: Division, micro_batch: int, layers: tuple[tuple[str, int], ...]) -> Pass:
        model = self.model.model_copy(update=dict(layers))
        learner = build(model, self.objectives, self.vocabulary)
        split = Split(division.tensor, division.expert, division.sequence, division.recompute != "block")
        split_learner(learner, split)
        if division.fp8:
            use_fp8(learner, self.device)
        use_kernels(learner, self.device)
        learner.train()
        with without_values():
            batch = shape_batch(self.rows, micro_batch, learner.reads)
            sized = sizes_for(learner, division.precision, torch.device(self.device))(batch)
            counted = trace(learner, sized, split, DTYPES[division.precision], recompute=division.recompute)
        # Rounded sizes are those of earlier steps.
        return counted if sized is batch else counted._replace(product_shapes=0.0)
