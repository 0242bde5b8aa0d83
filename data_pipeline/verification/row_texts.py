"""Convert rows back to text, and search for it in the documents that they name."""

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sesame.data_pipeline.ragged import Columns
from sesame.data_pipeline.verification.original_texts import is_invisible
from sesame.data_pipeline.verification.reference_tokenizer import ReferenceTokenizer

MAXIMUM_GAPS, SHORTEST = 8, 12
"""Positions in a row where a paragraph may have been dropped, and minimum characters between two of them."""
MAXIMUM_ROWS = 200
"""Rows of one document that are compared, evenly spaced."""
SENTENCE_END = re.compile(
    "[.!?\u3002\uff0e\uff01\uff1f\uff61\u2026\u203d\u0589\u061f\u06d4\u0964\u0965\u104a\u104b\u1362\u1367\u17d4\u17d5\n]"
)
"""Sentence_Terminal characters of the most common scripts, and line ends."""
MESSAGE_CHARACTERS = 60
"""Of a row's text, in a message."""


class OriginalRow(NamedTuple):
    """One row as it was before masking."""

    row: int
    """Index in its split."""
    document: int
    second_document: int
    first: Sequence[int]
    """Ids of the first segment, without special tokens."""
    second: Sequence[int]
    label: int | None


def original_rows(
    columns: Columns, numbers: np.ndarray, first_row: int, sentinels: np.ndarray
) -> Iterator[OriginalRow]:
    """Yield rows of a block without masks.

    Args:
        numbers: int64: which rows of the block.
        first_row: index of the first row of the block in the split.
        sentinels: ids of the sentinels.
    """
    values: Any = columns
    for number in numbers.tolist():
        ids = _unmasked(values, number, sentinels)
        first_length = len(ids) if "target_tokens" in columns else int(values["first_segment_length"][number])
        document = int(values["document"][number])
        yield OriginalRow(
            first_row + number,
            document,
            int(values["second_document"][number]) if "second_document" in columns else document,
            ids[1 : first_length - 1].tolist(),
            ids[first_length:-1].tolist(),
            int(values["pair_labels"][number]) if "pair_labels" in columns else None,
        )


def _unmasked(columns: Any, number: int, sentinels: np.ndarray) -> np.ndarray:
    def row(name: str) -> np.ndarray:
        column = columns[name]
        return column.values[column.offsets[number] : column.offsets[number + 1]]

    ids = row("tokens").copy()
    if "mask_labels" in columns:
        ids[row("mask_positions")] = row("mask_labels")
    if "target_tokens" not in columns:
        return ids
    target = row("target_tokens")[:-1]
    spans = np.split(target, np.flatnonzero(np.isin(target, sentinels)))[1:]
    kept = np.split(ids, np.flatnonzero(np.isin(ids, sentinels)))
    pieces = (piece for span, after in zip(spans, kept[1:], strict=True) for piece in (span[1:], after[1:]))
    return np.concatenate([kept[0], *pieces])


class DocumentText:
    """The text of a document, normalized to search for rows in it with or without white space."""

    def __init__(self, text: str, tokenizer: ReferenceTokenizer, spaces: bool = True, gaps: bool = False):
        """
        Args:
            spaces: compare white space, if the tokenizer preserves it; otherwise ignore it and invisible characters.
            gaps: paragraphs of it may be missing in rows.
        """
        normal = tokenizer.normalize(text)
        self._only_visible = not spaces
        self._spaced, self._packed = " ".join(normal.split()), self._pack(normal)
        self._spaces = spaces and tokenizer.keeps_spaces
        self.gaps = gaps
        self.sentences = np.array([len("".join(each.split())) for each in SENTENCE_END.split(text)], np.int64)
        """int64 [sentences]: characters between sentence terminals, without white space."""

    @property
    def visible(self) -> int:
        return len(self._packed)

    def find(self, fragments: Sequence[str], start: int = 0) -> tuple[int, int] | None:
        """Return begin and end of the text, or None.

        Args:
            fragments: the text, split at unknown tokens, which stand for any text.
            start: where to begin the search.
        """
        if not self._spaces:
            return _find(self._packed, [self._pack(each) for each in fragments], start)
        return _find(self._spaced, [" ".join(each.split()) for each in fragments], start)

    def contains(self, fragments: Sequence[str]) -> bool:
        """Whether the text is in the document; in several parts if paragraphs between them may be missing."""
        if self.find(fragments) is not None:
            return True
        words = ([each if self._spaces else self._pack(each) for each in fragment.split()] for fragment in fragments)
        return self.gaps and all(map(self._contains_in_parts, words))

    def _contains_in_parts(self, words: list[str]) -> bool:
        space, text = (" ", self._spaced) if self._spaces else ("", self._packed)
        for part in range(MAXIMUM_GAPS):
            if space.join(words) in text:
                return True
            # The largest number of words that are in the text as they follow each other.
            count = bisect_left(range(len(words) + 1), True, key=lambda n: space.join(words[:n]) not in text) - 1
            if count < 1 or (part and len(space.join(words[:count])) < SHORTEST):
                return False
            words = words[count:]
        return False

    def contains_without_spaces(self, fragments: Sequence[str]) -> bool:
        return _find(self._packed, [self._pack(each) for each in fragments], 0) is not None

    def _pack(self, text: str) -> str:
        packed = "".join(text.split())
        if not self._only_visible or packed.isascii():
            return packed
        return "".join(each for each in packed if not is_invisible(each))


def _find(text: str, fragments: Sequence[str], start: int) -> tuple[int, int] | None:
    begin, end = -1, start
    for fragment in fragments:
        position = text.find(fragment, end)
        if position < 0:
            return None
        begin, end = (position if begin < 0 else begin), position + len(fragment)
    return begin, end


def find_contradiction(
    row: OriginalRow, documents: Mapping[int, DocumentText], tokenizer: ReferenceTokenizer
) -> str | None:
    """Return how a row differs from its documents, as far as ``documents`` has them, or None."""
    segments = [(row.first, row.document)] + ([(row.second, row.second_document)] if row.second else [])
    for ids, document in segments:
        if document not in documents:
            continue
        fragments, text = tokenizer.text(ids), documents[document]
        if not text.contains(fragments):
            excerpt = " ".join("".join(fragments).split())[:MESSAGE_CHARACTERS]
            if text.contains_without_spaces(fragments):
                return f"has white space where document {document} has none, or none where it has some: '{excerpt}'"
            return f"has text that is not in document {document}: '{excerpt}'"
    if row.label is None or row.document != row.second_document or row.document not in documents:
        return None
    texts = [tokenizer.text(row.first), tokenizer.text(row.second)]
    before, after = texts[::-1] if row.label else texts
    if _is_out_of_order(before, after, documents[row.document]):
        return "has a pair label that its text contradicts"
    return None


def _is_out_of_order(before: Sequence[str], after: Sequence[str], document: DocumentText) -> bool:
    """Whether both segments are in the document, but ``after`` does not occur after the first ``before``."""
    if document.gaps:
        # The order cannot be judged by the first occurrence, which may be in a dropped paragraph.
        return False
    span = document.find(before)
    return span is not None and document.find(after) is not None and document.find(after, span[1]) is None


def rows_to_compare(documents: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return int64: the rows of known documents in ascending order, at most MAXIMUM_ROWS of each document.

    Args:
        documents: [rows] number of the document of each row.
        known: numbers of the documents whose text is known.
    """
    rows = np.flatnonzero(np.isin(documents, known))
    order = np.argsort(documents[rows], kind="stable")
    starts = np.flatnonzero(np.diff(documents[rows][order], prepend=-1))
    by_document = [rows[each] for each in np.split(order, starts[1:])] if len(rows) else []
    compared = [each[np.unique(np.linspace(0, len(each) - 1, MAXIMUM_ROWS).astype(int))] for each in by_document]
    return np.sort(np.concatenate(compared)) if compared else rows
