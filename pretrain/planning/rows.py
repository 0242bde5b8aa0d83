"""The lengths of the rows of a dataset, whether it is there or not, and a batch of them without values."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from sesame import configs
from sesame.configs.errors import ConfigError
from sesame.configs.shipped import FOLDER
from sesame.data_pipeline.config import CorpusConfig
from sesame.data_pipeline.dataset.manifest import MANIFEST, Manifest, read_manifest
from sesame.data_pipeline.dataset.statistics import LENGTH_BIN
from sesame.data_pipeline.examples import spans
from sesame.pretrain.batch import Batch
from sesame.pretrain.data.columns import COLUMNS
from sesame.pretrain.data.packing import layout, layout_like

QUANTILES = 512
"""Parts that a histogram is divided into."""


class Rows(NamedTuple):
    """Entries of the mean row of a dataset, and how the lengths of rows differ."""

    tokens: int
    """That the model reads."""
    predictions: int
    """Masked tokens, or spans' targets; 0: each token predicts the next one."""
    origin: str
    """Where the numbers are from, for the reader."""
    quantiles: tuple[int, ...] = ()
    """Lengths of rows, in tokens, at equal steps of their distribution, rising; none: all have the mean length."""

    def entries(self, axis: str, tokens: int | None = None) -> int:
        """Entries along an axis of ``BatchColumn``: per token, prediction, sequence or target token.

        Args:
            tokens: of the row; None: of the mean row.
        """
        length = self.tokens if tokens is None else tokens
        predicted = max(1, round(self.predictions * length / self.tokens)) if self.predictions else length - 1
        # All tokens may differ from each other.
        return {"T": length, "N": length, "P": predicted, "B": 1, "U": predicted}[axis]

    def lengths(self, sequences: int) -> np.ndarray:
        """Return the lengths of a micro-batch, which has short rows first; one row has the mean length."""
        if sequences == 1 or not self.quantiles:
            return np.full(sequences, self.tokens)
        positions = (np.arange(sequences) + 0.5) / sequences * len(self.quantiles)
        return np.array(self.quantiles)[positions.astype(int)]


class Text(NamedTuple):
    """All that a plan needs to know of a dataset."""

    vocabulary: int
    """Tokens of the tokenizer."""
    rows: Rows


def find(dataset: Path, corpus: Path | None, vocabulary: int | None, sequence_length: int | None) -> Text:
    """Look for a dataset, or else for the configuration that would write it.

    Args:
        dataset: ``data.dataset`` of a run.
        corpus: configuration of ``sesame prepare``; None: the shipped one that writes ``dataset``.
        vocabulary: overrides the tokens of the tokenizer.
        sequence_length: overrides the length of the rows, in tokens.

    Raises:
        ConfigError: neither is there.
    """
    if corpus is None and sequence_length is None and (dataset / MANIFEST).is_file():
        manifest = read_manifest(dataset)
        rows = of_manifest(manifest, f"rows of {dataset}")
        return Text(vocabulary or manifest.tokenizer.vocabulary_size, rows)
    files = [corpus] if corpus else sorted((FOLDER / "corpus").glob("*.toml"))
    for file in files:
        recipe = configs.load(file, CorpusConfig)
        if corpus or recipe.output == dataset:
            longest = recipe.segment.model_copy(
                update={"sequence_length": sequence_length or recipe.segment.sequence_length}
            )
            recipe = recipe.model_copy(update={"segment": longest})
            rows = of_corpus(recipe, f"full rows of {file.name}")
            return Text(vocabulary or recipe.tokenizer.vocabulary_size, rows)
    raise ConfigError(
        f"{dataset}: is not prepared, and no shipped corpus writes it; give the file of `sesame prepare` with --corpus"
    )


def of_corpus(corpus: CorpusConfig, origin: str) -> Rows:
    """Rows of a corpus that is not prepared yet: each is as long as its recipe allows."""
    length, corrupt = corpus.segment.sequence_length, corpus.corrupt
    if corrupt.kind == "nothing":
        return Rows(length, 0, origin)
    if corrupt.kind == "masked_spans":
        # [CLS] and [SEP] are not masked.
        masked, count = (int(each[0]) for each in spans.counts(np.array([length - 2]), corrupt))
        return Rows(length - masked + count, masked + count + 1, origin)
    predicted = round(length * corrupt.mask_probability)
    return Rows(length, max(1, min(predicted, corrupt.maximum_predictions or predicted)), origin)


def of_manifest(manifest: Manifest, origin: str) -> Rows:
    """Rows of the train split of a prepared dataset."""
    train, recipe = manifest.splits["train"], manifest.recipe
    rows = max(1, train.rows)
    predicts_all = recipe.get("corrupt", {}).get("kind") == "nothing"
    predictions = 0 if predicts_all else max(1, round(train.predictions / rows))
    longest = recipe.get("segment", {}).get("sequence_length", 0)
    # Rows that are all as long as they may be are packed without padding.
    is_even = train.tokens == rows * longest
    quantiles = () if is_even else _quantiles(manifest.lengths, longest)
    return Rows(max(2, round(train.tokens / rows)), predictions, origin, quantiles)


def _quantiles(histogram: Mapping[str, int], longest: int) -> tuple[int, ...]:
    """Return the lengths of the middles of equal parts of a histogram "0-15": rows, each bin of which is taken as even.

    Args:
        longest: length that no row exceeds; rows of spans, which have no such limit, may.
    """
    counts: dict[int, float] = {}
    for name, rows in histogram.items():
        first = int(name.partition("-")[0])
        last = first + LENGTH_BIN - 1
        if first <= longest <= last:
            last = longest
        for length in range(max(2, first), last + 1):
            counts[length] = rows / (last + 1 - max(2, first))
    total = np.cumsum(list(counts.values()))
    if not len(total):
        return ()
    positions = (np.arange(QUANTILES) + 0.5) / QUANTILES * total[-1]
    return tuple(int(length) for length in np.array(list(counts))[np.searchsorted(total, positions)])


def shape_batch(rows: Rows, sequences: int, reads: Sequence[str]) -> Batch:
    """Return a micro-batch of rows whose columns have the right shapes; all entries are 0."""
    names = tuple(dict.fromkeys(("tokens", *reads)))
    lengths = rows.lengths(sequences)

    def entries(axis: str) -> np.ndarray:
        return np.array([rows.entries(axis, int(length)) for length in lengths])

    columns: dict[str, Any] = {
        name: torch.zeros(int(entries(COLUMNS[name].axis).sum()), dtype=torch.int64) for name in names
    }
    tokens = layout(lengths)
    has_targets = any(COLUMNS[name].axis == "U" for name in names)
    targets = layout_like(tokens, entries("U")) if has_targets else None
    denominators = dict.fromkeys(names, 1.0)
    return Batch(tokens, columns, denominators, targets)
