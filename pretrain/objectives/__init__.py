"""The table of objectives. Each is a head with its loss, one file each."""

from torch import nn

from pretrain.objectives.masked_lm import MaskedLM
from pretrain.objectives.sentence_pairs import SentencePairs

OBJECTIVES: dict[str, type[nn.Module]] = {
    "masked_lm": MaskedLM,
    "sentence_pairs": SentencePairs,
}
