"""Batches of encoded examples: in random order for training, by length for scoring."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from sesame.evaluation.finetune_config import FinetuneConfig
from sesame.evaluation.finetuning.encoded import EncodedExamples
from sesame.pretrain.batch import Batch
from sesame.pretrain.data.packing import layout_like, pack

SCORING_TOKENS = 8192
"""Approximate number of tokens in a batch for prediction."""


def shuffled_batches(lengths: np.ndarray, batch_size: int, generator: np.random.Generator) -> list[np.ndarray]:
    """Row numbers of each batch of one epoch: rows in random order, sorted by length within a batch.

    Batches of similar lengths are up to a tenth faster on a CPU, and scored less where it was measured
    (``benchmarks/RESULTS.md``, fine-tuning against transformers).
    """
    order = generator.permutation(len(lengths))
    batches = [order[first : first + batch_size] for first in range(0, len(order), batch_size)]
    return [rows[np.argsort(lengths[rows], kind="stable")] for rows in batches]


def scoring_batches(examples: EncodedExamples) -> list[np.ndarray]:
    """Row numbers of batches of about ``SCORING_TOKENS`` tokens, from the shortest rows to the longest."""
    return batches_by_length(examples.lengths, examples.row_tokens)


def batches_by_length(lengths: np.ndarray, tokens: np.ndarray) -> list[np.ndarray]:
    """Row numbers of batches of about ``SCORING_TOKENS`` tokens, in order of ``lengths`` [rows].

    Args:
        tokens: int64 [rows], of each row.
    """
    order = np.argsort(lengths, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(np.cumsum(tokens[order]) // SCORING_TOKENS)) + 1)


def pack_rows(examples: EncodedExamples, rows: np.ndarray) -> Batch:
    """Return the packed batch of the sequences of ``rows``, in their order."""
    sequences = examples.sequences(rows)
    first_lengths = examples.first_segment_lengths[sequences]
    columns = {} if examples.spans is None else {"spans": examples.spans[sequences]}
    tokens = [examples.tokens[sequence] for sequence in sequences]
    batch = pack(tokens, first_lengths.tolist(), first_lengths=first_lengths, **columns)
    if examples.decoder_tokens is None:
        return batch
    return with_targets(batch, [examples.decoder_tokens[sequence] for sequence in sequences])


def with_targets(batch: Batch, texts: Sequence[np.ndarray]) -> Batch:
    """Return a batch with targets of its decoder, which reads all tokens of each text but the last one, and is to say
    all but the first one."""
    device = batch.layout.cu_seqlens_B1.device
    layout = layout_like(batch.layout, np.array([len(text) - 1 for text in texts]))
    parts = {"decoder_tokens": [text[:-1] for text in texts], "target_labels": [text[1:] for text in texts]}
    targets = {name: torch.from_numpy(np.concatenate(each).astype(np.int64)) for name, each in parts.items()}
    columns = {**batch.columns, **{name: each.to(device) for name, each in targets.items()}}
    return replace(batch, columns=columns, targets=layout.to(device))


def autocast(config: FinetuneConfig, device: torch.device) -> torch.autocast:
    """Return the context in which products have the configured precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=number_format(config) == torch.bfloat16)


def number_format(config: FinetuneConfig) -> torch.dtype:
    """Return the type of numbers of the configured precision.

    Raises:
        ValueError: it is still 'auto'.
    """
    if config.precision == "auto":
        raise ValueError("precision 'auto' has not been resolved; see EvaluationConfig.with_precision")
    return torch.bfloat16 if config.precision == "bf16" else torch.float32
