"""The protocols of the pretraining stage: a backbone encodes a batch, an objective computes a loss.

Shape suffixes as in ``pretrain/batch.py``.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal, NamedTuple, Protocol

from torch import Tensor, nn

from sesame.pretrain.batch import Batch
from sesame.pretrain.layers.style import Style


class Encoded(NamedTuple):
    """The output of a backbone."""

    hidden_TD: Tensor
    """Last hidden states."""
    decoded_UD: Tensor | None = None
    """Last hidden states of the decoder, which predict the target tokens; None without decoder or targets."""
    layers: tuple[Tensor, ...] = ()
    """Hidden states [T, D] of the embedding and of each layer, of a family whose layers are mixed for a task (ELMo)."""
    balance: Tensor | None = None
    """Load-balancing loss of all expert layers, a mean over the tokens of the micro-batch."""


Capability = Literal["bidirectional", "causal", "two_directional", "decoded", "balance"]
"""What a backbone computes that objectives can use.

bidirectional: a hidden state depends on all tokens of its sequence. causal: on those up to its own. two_directional:
one half of it on those up to its own, the other half on those from its own on (ELMo). decoded: ``Encoded.decoded_UD``.
balance: ``Encoded.balance``."""


class Backbone(Protocol):
    """A model family without a head: ``forward(batch) -> Encoded``. Built from (its Config, Vocabulary)."""

    SHARDING: ClassVar[dict[str, str]]
    """Pattern of module names -> style of tensor parallelism (``pretrain/parallel/tensor.py``)."""
    provides: ClassVar[frozenset[Capability]]
    """Capabilities for objectives."""
    width: int
    """Size of a hidden state (D)."""
    vocabulary_rows: int
    """Size of the padded vocabulary (V)."""
    token_embedding: nn.Embedding
    """Tied to the projections of objectives if ``ties_output``; otherwise it may be absent."""

    @property
    def reads(self) -> tuple[str, ...]:
        """Batch columns that forward reads."""
        ...

    @property
    def positions(self) -> int | None:
        """Longest sequence in tokens; None: any length."""
        ...

    @property
    def pooling(self) -> str:
        """Sequence representation for a task: the hidden state of the ``first`` or ``last`` token, or the ``mean``."""
        ...

    @property
    def mixed_layers(self) -> int:
        """Number of layers (``Encoded.layers``) that are mixed for a task; 0: ``hidden_TD`` is used."""
        ...

    @property
    def pooler(self) -> Mapping[str, Tensor]:
        """Pretrained ``weight`` and ``bias`` of a dense layer with tanh over the first token's state, which initialize
        a task's head; not part of the backbone. Empty: there are none."""
        ...

    @property
    def decoder_projection(self) -> Tensor | None:
        """Pretrained weight of the projection of a decoder's states to the vocabulary; not part of the backbone. None:
        it is tied to the token embedding, or there is none."""
        ...

    @property
    def style(self) -> Style:
        """Norm, activation and biases of layers and heads."""
        ...

    @property
    def unsplittable(self) -> str:
        """Why tensor parallelism cannot split it, for a message; empty if it can."""
        ...

    @property
    def ties_output(self) -> bool:
        """Whether the projection to the vocabulary is tied to the token embedding."""
        ...

    @property
    def output_scale(self) -> float:
        """Factor of hidden states before that projection."""
        ...

    def __call__(self, batch: Batch) -> Encoded: ...

    def flops(self, batch: Batch) -> int:
        """Of a forward and backward pass (``pretrain/flops.py``)."""
        ...


class Objective(Protocol):
    """A head and its loss: ``forward(encoded, batch) -> loss``, summed over the entries of ``label_column``."""

    SHARDING: ClassVar[dict[str, str]]
    needs: ClassVar[Capability]
    """Capability that the backbone must have."""
    reads: ClassVar[tuple[str, ...]]
    """Batch columns that forward reads."""
    label_column: ClassVar[str]
    """Batch column whose number of entries in the global batch divides the summed loss."""
    predicts_tokens: ClassVar[bool]
    """Whether the loss is in nats per token and comparable with the unigram baseline."""

    def __call__(self, encoded: Encoded, batch: Batch) -> Tensor: ...

    def flops(self, labels: int) -> int:
        """Of a forward and backward pass with so many entries of ``label_column`` (``pretrain/flops.py``)."""
        ...
