"""A group of documents of one split, and its token ids."""

from collections import Counter
from typing import NamedTuple

import numpy as np

from sesame.data_pipeline.cleaning.parts import Part
from sesame.data_pipeline.cleaning.selection import Choice, Outcome
from sesame.data_pipeline.dataset.text_warnings import LONG, TOKENS, UNKNOWN
from sesame.data_pipeline.examples.long_sentences import after_space, cut_to_fit
from sesame.data_pipeline.examples.segment import SegmentConfig, Sentences, longest_sentence, room
from sesame.data_pipeline.examples.sentences import find_sentences
from sesame.data_pipeline.ragged import Ragged, boundaries
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer


class DocumentGroup(NamedTuple):
    """Documents of one job."""

    split: str
    number: int
    """Index of the group in its split; part of the random seed."""
    documents: np.ndarray
    """int64 [pieces]: index in the split of the document of each piece; adjacent pieces with the same index are one
    document."""
    parts: tuple[tuple[Part, Choice], ...]
    outcome: Outcome
    partner_parts: int = 0
    """How many parts, the last ones, only give second segments of random next-sentence pairs."""


class TokenizedGroup(NamedTuple):
    """Token ids of the documents of a group, without empty documents."""

    sentences: Sentences
    documents: np.ndarray
    """int64 [documents]: their indices in the split."""
    times: np.ndarray
    """int64 [documents]: how many times each is used; 0 for those that only give partners of random pairs."""
    texts: np.ndarray
    """int64 [documents]: equal for documents of equal text."""
    long_sentence_tokens: int
    """Tokens in sentences that are longer than a row."""


def tokenize(group: DocumentGroup, tokenizer: Tokenizer, segment: SegmentConfig) -> TokenizedGroup:
    """Return the ids of a group's documents."""
    pieces = Ragged.joined([part.texts(choice.keep(group.outcome), choice.paragraphs) for part, choice in group.parts])
    begins = np.flatnonzero(np.diff(group.documents, prepend=-1))
    texts = Ragged(pieces.values, pieces.offsets[np.append(begins, len(group.documents))])
    rows, counts, long_sentence_tokens = _encode(texts, tokenizer, segment)
    documents = len(counts)
    owners = np.repeat(np.arange(documents), counts)[rows.lengths > 0]
    per_document = np.bincount(owners, minlength=documents)
    bounds = [boundaries(each[each > 0]) for each in (rows.lengths, per_document)]
    own = len(group.parts) - group.partner_parts
    times = [choice.repetitions(group.outcome) * (part < own) for part, (_, choice) in enumerate(group.parts)]
    fingerprints = [part.fingerprints[choice.keep(group.outcome)] for part, choice in group.parts]
    _, equal = np.unique(np.concatenate(fingerprints), axis=0, return_inverse=True)
    nonempty = begins[per_document > 0]
    return TokenizedGroup(
        Sentences(rows.values, *bounds),
        group.documents[nonempty],
        np.concatenate(times)[nonempty],
        equal.ravel()[nonempty],
        long_sentence_tokens,
    )


def _encode(texts: Ragged, tokenizer: Tokenizer, segment: SegmentConfig) -> tuple[Ragged, np.ndarray, int]:
    """Return token ids by sentence, long sentences in several pieces; int64 [texts] sentences and pieces of each text;
    and the tokens in sentences longer than a row."""
    sentences, longest = find_sentences(texts), longest_sentence(segment)
    if longest is None:
        # Contiguous rows may start and end inside a sentence.
        return *tokenizer.encode_documents(texts.values, texts.offsets, sentences, whole=True), 0

    def encode(some: Ragged, sentences: Ragged) -> Ragged:
        return tokenizer.encode_documents(some.values, some.offsets, sentences, whole=False)[0]

    fitting = cut_to_fit(texts, sentences, encode, longest, after_space(tokenizer))
    return fitting.ids, fitting.counts, int(fitting.lengths[fitting.lengths > room(segment)].sum())


def count_tokens(text: TokenizedGroup, tokenizer: Tokenizer) -> Counter[str]:
    """Count tokens of the group's own documents, which come before those of partners."""
    part, own = text.sentences, int((text.times > 0).sum())
    tokens = int(part.sentences[part.documents[own]])
    unknown = int((part.ids[:tokens] == tokenizer.special.unk).sum())
    return Counter(
        {TOKENS: tokens, LONG: text.long_sentence_tokens * tokens // max(1, len(part.ids)), UNKNOWN: unknown}
    )
