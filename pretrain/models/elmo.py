"""ELMo (Peters et al. 2018; Jozefowicz et al. 2016): character convolutions and LSTMs in both directions."""

from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from sesame.configs.kinds import Fixed, Free
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.pretrain.batch import Batch
from sesame.pretrain.flops import product_flops
from sesame.pretrain.layers.dropout import Dropout
from sesame.pretrain.layers.recurrent import ProjectedLSTM, Steps
from sesame.pretrain.layers.style import Style
from sesame.pretrain.models.family import LARGEST_SIZE, FamilyModule, ModelConfig, Vocabulary
from sesame.pretrain.roles import Capability, Encoded

BEGIN_OF_TEXT, END_OF_TEXT, BEGIN_OF_WORD, END_OF_WORD, PADDING = range(256, 261)
"""ELMo's characters behind the 256 bytes."""
CHARACTERS = 261


class ElmoConfig(ModelConfig):
    """Defaults: the paper's model (section 3.4, and its published options)."""

    family: Fixed[Literal["elmo"]] = "elmo"
    layers: Fixed[int] = Field(default=2, gt=0)
    """Recurrent layers of each direction."""
    width: Fixed[int] = Field(default=1024, gt=0)
    """Size of a token's hidden state (D): the concatenated projections of both directions."""
    cells: Fixed[int] = Field(default=4096, gt=0)
    """LSTM cells of each layer and direction (C)."""
    character_width: Fixed[int] = Field(default=16, gt=0)
    """Size of a character's embedding."""
    characters_per_token: Fixed[int] = Field(default=50, gt=3)
    """Bytes and marks of a token that are read; longer tokens are truncated."""
    filters: Fixed[tuple[tuple[int, int], ...]] = ((1, 32), (2, 32), (3, 64), (4, 128), (5, 256), (6, 512), (7, 1024))
    """(width of a filter in characters, number of filters)."""
    highways: Fixed[int] = Field(default=2, ge=0)
    """Highway layers after the filters (Srivastava et al. 2015)."""
    dropout: Free[float] = Field(default=0.1, ge=0, lt=1)
    """Probability of dropping an entry of a recurrent layer's input, and of the last layer's output."""
    cell_clip: Fixed[float] = Field(default=3.0, gt=0)
    """Largest absolute value of a cell."""
    projection_clip: Fixed[float] = Field(default=3.0, gt=0)
    """Largest absolute value of a recurrent layer's output."""

    def init_std(self, name: str, shape: torch.Size) -> float:
        """1 / sqrt(fan-in), so that the scale is kept through many layers; for character embeddings that of uniform
        numbers in [-1, 1] (close to the published code's). ``initial_std`` has no effect."""
        return 3**-0.5 if name.endswith("embedding.weight") else shape[1:].numel() ** -0.5

    @model_validator(mode="after")
    def _shape_is_possible(self) -> "ElmoConfig":
        if self.width % 2:
            raise ValueError(f"width {self.width} must be even, because it is divided between two directions")
        longest = max((size for size, _ in self.filters), default=0)
        if not 0 < longest <= self.characters_per_token:
            raise ValueError(f"filters must be 1 to characters_per_token = {self.characters_per_token} characters wide")
        if any(size < 1 or count < 1 for size, count in self.filters):
            raise ValueError("filters must be pairs of numbers above 0")
        if (filters := sum(count for _, count in self.filters)) > LARGEST_SIZE:
            raise ValueError(f"filters: {filters} in all are too many; at most {LARGEST_SIZE:,} are possible")
        return self


def characters(vocabulary: Vocabulary, longest: int) -> np.ndarray:
    """Return the characters of every piece as ELMo numbers them (Peters et al. 2018), padded to ``longest``.

    A piece is its UTF-8 bytes and an end of word, with a begin of word in front only where the piece shows one. [CLS]
    and [SEP] are begin and end of text.

    Returns:
        uint16 [V, ``longest``]; zeros without a tokenizer.
    """
    if vocabulary.tokenizer is None:
        return np.zeros((vocabulary.size, longest), np.uint16)
    tokenizer = Tokenizer.load(vocabulary.tokenizer)
    marks = {tokenizer.special.cls: [BEGIN_OF_TEXT], tokenizer.special.sep: [END_OF_TEXT]}
    table = np.full((len(tokenizer), longest), PADDING, np.uint16)
    for token in range(len(tokenizer)):
        marked = tokenizer.is_marked(token)
        begins = [BEGIN_OF_WORD] if token in marks or marked else []
        # Not from the decoded text, in which several pieces of single bytes are the same replacement character.
        text = marks.get(token) or list(tokenizer.piece_bytes(token).removeprefix(b" " * marked))
        row = [*begins, *text[: longest - len(begins) - 1], END_OF_WORD]
        table[token, : len(row)] = row
    return table


class CharacterEncoder(nn.Module):
    """Characters of tokens [N, characters] -> embeddings [N, P]: filters, max pooling, highways, projection."""

    def __init__(self, config: ElmoConfig):
        super().__init__()
        filters, projection = sum(count for _, count in config.filters), config.width // 2
        self.embedding = nn.Embedding(CHARACTERS, config.character_width)
        self.filters = nn.ModuleList(nn.Conv1d(config.character_width, count, size) for size, count in config.filters)
        self.highways = nn.ModuleList(nn.Linear(filters, filters) for _ in range(config.highways))
        self.carries = nn.ModuleList(nn.Linear(filters, filters) for _ in range(config.highways))
        self.projection = nn.Linear(filters, projection)
        filter_weights = sum(size * count for size, count in config.filters) * config.character_width
        self.weights = filter_weights + filters * (2 * config.highways * filters + projection)

    def forward(self, characters_NC: Tensor) -> Tensor:
        embedding_NEC = self.embedding(characters_NC).transpose(1, 2)
        # Not amax: it divides a gradient among equal windows, of which padding has many, and sums rounding errors.
        pooled = [convolution(embedding_NEC).max(-1).values for convolution in self.filters]
        hidden_NF = torch.cat(pooled, -1).relu()
        for highway, carry in zip(self.highways, self.carries, strict=True):
            # The offset lets a new layer pass on most of its input.
            gate_NF = torch.sigmoid(carry(hidden_NF) - 2.0)
            hidden_NF = gate_NF * highway(hidden_NF).relu() + (1 - gate_NF) * hidden_NF
        return self.projection(hidden_NF)

    def flops(self, tokens: int) -> int:
        """With each filter at one position of a token."""
        return product_flops(self.weights, tokens)


class Elmo(FamilyModule):
    """Batch -> hidden states [T, D]: left half forward, right half backward direction."""

    provides: ClassVar[frozenset[Capability]] = frozenset({"two_directional"})
    pooling = "mean"
    ties_output = False
    reads: ClassVar[tuple[str, ...]] = ("tokens", "distinct_tokens", "distinct_numbers")
    style: ClassVar[Style] = Style()
    SHARDING: ClassVar[dict[str, str]] = {
        "forward_layers.*.gates": "column",
        "forward_layers.*.recurrent": "column",
        "forward_layers.*.output": "row",
        "backward_layers.*.gates": "column",
        "backward_layers.*.recurrent": "column",
        "backward_layers.*.output": "row",
    }
    spelling_VC: Tensor
    forward_layers: Any
    """ProjectedLSTMs of one direction, in an nn.ModuleList."""
    backward_layers: Any
    """Those of the other direction."""

    def __init__(self, config: ElmoConfig, vocabulary: Vocabulary):
        super().__init__()
        half = config.width // 2
        self.width, self.mixed_layers = config.width, config.layers + 1
        self.vocabulary_rows = config.padded(vocabulary.size)
        spelling = torch.from_numpy(characters(vocabulary, config.characters_per_token).astype("int32"))
        self.register_buffer("spelling_VC", spelling, persistent=False)
        self.character_encoder = CharacterEncoder(config)
        self.dropout = Dropout(config.dropout)
        clips = config.cell_clip, config.projection_clip
        self.forward_layers, self.backward_layers = (
            nn.ModuleList(ProjectedLSTM(half, config.cells, half, *clips) for _ in range(config.layers))
            for _ in range(2)
        )

    def forward(self, batch: Batch) -> Encoded:
        # Each distinct token of a batch is encoded once.
        embedding_NP = self.character_encoder(self.spelling_VC[batch["distinct_tokens"]])
        embedding_TP = embedding_NP[batch["distinct_numbers"]]
        states = [
            self._hidden_states(embedding_TP, layers, Steps.of(batch.layout, backward=backward))
            for layers, backward in ((self.forward_layers, False), (self.backward_layers, True))
        ]
        layers = tuple(torch.cat(both, -1) for both in zip(*states, strict=True))
        return Encoded(self.dropout(layers[-1]), layers=layers)

    def flops(self, batch: Batch) -> int:
        recurrent = sum(layer.flops(batch.tokens) for layer in (*self.forward_layers, *self.backward_layers))
        return self.character_encoder.flops(batch.tokens) + recurrent

    def _hidden_states(self, embedding_TP: Tensor, layers: nn.ModuleList, steps: Steps) -> list[Tensor]:
        """Return the states [T, P] of the embedding and of every layer of one direction."""
        states = [embedding_TP]
        for number, layer in enumerate(layers):
            state_TP = layer(self.dropout(states[-1]), steps)
            # Residual connections from the second layer on (section 3.4).
            states.append(state_TP + states[-1] if number else state_TP)
        return states
