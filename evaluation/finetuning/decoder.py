"""What a decoder answers: greedily, token after token, or by the likelihood of given answers.

T tokens, U target tokens, S sequences, C candidates, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from torch import Tensor

from sesame.configs.errors import TaskError
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.evaluation.finetune_config import FinetuneConfig
from sesame.evaluation.finetuning.batches import with_targets
from sesame.evaluation.finetuning.encoded import EncodedExamples
from sesame.evaluation.finetuning.encoding import TaskData
from sesame.evaluation.finetuning.kinds import KINDS, Kind
from sesame.evaluation.finetuning.text_encoding import decoder_tokens
from sesame.pretrain.batch import Batch


def kind_of(data: TaskData, config: FinetuneConfig) -> Kind:
    """Return loss and prediction of a task that is trained."""
    assert data.train is not None
    if data.task.text is None:
        return KINDS[data.task.kind].of(data.train.labels, config)
    tokenizer = _tokenizer(data.tokenizer)
    words = decoder_tokens(data.task.text.words, tokenizer)
    ids = {tuple(each.tolist()): word for each, word in zip(words, data.task.text.words, strict=True)}
    if len(ids) < len(words):
        raise TaskError(
            f"{data.task.name}: the checkpoint's tokenizer has the same tokens for several of the words "
            f"{', '.join(data.task.text.words[:6])}; use --set finetune.form=head"
        )
    # Whatever is longer than every word is no word.
    limit = max(map(len, words)) if words else config.longest_answer
    return Text(tokenizer, ids, limit, config.decoding == "likelihood")


@lru_cache(maxsize=2)
def _tokenizer(path: str) -> Tokenizer:
    return Tokenizer.load(path)


@dataclass(frozen=True)
class Text(Kind):
    """What a decoder says: texts [S], or with ``by_likelihood`` the log-likelihood of each candidate [S, C]."""

    tokenizer: Tokenizer
    words: dict[tuple[int, ...], str]
    """Answers by start token, tokens and end token; empty: any text may be one."""
    limit: int
    """Tokens of an answer, at most."""
    by_likelihood: bool

    def loss(self, outputs_SC: Tensor, labels_B: Tensor, counts_B: Tensor) -> Tensor:
        return outputs_SC

    def terms(self, train: EncodedExamples, rows: np.ndarray) -> int:
        assert train.decoder_tokens is not None
        return sum(len(train.decoder_tokens[sequence]) - 1 for sequence in train.sequences(rows))

    def predict(self, model: Any, batch: Batch, examples: EncodedExamples, rows: np.ndarray) -> np.ndarray:
        encoded_TD = model.backbone(replace(batch, targets=None)).hidden_TD
        if self.by_likelihood and self.words:
            words = [np.array(ids) for ids in self.words]
            return likelihoods(model, batch, encoded_TD, [words] * len(rows))
        if self.by_likelihood and examples.candidates is not None:
            candidates = [examples.candidates[row] for row in rows]
            tokens = [decoder_tokens(each, self.tokenizer) for each in candidates]
            best = likelihoods(model, batch, encoded_TD, tokens).argmax(1)
            return np.array([each[number] for each, number in zip(candidates, best, strict=True)])
        return np.array([self.text_of(ids) for ids in greedy(model, batch, encoded_TD, self.tokenizer, self.limit)])

    def text_of(self, ids: list[int]) -> str:
        """Return the word of these tokens, even if the tokenizer changes it (capitals), else their text."""
        special = self.tokenizer.special
        return self.words.get((special.pad, *ids, special.sep)) or self.tokenizer.decode(ids)

    @staticmethod
    def answers(outputs_SC: np.ndarray, counts_B: np.ndarray) -> np.ndarray:
        """The outputs themselves; ``text_answers.py`` says what they mean."""
        return outputs_SC


def greedy(model: Any, batch: Batch, encoded_TD: Tensor, tokenizer: Tokenizer, limit: int) -> list[list[int]]:
    """Return the likeliest token after token of each sequence, without the end token.

    Args:
        model: ``TaskModel`` with a ``DecoderHead``.
        limit: tokens, at most.
    """
    sequences, end = batch.layout.sequences, tokenizer.special.sep
    said = np.full((sequences, 1), tokenizer.special.pad, np.int64)
    ended = np.zeros(sequences, bool)
    for _ in range(limit):
        # Of the last token only the place counts: it is what is to be said.
        targets = with_targets(batch, [np.append(row, end) for row in said])
        decoded_UD = model.backbone.decode(targets, encoded_TD)
        assert targets.targets is not None
        # The rows of the projection behind the vocabulary are no tokens.
        logits_SV = model.head.projection(decoded_UD[targets.targets.ends_B])[:, : len(tokenizer)]
        last = logits_SV.argmax(-1).cpu().numpy()
        said = np.column_stack([said, last])
        ended |= last == end
        if ended.all():
            break
    return [_until(row[1:].tolist(), end) for row in said]


def likelihoods(model: Any, batch: Batch, encoded_TD: Tensor, candidates: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Return log p of each sequence's candidates with their end tokens in nats, float32 [S, C]; -inf where a sequence
    has fewer than the others.

    Args:
        candidates: of each sequence: start token, tokens, end token.
    """
    found = np.full((len(candidates), max(map(len, candidates))), -np.inf, np.float32)
    for number in range(found.shape[1]):
        # One that has no more candidates decodes its first one again.
        texts = [each[number if number < len(each) else 0] for each in candidates]
        targets = with_targets(batch, texts)
        labels_U = targets["target_labels"]
        logits_UV = model.head.projection(model.backbone.decode(targets, encoded_TD)).float()
        values_U = logits_UV.log_softmax(-1).gather(1, labels_U[:, None])[:, 0].double().cpu().numpy()
        sums = np.add.reduceat(values_U, np.cumsum([0, *(len(text) - 1 for text in texts[:-1])]))
        has = np.array([number < len(each) for each in candidates])
        found[has, number] = sums[has]
    return found


def _until(ids: list[int], end: int) -> list[int]:
    return ids[: ids.index(end)] if end in ids else ids
