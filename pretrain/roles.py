"""The roles of the pretraining stage: a backbone encodes a batch, an objective makes a loss of it.

Shape suffixes as in ``pretrain/batch.py``.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal, NamedTuple, Protocol

from torch import Tensor, nn

from pretrain.batch import Batch
from pretrain.layers.style import Style


class Encoded(NamedTuple):
    """What a backbone makes of a batch."""

    hidden_TD: Tensor
    """The last layer's state of each token."""
    decoded_UD: Tensor | None = None
    """The decoder's last state before each token of the targets, where the family and the batch have them."""
    layers: tuple[Tensor, ...] = ()
    """All layers' states [T, D] of a family that is used through a mixture of them (ELMo), the embedding's first."""
    balance: Tensor | None = None
    """Load-balancing loss of all expert layers, a mean over the tokens of the micro-batch."""


Capability = Literal["bidirectional", "causal", "two_directional", "decoded", "balance"]
"""What a family's states are made of: a token's state knows all tokens, those to the left only, or each half of it
those on one side (ELMo); a decoder writes targets; experts are to be balanced."""


class Backbone(Protocol):
    """A model family without a head: ``forward(batch) -> Encoded``. Built from (its Config, Vocabulary)."""

    SHARDING: ClassVar[dict[str, str]]
    """Pattern of module names -> word of the tensor-parallel plan (``pretrain/parallel/tensor.py``)."""
    provides: ClassVar[frozenset[Capability]]
    """What objectives can build on."""
    width: int
    """Size of a hidden state (D)."""
    vocabulary_rows: int
    """Tokens that can be predicted, padding of the vocabulary included (V)."""
    token_embedding: nn.Embedding
    """What objectives tie their projection to where ``ties_output`` says so; else it may be absent."""

    @property
    def reads(self) -> tuple[str, ...]:
        """Batch columns that forward reads."""
        ...

    @property
    def positions(self) -> int | None:
        """Longest sequence, in tokens; None: any length."""
        ...

    @property
    def pooling(self) -> str:
        """What stands for a whole sequence: its ``first`` token's state, its ``last`` one's, or the ``mean``."""
        ...

    @property
    def mixed_layers(self) -> int:
        """How many layers' states (``Encoded.layers``) are mixed for a task; 0: the last one's is used."""
        ...

    @property
    def pooler(self) -> Mapping[str, Tensor]:
        """Pretrained ``weight`` and ``bias`` of a dense layer with tanh over the first token's state, which are no part
        of the backbone: a head for a task may start from them. Empty: there are none."""
        ...

    @property
    def style(self) -> Style:
        """What a head shares with the layers: norm, activation, biases."""
        ...

    @property
    def ties_output(self) -> bool:
        """Whether the projection to the vocabulary is the token embedding."""
        ...

    @property
    def output_scale(self) -> float:
        """Of a hidden state before that projection."""
        ...

    def __call__(self, batch: Batch) -> Encoded: ...

    def flops(self, batch: Batch) -> int:
        """Of a forward and backward pass (``pretrain/flops.py``)."""
        ...


class Objective(Protocol):
    """A head with its loss: ``forward(encoded, batch) -> loss``, the sum over entries of ``label_column``."""

    SHARDING: ClassVar[dict[str, str]]
    needs: ClassVar[Capability]
    """What the backbone must provide."""
    reads: ClassVar[tuple[str, ...]]
    """Batch columns that forward reads."""
    label_column: ClassVar[str]
    """The column whose number of entries the summed loss is divided by."""
    predicts_tokens: ClassVar[bool]
    """Whether the loss is nats per token, to be compared with what counting gives."""

    def __call__(self, encoded: Encoded, batch: Batch) -> Tensor: ...

    def flops(self, labels: int) -> int:
        """Of a forward and backward pass with so many entries of ``label_column`` (``pretrain/flops.py``)."""
        ...
