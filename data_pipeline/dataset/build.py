"""The jobs of the workers: make the examples of one group of documents, and write one shard."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sesame.data_pipeline.compiled.rows import lay_out
from sesame.data_pipeline.dataset.columns import COLUMNS
from sesame.data_pipeline.dataset.groups import DocumentGroup, TokenizedGroup, count_tokens, tokenize
from sesame.data_pipeline.dataset.manifest import Shard, SplitRecord
from sesame.data_pipeline.dataset.shards import Split, write_rows, write_shard
from sesame.data_pipeline.dataset.statistics import RowCounts, count
from sesame.data_pipeline.dataset.text_warnings import UNUSED
from sesame.data_pipeline.examples.corrupt import CorruptConfig, Vocabulary, corrupt
from sesame.data_pipeline.examples.segment import PAIRS, SegmentConfig, segment, tokens_in_no_row
from sesame.data_pipeline.examples.spans import mask_spans
from sesame.data_pipeline.ragged import Columns, Ragged, concatenate
from sesame.data_pipeline.random_streams import generator
from sesame.data_pipeline.tokenizers.special_tokens import Special
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer, load_cached


class Recipe(NamedTuple):
    """Settings that the examples depend on, besides the text."""

    seed: int
    segment: SegmentConfig
    corrupt: CorruptConfig
    tokenizer: Path
    """Path of its file, because the bytes would be sent with every job."""
    tokenizer_sha256: str


class GroupRows(NamedTuple):
    """Rows of one group in a file; no file if there are none."""

    file: str
    count: int
    columns: tuple[str, ...]
    token_counts: Counter[str] | None = None
    """Tokens of the group, under the names in ``text_warnings.py``."""


def make_examples(group: DocumentGroup, recipe: Recipe, folder: Path) -> GroupRows:
    """Tokenize, segment and corrupt one group into a file in ``folder``."""
    tokenizer = load_cached(recipe.tokenizer, recipe.tokenizer_sha256)
    text = tokenize(group, tokenizer, recipe.segment)
    passes = text.times * recipe.segment.dupe_factor if group.split == "train" else np.minimum(text.times, 1)
    counts = count_tokens(text, tokenizer)
    made = [
        _examples_of_pass(group, recipe, text, tokenizer, number, np.flatnonzero(passes > number), counts)
        for number in range(int(passes.max(initial=0)))
    ]
    if not (made := [columns for columns in made if columns]):
        return GroupRows("", 0, (), counts)
    columns = concatenate(made)
    path = folder / f"rows-{group.split}-{group.number:05d}.arrow"
    return GroupRows(path.name, write_rows(path, columns), tuple(columns), counts)


def gather_shard(
    path: Path,
    order: np.ndarray,
    rows: Sequence[GroupRows],
    vocabulary_size: int,
    special: dict[str, int],
    folder: Path,
) -> tuple[Shard, int, RowCounts]:
    """Write the rows ``order`` of all groups as one shard.

    Args:
        order: int64 [rows of the shard], indices into the rows of all groups.
        folder: contains the files of ``rows``.

    Returns:
        The record of the shard, its number of tokens, and its counts.
    """
    records = [Shard(file=each.file, rows=each.count, bytes=0, sha256="") for each in rows]
    whole = SplitRecord(rows=sum(each.count for each in rows), tokens=0, predictions=0, shards=tuple(records))
    columns = Split(folder, whole, rows[0].columns, stay_open=False).take(order)
    tokens = columns["tokens"]
    assert isinstance(tokens, Ragged)
    return write_shard(path, columns), len(tokens.values), count([columns], vocabulary_size, special)


def _examples_of_pass(
    group: DocumentGroup,
    recipe: Recipe,
    text: TokenizedGroup,
    tokenizer: Tokenizer,
    number: int,
    selected: np.ndarray,
    counts: Counter[str],
) -> Columns:
    """Return the columns of the examples of one pass; empty if the text gives no example.

    Args:
        number: index of the pass; part of the random seed.
        selected: int64 indices of the documents that are used in this pass.
        counts: the first pass adds the number of tokens that are in no row.
    """
    rng = generator(recipe.seed, f"examples of {group.split}", group.number, number)
    sentences, documents = text.sentences, text.documents
    spans = segment(sentences, recipe.segment, rng, selected, text.texts)
    if number == 0:
        counts[UNUSED] = tokens_in_no_row(sentences, spans, selected)
    if not len(spans):
        return {}
    first_start, first_end, second_start, _, pair_labels, document = spans.T
    paired = recipe.segment.kind in PAIRS
    tokens = add_special_tokens(sentences.ids, spans, tokenizer.special, paired)
    columns: Columns = {"tokens": tokens, "first_segment_length": (first_end - first_start + 2).astype(np.uint16)}
    if recipe.corrupt.kind == "masked_spans":
        columns |= mask_spans(tokens, recipe.corrupt, tokenizer.sentinels, tokenizer.special.sep, rng).columns()
    elif recipe.corrupt.kind != "nothing" and recipe.corrupt.drawn == "once":
        columns |= corrupt(tokens, recipe.corrupt, Vocabulary.of(tokenizer), rng).columns()
    if paired:
        columns["pair_labels"] = pair_labels.astype(np.uint8)
    columns["document"] = documents[document].astype(np.uint32)
    if recipe.segment.kind == "next_sentence":
        starts = sentences.sentences[sentences.documents]
        second = np.searchsorted(starts, second_start, side="right") - 1
        columns["second_document"] = documents[second].astype(np.uint32)
    return {name: columns[name] for name in COLUMNS if name in columns}


def add_special_tokens(ids: np.ndarray, spans: np.ndarray, special: Special, paired: bool) -> Ragged:
    """Return the rows of all examples: [CLS] first [SEP], or [CLS] first [SEP] second [SEP] if ``paired``.

    Args:
        ids: [tokens] of the group.
        spans: int64 [examples, 6]: the fields of :class:`~data_pipeline.examples.segment.Example`.
    """
    return Ragged(*lay_out(ids, spans, special.cls, special.sep, paired))
