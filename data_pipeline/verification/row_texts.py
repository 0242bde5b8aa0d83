"""Rows turned back into text, and held against the documents that they name: for ``sesame verify``."""

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from data_pipeline.ragged import Columns
from data_pipeline.verification.original_texts import is_invisible
from data_pipeline.verification.reference_tokenizer import ReferenceTokenizer

MOST_BREAKS, SHORTEST = 8, 12
"""Places in a row where a paragraph may have been left out, and characters of what stands between two of them at
least."""
MOST_ROWS = 200
"""Rows of one document that are looked at; of a long one evenly chosen ones."""
SENTENCE_END = re.compile(
    "[.!?\u3002\uff0e\uff01\uff1f\uff61\u2026\u203d\u0589\u061f\u06d4\u0964\u0965\u104a\u104b\u1362\u1367\u17d4\u17d5\n]"
)
"""Marks that end sentences in the scripts that are written most (Unicode's Sentence_Terminal), and line ends."""
SHOWN = 60
"""Characters of a row's text in a message."""


class Restored(NamedTuple):
    """One row as it was before anything was masked."""

    row: int
    """In its split."""
    document: int
    second_document: int
    first: Sequence[int]
    """Ids of the first segment, without special tokens."""
    second: Sequence[int]
    label: int | None


def restored(columns: Columns, numbers: np.ndarray, first_row: int, sentinels: np.ndarray) -> Iterator[Restored]:
    """The rows ``numbers`` of a block whose first row is ``first_row`` of the split."""
    every: Any = columns
    for number in numbers.tolist():
        ids = _unmasked(every, number, sentinels)
        middle = int(every["first_segment_length"][number])
        if "target_tokens" in columns:
            middle = len(ids)
        document = int(every["document"][number])
        yield Restored(
            first_row + number,
            document,
            int(every["second_document"][number]) if "second_document" in columns else document,
            ids[1 : middle - 1].tolist(),
            ids[middle:-1].tolist(),
            int(every["pair_labels"][number]) if "pair_labels" in columns else None,
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
    pieces = [kept[0], *(part for span, after in zip(spans, kept[1:], strict=True) for part in (span[1:], after[1:]))]
    return np.concatenate(pieces)


class DocumentText:
    """A document in the two forms that rows are looked for in."""

    def __init__(self, text: str, tokenizer: ReferenceTokenizer, spaces: bool = True, gaps: bool = False):
        """
        Args:
            spaces: compare white space too, where the tokenizer has it; otherwise neither that nor what is invisible.
            gaps: paragraphs of it may be left out in rows.
        """
        normal = tokenizer.normalize(text)
        self._only_visible = not spaces
        self._spaced, self._packed = " ".join(normal.split()), self._pack(normal)
        self._spaces = spaces and tokenizer.keeps_spaces
        self.gaps = gaps
        self.sentences = np.array([len("".join(each.split())) for each in SENTENCE_END.split(text)], np.int64)
        """Characters that are not white space, of each stretch between marks that end a sentence in some script."""

    @property
    def visible(self) -> int:
        return len(self._packed)

    def find(self, stretches: Sequence[str], start: int = 0) -> tuple[int, int] | None:
        """Where the stretches of a text follow each other, with unknown text between them; white space where there is
        white space and nowhere else."""
        if not self._spaces:
            return _find(self._packed, [self._pack(each) for each in stretches], start)
        return _find(self._spaced, [" ".join(each.split()) for each in stretches], start)

    def holds(self, stretches: Sequence[str]) -> bool:
        """Whether the text is here, if need be in parts between which paragraphs are left out; they end with words."""
        if self.find(stretches) is not None:
            return True
        words = ([each if self._spaces else self._pack(each) for each in stretch.split()] for stretch in stretches)
        return self.gaps and all(map(self._holds_in_parts, words))

    def _holds_in_parts(self, words: list[str]) -> bool:
        space, within = (" ", self._spaced) if self._spaces else ("", self._packed)
        for part in range(MOST_BREAKS):
            if space.join(words) in within:
                return True
            shown = bisect_left(range(len(words) + 1), True, key=lambda n: space.join(words[:n]) not in within) - 1
            if shown < 1 or (part and len(space.join(words[:shown])) < SHORTEST):
                return False
            words = words[shown:]
        return False

    def has_without_spaces(self, stretches: Sequence[str]) -> bool:
        return _find(self._packed, [self._pack(each) for each in stretches], 0) is not None

    def _pack(self, text: str) -> str:
        packed = "".join(text.split())
        if not self._only_visible or packed.isascii():
            return packed
        return "".join(each for each in packed if not is_invisible(each))


def _find(text: str, stretches: Sequence[str], start: int) -> tuple[int, int] | None:
    begin, end = -1, start
    for stretch in stretches:
        place = text.find(stretch, end)
        if place < 0:
            return None
        begin, end = (place if begin < 0 else begin), place + len(stretch)
    return begin, end


def contradiction(row: Restored, documents: Mapping[int, DocumentText], tokenizer: ReferenceTokenizer) -> str | None:
    """What of a row is not so in the documents that are there; None where all of it is."""
    segments = [(row.first, row.document)] + ([(row.second, row.second_document)] if row.second else [])
    for ids, document in segments:
        if document not in documents:
            continue
        stretches, text = tokenizer.text(ids), documents[document]
        if not text.holds(stretches):
            shown = " ".join("".join(stretches).split())[:SHOWN]
            if text.has_without_spaces(stretches):
                return f"has white space where document {document} has none, or none where it has some: '{shown}'"
            return f"holds text that is not in document {document}: '{shown}'"
    if row.label is None or row.document != row.second_document or row.document not in documents:
        return None
    parts = [tokenizer.text(row.first), tokenizer.text(row.second)]
    before, after = parts[::-1] if row.label else parts
    return "has a pair label that its text contradicts" if _precedes(after, before, documents[row.document]) else None


def _precedes(after: Sequence[str], before: Sequence[str], document: DocumentText) -> bool:
    """Whether a segment is there, but nowhere behind the first place of the one that it should follow."""
    if document.gaps:
        # Without what is left out, a text may stand elsewhere than in the document as it was.
        return False
    place = document.find(before)
    return place is not None and document.find(after) is not None and document.find(after, place[1]) is None


def chosen(documents: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """int64: rows of the ``wanted`` documents, of each no more than MOST_ROWS.

    Args:
        documents: [rows].
        wanted: numbers of documents.
    """
    rows = np.flatnonzero(np.isin(documents, wanted))
    owners = documents[rows]
    order = np.argsort(owners, kind="stable")
    starts = np.flatnonzero(np.diff(owners[order], prepend=-1))
    every = [rows[each] for each in np.split(order, starts[1:])] if len(rows) else []
    picked = [each[np.unique(np.linspace(0, len(each) - 1, MOST_ROWS).astype(int))] for each in every]
    return np.sort(np.concatenate(picked)) if picked else rows
