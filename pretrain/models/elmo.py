"""ELMo (Peters et al. 2018; Jozefowicz et al. 2016): tokens spelled by characters, read by LSTMs in both directions."""

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from configs.kinds import Fixed, Free
from pretrain.batch import Batch
from pretrain.flops import product_flops
from pretrain.layers.dropout import Dropout
from pretrain.layers.recurrent import ProjectedLSTM, Steps
from pretrain.layers.style import Style
from pretrain.models.family import LARGEST_SIZE, FamilyModule, ModelConfig, Vocabulary
from pretrain.roles import Capability, Encoded

CHARACTERS = 261
"""256 bytes, and begin and end of text, begin and end of a word, padding (``Tokenizer.spelling``)."""


class ElmoConfig(ModelConfig):
    """The paper's model unless said otherwise (section 3.4, and its published options)."""

    family: Fixed[Literal["elmo"]] = "elmo"
    layers: Fixed[int] = Field(default=2, gt=0)
    """Recurrent layers of each direction."""
    width: Fixed[int] = Field(default=1024, gt=0)
    """Size of a token's hidden state (D): both directions' projections side by side."""
    cells: Fixed[int] = Field(default=4096, gt=0)
    """LSTM cells of each layer and direction (C)."""
    character_width: Fixed[int] = Field(default=16, gt=0)
    """Size of a character's embedding."""
    characters_per_token: Fixed[int] = Field(default=50, gt=3)
    """Bytes and marks of a token that are read; what is longer is cut."""
    filters: Fixed[tuple[tuple[int, int], ...]] = ((1, 32), (2, 32), (3, 64), (4, 128), (5, 256), (6, 512), (7, 1024))
    """(characters that a filter sees, how many filters there are)."""
    highways: Fixed[int] = Field(default=2, ge=0)
    """Highway layers over the filters (Srivastava et al. 2015)."""
    dropout: Free[float] = Field(default=0.1, ge=0, lt=1)
    """Probability of dropping an entry of a recurrent layer's input, and of the last layer's output."""
    cell_clip: Fixed[float] = Field(default=3.0, gt=0)
    """Largest value of a cell, either sign."""
    projection_clip: Fixed[float] = Field(default=3.0, gt=0)
    """Largest value of a recurrent layer's output, either sign."""

    def init_std(self, name: str, shape: torch.Size) -> float:
        """By what a product sums over, so that what is read through many layers stays as large as it was; characters as
        numbers in [-1, 1] (the published code has other forms of much the same size). ``initial_std`` has no effect."""
        return 3**-0.5 if name.endswith("embedding.weight") else shape[1:].numel() ** -0.5

    @model_validator(mode="after")
    def _shape_fits(self) -> "ElmoConfig":
        if self.width % 2:
            raise ValueError(f"width {self.width} is that of two directions and must be even")
        longest = max((size for size, _ in self.filters), default=0)
        if not 0 < longest <= self.characters_per_token:
            raise ValueError(f"filters must see 1 to characters_per_token = {self.characters_per_token} characters")
        if any(size < 1 or count < 1 for size, count in self.filters):
            raise ValueError("filters are pairs of numbers above 0")
        if (answers := sum(count for _, count in self.filters)) > LARGEST_SIZE:
            raise ValueError(f"filters: {answers} in all are more than any machine computes, at most {LARGEST_SIZE:,}")
        return self


class CharacterEncoder(nn.Module):
    """Characters of tokens [N, characters] -> embeddings [N, P]: filters, the largest answer of each, highways."""

    def __init__(self, config: ElmoConfig):
        super().__init__()
        answers, projection = sum(count for _, count in config.filters), config.width // 2
        self.embedding = nn.Embedding(CHARACTERS, config.character_width)
        self.filters = nn.ModuleList(nn.Conv1d(config.character_width, count, size) for size, count in config.filters)
        self.highways = nn.ModuleList(nn.Linear(answers, answers) for _ in range(config.highways))
        self.carries = nn.ModuleList(nn.Linear(answers, answers) for _ in range(config.highways))
        self.projection = nn.Linear(answers, projection)
        filter_weights = sum(size * count for size, count in config.filters) * config.character_width
        self.weights = filter_weights + answers * (2 * config.highways * answers + projection)

    def forward(self, characters_NC: Tensor) -> Tensor:
        spelled_NEC = self.embedding(characters_NC).transpose(1, 2)
        # Not amax: that shares a gradient among equal windows, of which padding has many, and adds up crumbs.
        answers_NF = torch.cat([each(spelled_NEC).max(-1).values for each in self.filters], -1).relu()
        for highway, carry in zip(self.highways, self.carries, strict=True):
            # A new layer passes on most of what it gets.
            share_NF = torch.sigmoid(carry(answers_NF) - 2.0)
            answers_NF = share_NF * highway(answers_NF).relu() + (1 - share_NF) * answers_NF
        return self.projection(answers_NF)

    def flops(self, tokens: int) -> int:
        """With each filter at one position of a token."""
        return product_flops(self.weights, tokens)


class Elmo(FamilyModule):
    """Batch -> hidden states [T, D]: left half from the tokens up to each one, right half from those after it."""

    provides: ClassVar[frozenset[Capability]] = frozenset({"two_directional"})
    pooling = "mean"
    ties_output = False
    reads: ClassVar[tuple[str, ...]] = ("tokens",)
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
        spelling = torch.from_numpy(vocabulary.spelling(config.characters_per_token).astype("int32"))
        self.register_buffer("spelling_VC", spelling, persistent=False)
        self.character_encoder = CharacterEncoder(config)
        self.dropout = Dropout(config.dropout)
        clips = config.cell_clip, config.projection_clip
        self.forward_layers, self.backward_layers = (
            nn.ModuleList(ProjectedLSTM(half, config.cells, half, *clips) for _ in range(config.layers))
            for _ in range(2)
        )

    def forward(self, batch: Batch) -> Encoded:
        # The same piece is spelled out once, however often it stands in a batch.
        pieces_N, place_T = batch["tokens"].unique(return_inverse=True)
        embedded_TP = self.character_encoder(self.spelling_VC[pieces_N])[place_T]
        states = [
            self._read(embedded_TP, layers, Steps.of(batch.layout, backward=backward))
            for layers, backward in ((self.forward_layers, False), (self.backward_layers, True))
        ]
        layers = tuple(torch.cat(both, -1) for both in zip(*states, strict=True))
        return Encoded(self.dropout(layers[-1]), layers=layers)

    def flops(self, batch: Batch) -> int:
        recurrent = sum(layer.flops(batch.tokens) for layer in (*self.forward_layers, *self.backward_layers))
        return self.character_encoder.flops(batch.tokens) + recurrent

    def _read(self, embedded_TP: Tensor, layers: nn.ModuleList, steps: Steps) -> list[Tensor]:
        """States [T, P] of the embedding and of every layer of one direction."""
        states = [embedded_TP]
        for number, layer in enumerate(layers):
            state_TP = layer(self.dropout(states[-1]), steps)
            # From the second layer on what was read is added to what came of it (section 3.4).
            states.append(state_TP + states[-1] if number else state_TP)
        return states
