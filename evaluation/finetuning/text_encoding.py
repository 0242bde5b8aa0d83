"""Tokenization of tasks as text to text: what an encoder reads, and in training what a decoder is to say."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.evaluation.finetuning.encoded import EncodedExamples
from sesame.evaluation.reading.tables import Examples
from sesame.evaluation.scores import SEPARATOR
from sesame.evaluation.tasks.task import Task, TextForm


def encode_text(
    examples: Examples, task: Task, tokenizer: Tokenizer, sequence_length: int, is_trained: bool
) -> EncodedExamples:
    """Tokenize inputs as pretraining does, with the end token last, and cut long ones before it.

    Args:
        is_trained: add what the decoder is to say; a row with several right answers becomes several.
    """
    form = task.text
    assert form is not None
    special = tokenizer.special
    # T5's own vocabulary has no token for the beginning; ours begins every row with [CLS].
    start = [] if special.cls == special.sep else [special.cls]
    pieces = tokenizer.encode_batch(inputs(examples, form))
    room = sequence_length - len(start) - 1
    tokens = [np.array([*start, *ids[:room], special.sep], np.int32) for ids in pieces]
    encoded = EncodedExamples(
        tokens,
        np.array([len(each) for each in tokens], np.int64),
        examples.labels,
        examples.indices,
        groups=examples.group_numbers,
        categories=examples.categories,
        truncated=sum(len(ids) > room for ids in pieces),
        answer_texts=referents(examples) if form.target == "referent" else None,
        candidates=examples.candidates,
    )
    if not is_trained:
        return encoded
    rows, targets = _targets(examples, form)
    chosen = encoded.take(np.array(rows, np.int64))
    return replace(chosen, decoder_tokens=decoder_tokens(targets, tokenizer))


def inputs(examples: Examples, form: TextForm) -> list[str]:
    """Return the text of each row that the encoder reads."""
    texts = examples.texts
    if form.target == "referent":
        assert examples.spans is not None
        texts = [_marked(*row, *spans[1]) for row, spans in zip(texts, examples.spans, strict=True)]
    return [form.template.format(*row) for row in texts]


def decoder_tokens(texts: Sequence[str], tokenizer: Tokenizer) -> list[np.ndarray]:
    """Return what a decoder reads and says for each text: its start token, the text, the end token."""
    special = tokenizer.special
    return [np.array([special.pad, *ids, special.sep], np.int32) for ids in tokenizer.encode_batch(texts)]


def referents(examples: Examples) -> list[str]:
    """Return the words of each row's first span (WSC: the noun that is asked about)."""
    assert examples.spans is not None
    found = []
    for row, ((text, start, end), *_) in zip(examples.texts, examples.spans, strict=True):
        found.append(row[text][start:end])
    return found


def _marked(text: str, _: int, start: int, end: int) -> tuple[str]:
    return (f"{text[:start]}*{text[start:end]}*{text[end:]}",)


def _targets(examples: Examples, form: TextForm) -> tuple[list[int], list[str]]:
    """(row of each training example, what the decoder is to say)."""
    labels = examples.labels.tolist()
    if form.target == "answer":
        pairs = [(row, answer) for row, label in enumerate(labels) for answer in label.split(SEPARATOR)]
    elif form.target == "referent":
        # Only a right noun is learned (section 2.4): the wrong ones say nothing about which is right.
        pairs = [(row, words) for row, words in enumerate(referents(examples)) if labels[row]]
    else:
        pairs = list(enumerate(form.words[number] for number in word_numbers(form, examples.labels)))
    return [row for row, _ in pairs], [target for _, target in pairs]


def word_numbers(form: TextForm, labels: np.ndarray) -> np.ndarray:
    """Return the number of the word of each label, a class or a score."""
    if form.target != "number":
        return labels
    scores = np.array(form.words, np.float64)
    return np.abs(labels[:, None] - scores).argmin(1)
