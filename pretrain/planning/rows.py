"""The size of the rows of a dataset, whether it is there or not, and a batch of them without values."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from sesame import configs
from sesame.configs.errors import ConfigError
from sesame.configs.shipped import FOLDER
from sesame.data_pipeline.config import CorpusConfig
from sesame.data_pipeline.dataset.manifest import MANIFEST, Manifest, read_manifest
from sesame.data_pipeline.examples import spans
from sesame.pretrain.batch import Batch
from sesame.pretrain.data.columns import COLUMNS
from sesame.pretrain.data.packing import layout, layout_like


class Rows(NamedTuple):
    """Entries of one row of a dataset."""

    tokens: int
    """That the model reads."""
    predictions: int
    """Masked tokens, or spans' targets; 0: each token predicts the next one."""
    origin: str
    """Where the numbers are from, for the reader."""

    def entries(self, axis: str) -> int:
        """Entries along an axis of ``BatchColumn``: per token, prediction, sequence or target token."""
        predicted = self.predictions or self.tokens - 1
        # All tokens may differ from each other.
        return {"T": self.tokens, "N": self.tokens, "P": predicted, "B": 1, "U": predicted}[axis]


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
        rows = of_manifest(manifest, f"the mean row of {dataset}")
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
    """Mean row of the train split of a prepared dataset."""
    train = manifest.splits["train"]
    rows = max(1, train.rows)
    predicts_all = manifest.recipe.get("corrupt", {}).get("kind") == "nothing"
    predictions = 0 if predicts_all else max(1, round(train.predictions / rows))
    return Rows(max(2, round(train.tokens / rows)), predictions, origin)


def shape_batch(rows: Rows, sequences: int, reads: Sequence[str]) -> Batch:
    """Return a micro-batch of equal rows whose columns have the right shapes; all entries are 0."""
    names = tuple(dict.fromkeys(("tokens", *reads)))
    columns: dict[str, Any] = {
        name: torch.zeros(sequences * rows.entries(COLUMNS[name].axis), dtype=torch.int64) for name in names
    }
    tokens = layout(np.full(sequences, rows.tokens))
    has_targets = any(COLUMNS[name].axis == "U" for name in names)
    targets = layout_like(tokens, np.full(sequences, rows.entries("U"))) if has_targets else None
    denominators = dict.fromkeys(names, 1.0)
    return Batch(tokens, columns, denominators, targets)
