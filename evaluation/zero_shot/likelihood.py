"""Log-likelihood of sentences, without training: exact for a causal model, the pseudo-log-likelihood for a masked one.

A causal model's is the sum of log p(token | tokens before it). A masked model's is the sum of log p(token | all other
tokens), with one token masked at a time (Salazar et al. 2020, equation 2). Special tokens are read and not counted.
``pseudo_likelihood`` has faster ways.

S sequences, P predicted positions, V vocabulary.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from sesame.configs.errors import TaskError
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.evaluation.finetune_config import FinetuneConfig
from sesame.evaluation.finetuning.batches import batches_by_length, number_format
from sesame.evaluation.finetuning.encoding import TaskData
from sesame.evaluation.zero_shot.language_model import load_language_model
from sesame.pretrain.batch import Batch
from sesame.pretrain.checkpoints.load import latest
from sesame.pretrain.checkpoints.record import TOKENIZER_FILE
from sesame.pretrain.data.packing import pack
from sesame.pretrain.learner import Learner


class Way(NamedTuple):
    """A row of the table of ways to score sentences."""

    heads: tuple[str, ...]
    """Objectives whose models can be scored so."""
    inputs: Callable[[list[np.ndarray], int], "Iterator[Inputs]"]
    """(sequences, mask token) -> what to compute."""
    causal: bool = False
    """The model attends to earlier tokens only."""


class Inputs(NamedTuple):
    """One sequence to compute, and the tokens of it that are predicted."""

    sequence: int
    """Number of the sentence."""
    tokens: np.ndarray
    positions: np.ndarray
    """int64: positions of the states that predict."""
    labels: np.ndarray
    """int64: the tokens that are predicted from them."""


def log_likelihoods(
    checkpoint: Path,
    seed: int | None,
    data: TaskData,
    config: FinetuneConfig,
    device: torch.device,
    advance: Callable[[int, int], None],
) -> dict[str, np.ndarray]:
    """Return the log-likelihood of each sequence in nats, float32 [S, 1], by dev set."""
    model, head = load_language_model(checkpoint, seed=seed)
    way = WAYS["next" if head == "causal_lm" else config.pseudo_likelihood]
    if head not in way.heads:
        raise TaskError(
            f"{checkpoint}: finetune.pseudo_likelihood '{config.pseudo_likelihood}' is for models with the objective "
            f"{' or '.join(way.heads)}, and this one has {head}; set it to 'exact' or 'one_pass'"
        )
    mask = Tokenizer.load((latest(checkpoint) or checkpoint) / TOKENIZER_FILE).special.mask
    if head != "causal_lm" and mask is None:
        raise TaskError(f"{checkpoint}: its tokenizer has no mask token, which the score of a masked model needs")
    # In bf16 throughout, as training computes it: autocast's sums in fp32 take half as long again on a CPU.
    model = model.to(device, number_format(config))
    outputs = {}
    for prefix, dev in data.dev.items():
        inputs = list(way.inputs(dev.tokens, int(mask or 0)))
        totals_S = np.zeros(len(dev.tokens))
        lengths = np.array([len(each.tokens) for each in inputs])
        batches = batches_by_length(lengths, lengths)
        for number, rows in enumerate(batches, 1):
            part = [inputs[row] for row in rows]
            with torch.no_grad():
                values_P = log_probabilities(model, head, part, device, causal=way.causal)
            owners = np.repeat([each.sequence for each in part], [len(each.labels) for each in part])
            np.add.at(totals_S, owners, values_P)
            advance(number, len(batches))
        outputs[prefix] = totals_S[:, None].astype(np.float32)
    return outputs


def _next(sequences: list[np.ndarray], mask: int) -> Iterator[Inputs]:
    for number, tokens in enumerate(sequences):
        # The first token has nothing before it, and the last is the separator.
        yield Inputs(number, tokens[:-1], np.arange(len(tokens) - 2), tokens[1:-1].astype(np.int64))


def _masked(sequences: list[np.ndarray], mask: int) -> Iterator[Inputs]:
    for number, tokens in enumerate(sequences):
        for position in range(1, len(tokens) - 1):
            masked = tokens.copy()
            masked[position] = mask
            yield Inputs(number, masked, np.array([position]), tokens[position : position + 1].astype(np.int64))


def _unmasked(sequences: list[np.ndarray], mask: int) -> Iterator[Inputs]:
    for number, tokens in enumerate(sequences):
        yield Inputs(number, tokens, np.arange(1, len(tokens) - 1), tokens[1:-1].astype(np.int64))


MASKED = ("masked_lm", "masked_next")
WAYS: dict[str, Way] = {
    "next": Way(("causal_lm",), _next),
    "exact": Way(MASKED, _masked),
    "one_pass": Way(MASKED, _unmasked),
    "causal": Way(("masked_next",), _unmasked, causal=True),
}
"""``finetune.pseudo_likelihood`` of a masked model -> how; a causal model has one way."""


def log_probabilities(
    model: Learner, head: str, inputs: list[Inputs], device: torch.device, *, causal: bool = False
) -> np.ndarray:
    """Return log p of every label of a batch in nats, float64 [P].

    Args:
        head: the objective of ``model`` whose predictions are used.
    """
    lengths = [len(each.tokens) for each in inputs]
    starts = np.cumsum([0, *lengths[:-1]])
    positions = np.concatenate([each.positions + start for each, start in zip(inputs, starts, strict=True)])
    labels_P = torch.from_numpy(np.concatenate([each.labels for each in inputs])).to(device)
    batch = pack([each.tokens for each in inputs], lengths)
    column = "mask_positions" if head in MASKED else "next_positions"
    columns = {**batch.columns, column: torch.from_numpy(positions)}
    batch = Batch(batch.layout, columns, causal=causal).to(device)
    logits_PV = model.objectives[head].logits(model.backbone(batch), batch).float()
    return logits_PV.log_softmax(-1).gather(1, labels_P[:, None])[:, 0].double().cpu().numpy()
