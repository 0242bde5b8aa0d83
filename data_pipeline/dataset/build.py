"""What one worker does with one group of documents, and with one shard. Plain functions of values and files."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_pipeline.cleaning.parts import Part
from data_pipeline.cleaning.selection import Choice, Outcome
from data_pipeline.compiled.rows import lay_out
from data_pipeline.dataset.columns import COLUMNS
from data_pipeline.dataset.manifest import Shard, SplitRecord
from data_pipeline.dataset.shards import Split, write_shard
from data_pipeline.dataset.statistics import Counted, count
from data_pipeline.dataset.text_warnings import LONG, LOST, TOKENS, UNKNOWN
from data_pipeline.examples.corrupt import CorruptConfig, Vocabulary, corrupt
from data_pipeline.examples.long_sentences import after_space, cut_to_fit
from data_pipeline.examples.segment import (
    PAIRS,
    SegmentConfig,
    Sentences,
    longest_sentence,
    room,
    segment,
    tokens_in_no_row,
)
from data_pipeline.examples.sentences import find_sentences
from data_pipeline.examples.spans import hide_spans
from data_pipeline.ragged import Columns, Ragged, boundaries, concatenate
from data_pipeline.random_streams import generator
from data_pipeline.tokenizers.special_tokens import Special
from data_pipeline.tokenizers.tokenizer import Tokenizer, load_cached


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
    documents: np.ndarray
    """int64 [pieces]: number, among those of the split, of the document of each piece; neighbours with one number are
    one document."""
    parts: tuple[tuple[Part, Choice], ...]
    fate: Outcome
    partners: int = 0
    """Parts at the end that only lend partners for next-sentence pairs, from other documents."""


class Rows(NamedTuple):
    """Examples of one group on disk; no file where there are no rows."""

    file: str
    count: int
    columns: tuple[str, ...]
    text: Counter[str] | None = None
    """What became of the text: tokens by the names in ``text_warnings.py``."""


class Tokenised(NamedTuple):
    """The documents of a group as ids, without those that are empty."""

    sentences: Sentences
    documents: np.ndarray
    """int64 [documents]: their numbers in the split."""
    times: np.ndarray
    """int64 [documents]: how often each is gone through; 0 for those that only lend partners."""
    texts: np.ndarray
    """int64 [documents]: equal for documents of equal text."""
    long: int
    """Tokens of sentences that are longer than a row."""


def make_examples(group: Group, recipe: Recipe, folder: Path) -> Rows:
    """Tokenise, segment and corrupt one group into a file under ``folder``."""
    tokenizer = load_cached(recipe.tokenizer, recipe.tokenizer_sha256)
    text = _tokenised(group, tokenizer, recipe.segment)
    passes = text.times * recipe.segment.dupe_factor if group.split == "train" else np.minimum(text.times, 1)
    counts = _counted(text, tokenizer)
    made = [
        _one_pass(group, recipe, text, tokenizer, number, np.flatnonzero(passes > number), counts)
        for number in range(int(passes.max(initial=0)))
    ]
    if not (made := [columns for columns in made if columns]):
        return Rows("", 0, (), counts)
    columns = concatenate(made)
    shard = write_shard(folder / f"rows-{group.split}-{group.number:05d}.arrow", columns)
    return Rows(shard.file, shard.rows, tuple(columns), counts)


def _counted(text: Tokenised, tokenizer: Tokenizer) -> Counter[str]:
    """Tokens of the group's own documents, which come first, by the names in ``text_warnings.py``."""
    part, own = text.sentences, int((text.times > 0).sum())
    tokens = int(part.sentences[part.documents[own]])
    unknown = int((part.ids[:tokens] == tokenizer.special.unk).sum())
    return Counter({TOKENS: tokens, LONG: text.long * tokens // max(1, len(part.ids)), UNKNOWN: unknown})


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
    text: Tokenised,
    tokenizer: Tokenizer,
    number: int,
    taken: np.ndarray,
    counts: Counter[str],
) -> Columns:
    """The examples of one way through the ``taken`` documents, in columns; none where the text gives none. ``counts``
    gets the tokens that the first way loses."""
    draw = generator(recipe.seed, f"examples of {group.split}", group.number, number)
    sentences, documents = text.sentences, text.documents
    spans = segment(sentences, recipe.segment, draw, taken, text.texts)
    if number == 0:
        counts[LOST] = tokens_in_no_row(sentences, spans, taken)
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


def _tokenised(group: Group, tokenizer: Tokenizer, segment: SegmentConfig) -> Tokenised:
    pieces = Ragged.joined([part.texts(choice.keep(group.fate), choice.paragraphs) for part, choice in group.parts])
    begins = np.flatnonzero(np.diff(group.documents, prepend=-1))
    texts = Ragged(pieces.values, pieces.offsets[np.append(begins, len(group.documents))])
    rows, counts, long = _encoded(texts, tokenizer, segment)
    documents = len(counts)
    owners = np.repeat(np.arange(documents), counts)[rows.lengths > 0]
    per_document = np.bincount(owners, minlength=documents)
    bounds = [boundaries(each[each > 0]) for each in (rows.lengths, per_document)]
    own = len(group.parts) - group.partners
    times = [choice.repetitions(group.fate) * (part < own) for part, (_, choice) in enumerate(group.parts)]
    marks = [part.fingerprints[choice.keep(group.fate)] for part, choice in group.parts]
    _, equal = np.unique(np.concatenate(marks), axis=0, return_inverse=True)
    filled = begins[per_document > 0]
    return Tokenised(
        Sentences(rows.values, *bounds),
        group.documents[filled],
        np.concatenate(times)[filled],
        equal.ravel()[filled],
        long,
    )


def _encoded(texts: Ragged, tokenizer: Tokenizer, segment: SegmentConfig) -> tuple[Ragged, np.ndarray, int]:
    """(ids of sentences and of pieces of long ones, int64 [texts] rows of each, tokens of sentences longer than a
    row)."""
    found, longest = find_sentences(texts), longest_sentence(segment)
    if longest is None:
        # Rows of one stretch that may be cut anywhere take no notice of sentences.
        return *tokenizer.encode_documents(texts.values, texts.offsets, found, whole=True), 0

    def encode(some: Ragged, sentences: Ragged) -> Ragged:
        return tokenizer.encode_documents(some.values, some.offsets, sentences, whole=False)[0]

    fitting = cut_to_fit(texts, found, encode, longest, after_space(tokenizer))
    return fitting.ids, fitting.counts, int(fitting.lengths[fitting.lengths > room(segment)].sum())


def laid_out(ids: np.ndarray, spans: np.ndarray, special: Special, paired: bool) -> Ragged:
    """[CLS] first [SEP] (second [SEP]) of every example end to end.

    Args:
        ids: [tokens] of the group's text.
        spans: int64 [examples, 6]: the fields of :class:`~data_pipeline.examples.segment.Example`.
    """
    return Ragged(*lay_out(ids, spans, special.cls, special.sep, paired))
