"""The roles of the pretraining stage, with their shapes.

Shape suffixes, here and in every file of this stage:
    T tokens of a packed batch, S keys, U tokens of all targets, B sequences, L tokens of the longest one, D width,
    H heads, K head width, F feed-forward width, V vocabulary, P predicted positions, E experts.

A batch is packed: the tokens of whole sequences lie end to end in one axis T, and ``boundaries`` says where each
sequence starts. No padding exists, so none is computed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from pretrain.layers.style import Style


class LengthGroup(NamedTuple):
    """Neighbouring sequences of a packed batch that attention handles in one call (the CPU path)."""

    start: int
    """First token."""
    end: int
    """One past the last token."""
    lengths: tuple[int, ...]
    """Tokens of each sequence of the group."""


@dataclass(frozen=True)
class Layout:
    """Where the sequences of a packed batch lie. Made once for a batch and read by every layer."""

    boundaries_B1: Tensor
    """int32 [B + 1]: sequence b is ``tokens[boundaries[b]:boundaries[b + 1]]``."""
    longest: int
    """Tokens of the longest sequence."""
    groups: tuple[LengthGroup, ...]
    """The sequences in runs of similar length, in order, covering all of T."""

    @property
    def sequences(self) -> int:
        return len(self.boundaries_B1) - 1

    @property
    def starts_B(self) -> Tensor:
        """int64 [B]: the position of each sequence's first token."""
        return self.boundaries_B1[:-1].long()

    @property
    def ends_B(self) -> Tensor:
        """int64 [B]: the position of each sequence's last token."""
        return self.boundaries_B1[1:].long() - 1

    def to(self, device: torch.device) -> "Layout":
        return Layout(self.boundaries_B1.to(device, non_blocking=True), self.longest, self.groups)


@dataclass(frozen=True)
class Batch:
    """Named tensors of one packed micro-batch, and what they are to be averaged over."""

    layout: Layout
    columns: Mapping[str, Tensor]
    """By column name: per token [T], per prediction [P] or per sequence [B]; the table is in ``batches.py``."""
    denominators: Mapping[str, float] = field(default_factory=dict)
    """By column name: entries of that column in the GLOBAL batch, divided by the number of micro-batches in it.

    A loss summed over this micro-batch and divided by it is, after the mean over all micro-batches, the exact mean
    over the global batch, whatever the layout."""
    targets: Layout | None = None
    """Where the texts lie that a decoder writes, one for each sequence; its groups hold the same sequences as those of
    ``layout``."""

    def __getitem__(self, column: str) -> Tensor:
        return self.columns[column]

    @property
    def tokens(self) -> int:
        return len(self.columns["tokens"])

    def to(self, device: torch.device) -> "Batch":
        columns = {name: column.to(device, non_blocking=True) for name, column in self.columns.items()}
        targets = self.targets.to(device) if self.targets is not None else None
        return Batch(self.layout.to(device), columns, self.denominators, targets)


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


Provision = Literal["both_sides", "left_side", "each_side", "decoded", "balance"]
"""What a family's states are made of: a token's state knows all tokens, those to the left only, or each half of it
those on one side (ELMo); a decoder writes targets; experts are to be balanced."""


class Backbone(Protocol):
    """A model family without a head: ``forward(batch) -> Encoded``. Built from (its Config, Vocabulary)."""

    SHARDING: ClassVar[dict[str, str]]
    """Pattern of module names -> word of the tensor-parallel plan (``pretrain/parallel/tensor.py``)."""
    provides: ClassVar[frozenset[Provision]]
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


class Objective(Protocol):
    """A head with its loss: ``forward(encoded, batch) -> loss``, the sum over entries of ``label_column``."""

    SHARDING: ClassVar[dict[str, str]]
    needs: ClassVar[Provision]
    """What the backbone must provide."""
    reads: ClassVar[tuple[str, ...]]
    """Batch columns that forward reads."""
    label_column: ClassVar[str]
    """The column whose number of entries the summed loss is divided by."""
    predicts_tokens: ClassVar[bool]
    """Whether the loss is nats per token, to be compared with what counting gives."""
    uses_per_label: ClassVar[int]
    """How often the head is gone through for each label (ELMo: once in each direction)."""

    def __call__(self, encoded: Encoded, batch: Batch) -> Tensor: ...
