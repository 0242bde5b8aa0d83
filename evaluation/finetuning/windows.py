"""Windows of a text of which an answer is a part: [CLS] question [SEP] part of the text [SEP].

A text that is too long for one sequence is read in several, which overlap; a row has a sequence for each (Devlin et al.
2019, section 4.2, and the published code).
"""

from typing import NamedTuple

import numpy as np

from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.evaluation.finetuning.encoded import EncodedExamples
from sesame.evaluation.reading.tables import Examples

QUESTION_TOKENS = 64
"""Of a question, at most (BERT's published code); never more than half of a sequence."""


class Window(NamedTuple):
    """One sequence of a row."""

    tokens: np.ndarray
    ranges: np.ndarray
    """int32 [tokens, 2]: characters in the text of each token; -1 of the others."""
    first_length: int
    """Tokens up to the text."""
    target: tuple[int, int]
    """First and last token of the answer; (0, 0), the place of [CLS], if it is not all in this window."""


def windows(examples: Examples, tokenizer: Tokenizer, sequence_length: int, stride: int) -> EncodedExamples:
    """Tokenize rows of (question, text).

    Args:
        sequence_length: of a window, at most.
        stride: tokens between the beginnings of two windows.
    """
    questions = tokenizer.encode_batch([question for question, _ in examples.texts])
    texts = tokenizer.encode_ranges([text for _, text in examples.texts])
    room = min(QUESTION_TOKENS, (sequence_length - 3) // 2)
    answers = examples.answer_ranges or [None] * len(texts)
    found: list[Window] = []
    owners: list[int] = []
    for row, (question, text, answer) in enumerate(zip(questions, texts, answers, strict=True)):
        start = [tokenizer.special.cls, *question[:room], tokenizer.special.sep]
        of_row = _windows(start, *text, answer, tokenizer.special.sep, sequence_length, stride)
        found += of_row
        owners += [row] * len(of_row)
    return EncodedExamples(
        [window.tokens for window in found],
        np.array([window.first_length for window in found], np.int64),
        examples.labels,
        examples.indices,
        np.bincount(owners, minlength=len(texts)),
        groups=examples.group_numbers,
        categories=examples.categories,
        truncated=sum(len(question) > room for question in questions),
        targets=np.array([window.target for window in found], np.int64),
        answer_texts=[examples.texts[row][1] for row in owners],
        ranges=[window.ranges for window in found],
    )


def _windows(
    start: list[int],
    tokens: list[int],
    ranges: np.ndarray,
    answer: tuple[int, int] | None,
    sep: int,
    sequence_length: int,
    stride: int,
) -> list[Window]:
    """The windows of one row, of which the last one ends with the text."""
    room = sequence_length - len(start) - 1
    answer_tokens = _tokens_of(ranges, answer)
    found, first = [], 0
    while True:
        end = min(first + room, len(tokens))
        outside = np.full((len(start), 2), -1, np.int32)
        found.append(
            Window(
                np.array([*start, *tokens[first:end], sep], np.int32),
                np.concatenate([outside, ranges[first:end], outside[:1]]),
                len(start),
                _target(answer_tokens, first, end, len(start)),
            )
        )
        if end == len(tokens):
            return found
        first += min(stride, room)


def _tokens_of(ranges: np.ndarray, answer: tuple[int, int] | None) -> tuple[int, int] | None:
    """(first, last) token of which a character is in the answer; None: there is none."""
    if answer is None:
        return None
    inside = np.flatnonzero((ranges[:, 0] < answer[1]) & (ranges[:, 1] > answer[0]))
    return (int(inside[0]), int(inside[-1])) if len(inside) else None


def _target(answer: tuple[int, int] | None, first: int, end: int, before: int) -> tuple[int, int]:
    if answer is None or answer[0] < first or answer[1] >= end:
        return 0, 0
    return before + answer[0] - first, before + answer[1] - first
