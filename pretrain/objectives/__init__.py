"""The table of objectives: a head and its loss, one file each."""

from typing import Any

from sesame.pretrain.objectives.bidirectional_lm import BidirectionalLM
from sesame.pretrain.objectives.causal_lm import CausalLM
from sesame.pretrain.objectives.expert_balance import ExpertBalance
from sesame.pretrain.objectives.masked_lm import MaskedLM
from sesame.pretrain.objectives.masked_next import MaskedNextToken
from sesame.pretrain.objectives.sentence_pairs import SentencePairs
from sesame.pretrain.objectives.span_corruption import SpanCorruption

OBJECTIVES: dict[str, Any] = {
    "masked_lm": MaskedLM,
    "masked_next": MaskedNextToken,
    "sentence_pairs": SentencePairs,
    "bidirectional_lm": BidirectionalLM,
    "causal_lm": CausalLM,
    "span_corruption": SpanCorruption,
    "expert_balance": ExpertBalance,
}
"""Name in the configuration -> class, an ``Objective``."""
