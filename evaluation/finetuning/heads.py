"""Task head on a backbone: pooling, an optional hidden layer, and the output layer.

T tokens, B sequences, N spans of a sequence, D width, C outputs, L layers, M tokens of the longest sequence.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from sesame.evaluation.finetune_config import FinetuneConfig
from sesame.evaluation.finetuning.decoder_head import DecoderHead, require_decoder
from sesame.evaluation.tasks.task import Task
from sesame.pretrain.batch import Batch
from sesame.pretrain.roles import Backbone, Encoded


def first(hidden_TD: Tensor, batch: Batch) -> Tensor:
    """The state of [CLS], [B, D]."""
    return hidden_TD[batch.layout.starts_B]


def last(hidden_TD: Tensor, batch: Batch) -> Tensor:
    """The state of each sequence's last token, [B, D], which depends on the whole sequence in a causal model."""
    return hidden_TD[batch.layout.ends_B]


def mean(hidden_TD: Tensor, batch: Batch) -> Tensor:
    """The mean over each sequence's tokens, [B, D]."""
    return _means(hidden_TD, batch.layout.cu_seqlens_B1.long().diff())


def pair(hidden_TD: Tensor, batch: Batch) -> Tensor:
    """(u, v, |u-v|, u*v) of the means of both segments, [B, 4 D]; v is 0 without a second segment."""
    lengths_B = batch.layout.cu_seqlens_B1.long().diff()
    first_B = batch["first_lengths"]
    means_B2D = _means(hidden_TD, torch.stack([first_B, lengths_B - first_B], 1).flatten()).unflatten(0, (-1, 2))
    u_BD, v_BD = means_B2D.unbind(1)
    return torch.cat([u_BD, v_BD, (u_BD - v_BD).abs(), u_BD * v_BD], -1)


def _means(hidden_TD: Tensor, lengths: Tensor) -> Tensor:
    # Not checked, because a GPU would be waited for: the lengths are those of the batch.
    sums = torch.segment_reduce(hidden_TD.float(), "sum", lengths=lengths, axis=0, initial=0.0, unsafe=True)
    return sums / lengths.clamp(min=1)[:, None]


POOLINGS: dict[str, tuple[Callable[[Tensor, Batch], Tensor], int]] = {
    "first": (first, 1),
    "last": (last, 1),
    "mean": (mean, 1),
    "pair": (pair, 4),
}
"""Name -> (function, width of its result as a multiple of D)."""


def span_means(hidden_TD: Tensor, batch: Batch) -> Tensor:
    """The mean over each span's tokens, one after the other, [B, N D]."""
    spans_BN2 = batch["spans"] + batch.layout.starts_B[:, None, None]
    starts, lengths = spans_BN2[..., 0].flatten(), (spans_BN2[..., 1] - spans_BN2[..., 0]).flatten()
    offsets = torch.arange(int(lengths.sum()), device=lengths.device) - (lengths.cumsum(0) - lengths).repeat_interleave(
        lengths
    )
    tokens = starts.repeat_interleave(lengths) + offsets
    return _means(hidden_TD[tokens], lengths).reshape(len(spans_BN2), -1)


HEAD_LAYER = "hidden.0"
"""Name in a :class:`Head` of the dense layer that may be a pooler."""


class Mixture(nn.Module):
    """Weighted mean of all layers' states, times gamma (ELMo, Peters et al. 2018, eq. 1)."""

    def __init__(self, layers: int):
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(layers))
        self.gamma = nn.Parameter(torch.ones(1))

    def forward(self, layers: tuple[Tensor, ...]) -> Tensor:
        """[T, D] of each layer -> [T, D]."""
        shares = self.weights.softmax(0)
        weighted_LTD = torch.stack([share * hidden_TD for share, hidden_TD in zip(shares, layers, strict=True)])
        return self.gamma * weighted_LTD.sum(0)


class Head(nn.Module):
    """A backbone's hidden states -> outputs [B, C].

    With pooling "first" the hidden layer is BERT's pooler, initialized from the pretrained one if there is one, which
    then reads its input without dropout as in pretraining; a new hidden layer has dropout before it (RoBERTa). The
    states of spans are concatenated to the pooled state (Wang et al. 2019, SuperGLUE, section 4.1).
    """

    def __init__(self, backbone: Backbone, outputs: int, config: FinetuneConfig, spans: int = 0):
        super().__init__()
        width = backbone.width
        self.mixture = Mixture(backbone.mixed_layers) if backbone.mixed_layers else None
        self.pool, widths = POOLINGS[pooling_of(backbone, config)]
        widths, self.spans = widths + spans, spans
        self.dropout = nn.Dropout(_dropout(config))
        dense = nn.Linear(widths * width, width)
        self.hidden = nn.Sequential(dense, nn.Tanh(), self.dropout) if config.hidden_layer else nn.Identity()
        self.output = nn.Linear(width if config.hidden_layer else widths * width, outputs)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                _initialize(module)
        self.before = self.dropout
        if uses_pooler(backbone, config, spans):
            self.before = nn.Identity()
            dense.load_state_dict(dict(backbone.pooler))

    @property
    def pooler(self) -> dict[str, Tensor]:
        """Weight and bias of the hidden layer if it reads the first token only, as a pretrained pooler does."""
        is_pooler = self.pool is first and not self.spans and isinstance(self.hidden, nn.Sequential)
        return dict(self.hidden[0].state_dict()) if is_pooler else {}  # pyright: ignore[reportIndexIssue]

    def forward(self, encoded: Encoded, batch: Batch) -> Tensor:
        hidden_TD = _mixed(self.mixture, encoded)
        pooled = self.pool(hidden_TD, batch)
        if self.spans:
            pooled = torch.cat([pooled.float(), span_means(hidden_TD, batch)], -1)
        return self.output(self.hidden(self.before(pooled))).float()


class TokenHead(nn.Module):
    """A backbone's hidden states -> outputs of each token [B, M, C], -inf behind a sequence."""

    def __init__(self, backbone: Backbone, outputs: int, config: FinetuneConfig):
        super().__init__()
        self.mixture = Mixture(backbone.mixed_layers) if backbone.mixed_layers else None
        self.dropout = nn.Dropout(_dropout(config))
        self.output = nn.Linear(backbone.width, outputs)
        _initialize(self.output)

    @property
    def pooler(self) -> dict[str, Tensor]:
        """None: there is no hidden layer."""
        return {}

    def forward(self, encoded: Encoded, batch: Batch) -> Tensor:
        outputs_TC = self.output(self.dropout(_mixed(self.mixture, encoded))).float()
        lengths_B = batch.layout.cu_seqlens_B1.long().diff()
        sequences_T = torch.repeat_interleave(torch.arange(len(lengths_B), device=outputs_TC.device), lengths_B)
        # Tokens behind them are in no sequence.
        tokens = len(sequences_T)
        padded = outputs_TC.new_full((len(lengths_B), batch.layout.longest, outputs_TC.shape[1]), float("-inf"))
        return padded.index_put((sequences_T, batch["positions"][:tokens]), outputs_TC[:tokens])


def _dropout(config: FinetuneConfig) -> float:
    return config.dropout if config.head_dropout is None else config.head_dropout


def _initialize(linear: nn.Linear) -> None:
    nn.init.trunc_normal_(linear.weight, std=0.02, a=-0.04, b=0.04)
    nn.init.zeros_(linear.bias)


def _mixed(mixture: Mixture | None, encoded: Encoded) -> Tensor:
    """The last layer's states, or the mixture of all layers'."""
    return encoded.hidden_TD if mixture is None else mixture(encoded.layers)


def make_head(backbone: Backbone, task: Task, config: FinetuneConfig) -> Head | TokenHead | DecoderHead:
    """Return the head that a task needs."""
    if task.text is not None:
        require_decoder(backbone, task.name)
        return DecoderHead(backbone)
    if task.kind == "extract":
        return TokenHead(backbone, task.outputs, config)
    return Head(backbone, task.outputs, config, _spans_of(task))


def pooling_of(backbone: Backbone, config: FinetuneConfig) -> str:
    """Return the pooling that ``config`` means for this backbone."""
    return backbone.pooling if config.pooling == "auto" else config.pooling


def uses_pooler(backbone: Backbone, config: FinetuneConfig, spans: int = 0) -> bool:
    """Return whether the hidden layer begins as the pretrained pooler."""
    return config.hidden_layer and not spans and pooling_of(backbone, config) == "first" and bool(backbone.pooler)


def describe_head(backbone: Backbone, config: FinetuneConfig, spans: int = 0) -> str:
    """Describe pooling and layers for the report."""
    hidden = "new dense layer" if config.hidden_layer else "no hidden layer"
    if uses_pooler(backbone, config, spans):
        hidden = "pretrained pooler"
    pooled = {"first": "first token", "last": "last token", "mean": "mean of tokens", "pair": "(u, v, |u-v|, u*v)"}
    return f"{pooled[pooling_of(backbone, config)]}{' and spans' if spans else ''}, {hidden}"


def head_of(backbone: Backbone, config: FinetuneConfig, task: Task) -> str:
    """Describe the head of a task for the report."""
    if task.train is None:
        return "none"
    if task.text is not None:
        require_decoder(backbone, task.name)
        is_likelihood = config.decoding == "likelihood" and task.text.target != "referent"
        way = "likelihood of the answers" if is_likelihood else "greedy decoding"
        return f"decoder, text to text, {way}"
    return "each token" if task.kind == "extract" else describe_head(backbone, config, _spans_of(task))


def _spans_of(task: Task) -> int:
    return len(task.train.spans) if task.train is not None else 0
