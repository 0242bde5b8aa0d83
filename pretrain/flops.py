"""Floating-point operations of a forward and backward pass, for the report of how well the hardware is used."""

from typing import Any, NamedTuple

from torch import nn

from pretrain.batch import Batch, Layout
from pretrain.layers.attention import Attention

READ_FROM_THE_ENCODER = ("cross_attention.key.weight", "cross_attention.value.weight")
"""Parts of a decoder that are used for every token of the encoder."""


class FlopCount(NamedTuple):
    """6 operations for each weight and use, 12 L S H K for an attention of L queries over S keys (Kaplan et al. 2020,
    section 2.1); counted on real tokens, predicted positions and chosen experts; masks are not subtracted, and ELMo's
    filters are counted once a token."""

    per_token: float
    """Of the encoder, or of a model that is one stack."""
    per_target: float
    """Of the decoder of a model that has both."""
    per_label: dict[str, float]
    """Of each objective's head, by the column that it predicts."""
    attention: float
    """Per pair of tokens."""
    decoder_attention: float
    """Per pair of target tokens."""
    cross_attention: float
    """Per pair of target token and token."""

    @classmethod
    def of(cls, learner: Any) -> "FlopCount":
        """Count a learner that is not split over processes."""
        backbone = learner.backbone
        embeddings = {id(part.weight) for part in backbone.modules() if isinstance(part, nn.Embedding)}
        uses = {True: 0.0, False: 0.0}
        for name, weight in backbone.named_parameters():
            if weight.ndim > 1 and id(weight) not in embeddings and not name.endswith("position_bias.weight"):
                # Of stacked experts, [E, D, F], each token uses one.
                size = weight.numel() / (weight.shape[0] if ".experts." in name else 1)
                by_targets = name.startswith("decoder") and not name.endswith(READ_FROM_THE_ENCODER)
                uses[by_targets] += 6.0 * size * _times(backbone, name)
        pairs = {"": 0.0, "decoder": 0.0, "cross": 0.0}
        for name, part in backbone.named_modules():
            if isinstance(part, Attention):
                kind = "cross" if "cross" in name else "decoder" if name.startswith("decoder") else ""
                pairs[kind] += 12.0 * part.query.out_features * _times(backbone, name)
        labels = {
            objective.label_column: 6.0
            * objective.uses_per_label
            * sum(weight.numel() for weight in objective.parameters() if weight.ndim > 1)
            for objective in learner.objectives.values()
        }
        return cls(uses[False], uses[True], labels, pairs[""], pairs["decoder"], pairs["cross"])

    def operations(self, batch: Batch) -> float:
        """Of one micro-batch."""
        done = self.per_token * batch.tokens + self.attention * _pairs(batch.layout, batch.layout)
        done += sum(each * len(batch.columns.get(column, ())) for column, each in self.per_label.items())
        if batch.targets is None:
            return done
        done += self.per_target * len(batch["decoder_tokens"])
        done += self.decoder_attention * _pairs(batch.targets, batch.targets)
        return done + self.cross_attention * _pairs(batch.targets, batch.layout)


def _times(backbone: Any, name: str) -> int:
    """How often a part is gone through: ALBERT's one block by every layer."""
    return backbone.layers if name.startswith("block.") else 1


def _pairs(queries: Layout, keys: Layout) -> int:
    lengths = ([length for group in place.groups for length in group.lengths] for place in (queries, keys))
    return sum(query * key for query, key in zip(*lengths, strict=True))
