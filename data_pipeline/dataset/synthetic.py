"""A dataset of random tokens in the format of ``sesame prepare``, for the training self-test of ``sesame doctor``.

Its tokens follow Zipf's law, as words do, so that a model learns their frequencies within some steps.
"""

from pathlib import Path

import numpy as np

from sesame.configs.storage import digest
from sesame.data_pipeline.dataset.manifest import (
    FORMAT_VERSION,
    Manifest,
    SplitRecord,
    TokenizerRecord,
    write_manifest,
)
from sesame.data_pipeline.dataset.shards import DOCUMENTS, PLACES, SPLITS, TOKENIZER, Columns, Ragged, write_shard

SPECIAL = {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}
MASKED = 0.15
"""Share of predicted tokens (BERT, section 3.1)."""
ROWS = {"train": 2048, "validation": 8}


def write(folder: Path, vocabulary: int, length: int) -> None:
    """Write a dataset into an existing folder; the same arguments give the same bytes.

    Args:
        vocabulary: number of tokens.
        length: tokens of each row.
    """
    generator = np.random.Generator(np.random.PCG64(1))
    for name in (TOKENIZER, DOCUMENTS, PLACES):
        (folder / name).write_bytes(b"")
    splits: dict[str, SplitRecord] = {}
    for name in SPLITS:
        columns = _columns(generator, ROWS[name], vocabulary, length)
        shard = write_shard(folder / f"{name}-00000.arrow", columns)
        predictions = len(_ragged(columns["mask_positions"]).values)
        splits[name] = SplitRecord(
            rows=shard.rows, tokens=shard.rows * length, predictions=predictions, shards=(shard,)
        )
    empty = digest(folder / TOKENIZER)
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        code_version="",
        seed=1,
        columns=tuple(columns),
        recipe={
            "segment": {"kind": "contiguous", "sequence_length": length},
            "corrupt": {"kind": "masked_tokens", "mask_probability": MASKED},
        },
        tokenizer=TokenizerRecord(sha256=empty, vocabulary_size=vocabulary, special=SPECIAL),
        splits=splits,
        documents_sha256=empty,
        places_sha256=empty,
        documents={"read": 0, "kept for training": 0, "held out": 0},
        sources=(),
        lengths={},
        masking={},
    )
    write_manifest(folder, manifest)


def _columns(generator: np.random.Generator, rows: int, vocabulary: int, length: int) -> Columns:
    words = vocabulary - len(SPECIAL)
    frequencies = 1 / np.arange(1, words + 1)
    drawn = generator.choice(words, size=(rows, length), p=frequencies / frequencies.sum())
    labels = (drawn + len(SPECIAL)).astype(np.uint16)
    labels[:, 0], labels[:, -1] = SPECIAL["cls"], SPECIAL["sep"]
    masked = max(1, round(MASKED * length))
    order = np.argsort(generator.random((rows, length - 2)), axis=1)
    positions = np.sort(order[:, :masked] + 1, axis=1)
    tokens = labels.copy()
    np.put_along_axis(tokens, positions, SPECIAL["mask"], axis=1)
    return {
        "tokens": _rows(tokens),
        "first_segment_length": np.full(rows, length, np.uint16),
        "mask_positions": _rows(positions.astype(np.uint16)),
        "mask_labels": _rows(np.take_along_axis(labels, positions, axis=1)),
    }


def _rows(values: np.ndarray) -> Ragged:
    rows, length = values.shape
    return Ragged(values.ravel(), np.arange(rows + 1) * length)


def _ragged(column: object) -> Ragged:
    assert isinstance(column, Ragged)
    return column
