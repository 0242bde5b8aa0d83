"""Token sequences of a task's file, with what they are compared with."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from sesame.data_pipeline.ragged import boundaries


@dataclass(frozen=True)
class EncodedExamples:
    """Token sequences of a file with their labels. A row has one sequence, or one for each candidate."""

    tokens: list[np.ndarray]
    """int32 [length] for each sequence."""
    first_segment_lengths: np.ndarray
    """int64 [sequences]: tokens of the first segment, including [CLS] and its [SEP]."""
    labels: np.ndarray
    """[rows]"""
    indices: list[str]
    counts: np.ndarray | None = None
    """int64 [rows]: sequences of each row; None: one."""
    spans: np.ndarray | None = None
    """int64 [sequences, spans, 2]: first token of each span, and the one after its last; None: the task has none."""
    groups: np.ndarray | None = None
    """int64 [rows]: rows with the same number are scored together; None: no groups."""
    categories: list[tuple[str, ...]] | None = None
    """Of each row, for scores by category."""
    truncated: int = 0
    """Sequences that were longer than the sequence length."""
    targets: np.ndarray | None = None
    """[sequences, ...]: what the outputs of a sequence are trained to be; None: the label of its row."""
    answer_texts: list[str] | None = None
    """Of each sequence: the candidate, or the text of which the answer is a part; None: answers are not texts."""
    ranges: list[np.ndarray] | None = None
    """int32 [length, 2] of each sequence: first character in its text of each token, and the one after the last; -1
    where the token is not of that text. None: the answer is the whole text."""
    decoder_tokens: list[np.ndarray] | None = None
    """int32 [target length + 1] of each sequence: what a decoder is trained to say, after its start token; None: no
    decoder is trained."""
    candidates: list[list[str]] | None = None
    """Of each row, whose answer a decoder says; None: it is any text."""

    @property
    def rows(self) -> int:
        return len(self.indices)

    @cached_property
    def row_counts(self) -> np.ndarray:
        """int64 [rows]: sequences of each row."""
        return np.ones(self.rows, np.int64) if self.counts is None else self.counts

    @cached_property
    def starts(self) -> np.ndarray:
        """int64 [rows + 1]: the first sequence of each row."""
        return boundaries(self.row_counts)

    @cached_property
    def sequence_lengths(self) -> np.ndarray:
        """int64 [sequences]: tokens of each sequence."""
        return np.array([len(tokens) for tokens in self.tokens])

    @cached_property
    def lengths(self) -> np.ndarray:
        """int64 [rows]: tokens of the longest sequence of each row."""
        return self._by_row(np.maximum)

    @cached_property
    def row_tokens(self) -> np.ndarray:
        """int64 [rows]: tokens of all sequences of each row."""
        return self._by_row(np.add)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what a model reads and is compared with; every job of a task asks for it."""
        sha256 = hashlib.sha256(np.concatenate(self.tokens).tobytes())
        for part in (self.sequence_lengths, self.first_segment_lengths, self.labels, self.counts, self.spans):
            sha256.update(b"" if part is None else part.tobytes())
            sha256.update(b"|")
        for part in (self.targets, *(self.decoder_tokens or ())):
            if part is not None:
                sha256.update(part.tobytes() + b"|")
        return sha256.hexdigest()

    def sequences(self, rows: np.ndarray) -> np.ndarray:
        """Return the numbers of the sequences of ``rows``, in their order."""
        if self.counts is None:
            return rows
        return np.concatenate([np.arange(int(self.starts[row]), int(self.starts[row + 1])) for row in rows])

    def targets_of(self, rows: np.ndarray) -> np.ndarray:
        """Return what the outputs of ``rows`` are trained to be: a label for each, or a target for each sequence."""
        return self.labels[rows] if self.targets is None else self.targets[self.sequences(rows)]

    def take(self, rows: np.ndarray) -> "EncodedExamples":
        """Select ``rows``, in their order."""
        sequences = self.sequences(rows)

        def part(values: np.ndarray | None, selected: np.ndarray) -> np.ndarray | None:
            return None if values is None else values[selected]

        def some(values: list[Any] | None, selected: np.ndarray) -> list[Any] | None:
            return None if values is None else [values[number] for number in selected]

        return EncodedExamples(
            [self.tokens[sequence] for sequence in sequences],
            self.first_segment_lengths[sequences],
            self.labels[rows] if len(self.labels) else self.labels,
            [self.indices[row] for row in rows],
            part(self.counts, rows),
            part(self.spans, sequences),
            part(self.groups, rows),
            some(self.categories, rows),
            self.truncated,
            part(self.targets, sequences),
            some(self.answer_texts, sequences),
            some(self.ranges, sequences),
            some(self.decoder_tokens, sequences),
            some(self.candidates, rows),
        )

    def _by_row(self, function: np.ufunc) -> np.ndarray:
        """The lengths of each row's sequences, reduced by ``function``."""
        lengths = self.sequence_lengths
        return lengths if self.counts is None else function.reduceat(lengths, self.starts[:-1])
