"""Training of those rows of the token embedding that a training set uses.

Of a vocabulary of 30,000 tokens, which are half of a small BERT's weights, CoLA has 5,600 and MRPC 11,600. The gradient
of any other row is zero, so AdamW changes it by weight decay alone, which can be done for all steps at once.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sesame.evaluation.finetuning.encoded import EncodedExamples

LARGEST_SHARE = 0.9
"""Of rows that are used; above it all are trained."""


class TokenRows(nn.Module):
    """Some rows of an embedding, looked up by the numbers that they have in the whole table."""

    numbers_V: Tensor

    def __init__(self, table: nn.Embedding, tokens_N: Tensor):
        super().__init__()
        self.weight = nn.Parameter(table.weight.detach()[tokens_N], table.weight.requires_grad)
        numbers_V = torch.zeros(len(table.weight), dtype=torch.int64, device=tokens_N.device)
        numbers_V[tokens_N] = torch.arange(len(tokens_N), device=tokens_N.device)
        self.register_buffer("numbers_V", numbers_V, persistent=False)

    def forward(self, tokens_T: Tensor) -> Tensor:
        return F.embedding(self.numbers_V[tokens_T], self.weight)


class UsedRows:
    """The token embedding of a backbone while it is trained; afterwards the backbone has its whole table again."""

    def __init__(self, backbone: nn.Module, tokens_N: Tensor):
        """
        Args:
            tokens_N: all that training reads, each once.
        """
        table = backbone.get_submodule("token_embedding")
        assert isinstance(table, nn.Embedding)
        self._backbone, self._table, self._tokens_N = backbone, table, tokens_N
        self._rows = TokenRows(table, tokens_N)
        self._kept = 1.0

    @contextmanager
    def trained(self) -> Iterator[None]:
        """Let the backbone have only the used rows in the block."""
        self._backbone.register_module("token_embedding", self._rows)
        try:
            yield
        finally:
            with torch.no_grad():
                # All rows; the used ones are replaced.
                self._table.weight.mul_(self._kept)
                self._table.weight[self._tokens_N] = self._rows.weight
            self._backbone.register_module("token_embedding", self._table)
            self._kept = 1.0

    def decay(self, groups: list[dict[str, Any]]) -> None:
        """Note the weight decay of a step in the block of :meth:`trained`, of an optimizer with these ``groups``."""
        assert self._backbone.get_submodule("token_embedding") is self._rows, "the step has trained no embedding"
        for group in groups:
            if any(parameter is self._rows.weight for parameter in group["params"]):
                self._kept *= 1 - group["lr"] * group["weight_decay"]


class AllRows:
    """A backbone whose token embedding is trained as it is."""

    @contextmanager
    def trained(self) -> Iterator[None]:
        yield

    def decay(self, groups: list[dict[str, Any]]) -> None:
        """The optimizer has done it."""


def rows_to_train(backbone: nn.Module, train: EncodedExamples, device: torch.device) -> UsedRows | AllRows:
    """Return what is trained of the token embedding."""
    table = getattr(backbone, "token_embedding", None)
    # A decoder's table may also be its projection to the vocabulary.
    if not isinstance(table, nn.Embedding) or train.decoder_tokens is not None:
        return AllRows()
    # Token 0 is also read where a batch is filled up (``pretrain/data/repeated_sizes.py``).
    tokens_N = np.unique(np.concatenate([[0], *train.tokens]))
    if len(tokens_N) > LARGEST_SHARE * table.num_embeddings:
        return AllRows()
    return UsedRows(backbone, torch.from_numpy(tokens_N.astype(np.int64)).to(device))
