"""What one worker does with one group of documents, and with one shard. Plain functions of values and files."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_pipeline.columns import COLUMNS, Columns, Ragged, boundaries, concatenate
from data_pipeline.compiled.rows import lay_out
from data_pipeline.corrupt import CorruptConfig, Vocabulary, corrupt
from data_pipeline.draws import generator
from data_pipeline.manifest import Shard, SplitRecord
from data_pipeline.parts import Part
from data_pipeline.segment import PAIRS, SegmentConfig, Sentences, segment
from data_pipeline.selection import Choice, Fate
from data_pipeline.sentences import find_sentences
from data_pipeline.shards import Split, write_shard
from data_pipeline.spans import hide_spans
from data_pipeline.statistics import Counted, count
from data_pipeline.tokenizer import Special, Tokenizer, loaded


class Recipe(NamedTuple):
    """What making examples depends on besides the text."""

    seed: int
    segment: SegmentConfig
    corrupt: CorruptConfig
    tokenizer: Path
    """Its file; a path, for the bytes would travel with every task."""
    tokenizer_sha256: str


class Group(NamedTuple):
    """Documents that one task makes examples of."""

    split: str
    number: int
    """Among the groups of the split; seeds the draws."""
    first_document: int
    """Number of its first document among those of the split."""
    parts: tuple[tuple[Part, Choice], ...]
    fate: Fate


class Rows(NamedTuple):
    """Examples of one group on disk; no file where there are no rows."""

    file: str
    count: int
    columns: tuple[str, ...]


def make_examples(group: Group, recipe: Recipe, folder: Path) -> Rows:
    """Tokenise, segment and corrupt one group into a file under ``folder``."""
    tokenizer = loaded(recipe.tokenizer, recipe.tokenizer_sha256)
    sentences, documents, times = _tokenised(group, tokenizer, recipe.segment)
    passes = times * recipe.segment.dupe_factor if group.split == "train" else np.minimum(times, 1)
    made = [
        _one_pass(group, recipe, sentences, documents, tokenizer, number, np.flatnonzero(passes > number))
        for number in range(int(passes.max(initial=0)))
    ]
    if not (made := [columns for columns in made if columns]):
        return Rows("", 0, ())
    columns = concatenate(made)
    shard = write_shard(folder / f"rows-{group.split}-{group.number:05d}.arrow", columns)
    return Rows(shard.file, shard.rows, tuple(columns))


def gather_shard(
    path: Path, order: np.ndarray, rows: Sequence[Rows], vocabulary_size: int, special: dict[str, int], folder: Path
) -> tuple[Shard, int, Counted]:
    """Write the rows ``order`` of all groups as one shard -> (its record, its tokens, its counts)."""
    records = [Shard(file=each.file, rows=each.count, bytes=0, sha256="") for each in rows]
    whole = SplitRecord(rows=sum(each.count for each in rows), tokens=0, predictions=0, shards=tuple(records))
    columns = Split(folder, whole, rows[0].columns, stay_open=False).take(order)
    tokens = columns["tokens"]
    assert isinstance(tokens, Ragged)
    return write_shard(path, columns), len(tokens.values), count([columns], vocabulary_size, special)


def _one_pass(
    group: Group,
    recipe: Recipe,
    sentences: Sentences,
    documents: np.ndarray,
    tokenizer: Tokenizer,
    number: int,
    taken: np.ndarray,
) -> Columns:
    """The examples of one way through the ``taken`` documents, in columns; none where the text gives none."""
    draw = generator(recipe.seed, f"examples of {group.split}", group.number, number)
    spans = segment(sentences, recipe.segment, draw, taken)
    if not len(spans):
        return {}
    first_start, first_end, second_start, _, pair_labels, document = spans.T
    paired = recipe.segment.kind in PAIRS
    tokens = laid_out(sentences.ids, spans, tokenizer.special, paired)
    columns: Columns = {"tokens": tokens, "first_segment_length": (first_end - first_start + 2).astype(np.uint16)}
    if recipe.corrupt.kind == "masked_spans":
        columns |= hide_spans(tokens, recipe.corrupt, tokenizer.sentinels, tokenizer.special.sep, draw).columns()
    elif recipe.corrupt.kind != "nothing" and recipe.corrupt.drawn == "once":
        columns |= corrupt(tokens, recipe.corrupt, Vocabulary.of(tokenizer), draw).columns()
    if paired:
        columns["pair_labels"] = pair_labels.astype(np.uint8)
    columns["document"] = documents[document].astype(np.uint32)
    if recipe.segment.kind == "next_sentence":
        starts = sentences.sentences[sentences.documents]
        second = np.searchsorted(starts, second_start, side="right") - 1
        columns["second_document"] = documents[second].astype(np.uint32)
    return {name: columns[name] for name in COLUMNS if name in columns}


def _tokenised(group: Group, tokenizer: Tokenizer, segment: SegmentConfig) -> tuple[Sentences, np.ndarray, np.ndarray]:
    """The group's documents as ids with boundaries, their numbers in the split, and how often each is gone through;
    empty ones are left out."""
    texts = Ragged.joined([part.texts(choice.keep(group.fate), choice.paragraphs) for part, choice in group.parts])
    found = find_sentences(texts)
    # Rows of one stretch that may be cut anywhere take no notice of sentences.
    whole = segment.kind == "contiguous"
    rows, counts = tokenizer.encode_documents(texts.values, texts.offsets, found, whole=whole)
    documents = len(counts)
    owners = np.repeat(np.arange(documents), counts)[rows.lengths > 0]
    per_document = np.bincount(owners, minlength=documents)
    bounds = [boundaries(each[each > 0]) for each in (rows.lengths, per_document)]
    times = np.concatenate([choice.turns(group.fate) for _, choice in group.parts])
    places = np.flatnonzero(per_document)
    return Sentences(rows.values, *bounds), group.first_document + places, times[places]


def laid_out(ids: np.ndarray, spans: np.ndarray, special: Special, paired: bool) -> Ragged:
    """[CLS] first [SEP] (second [SEP]) of every example end to end.

    Args:
        ids: [tokens] of the group's text.
        spans: int64 [examples, 6]: the fields of :class:`~data_pipeline.segment.Example`.
    """
    return Ragged(*lay_out(ids, spans, special.cls, special.sep, paired))
