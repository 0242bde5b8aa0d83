"""Masked next-token prediction: predict a masked token from the state of the token before it (GPT-BERT, Charpentier and
Samuel 2024, section 2).

The output of a position is then the next token, as in a causal model, so the same head also serves steps in which the
model attends to earlier tokens only (``data.causal_every``).
"""

from torch import Tensor

from sesame.pretrain.batch import Batch
from sesame.pretrain.objectives.masked_lm import MaskedLM
from sesame.pretrain.roles import Encoded


class MaskedNextToken(MaskedLM):
    """BERT's head at the positions before the masked ones; a row begins with [CLS], which is never masked."""

    def hidden(self, encoded: Encoded, batch: Batch) -> Tensor:
        return encoded.hidden_TD[batch["mask_positions"] - 1]
