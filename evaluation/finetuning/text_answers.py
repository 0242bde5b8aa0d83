"""What a decoder's texts mean: classes, scores or answers; and how many of them mean none."""

import numpy as np

from sesame.evaluation.finetuning.encoded import EncodedExamples
from sesame.evaluation.tasks.task import Task, TextForm

DETERMINERS = frozenset({
    "a", "an", "few", "her", "his", "each", "every", "many", "much", "my", "our", "some", "that", "the", "their",
    "these", "this", "those", "which", "whose", "your",
})  # fmt: skip
"""Words that do not count where a noun is compared (T5's published code)."""


def text_answers(task: Task, examples: EncodedExamples, outputs: np.ndarray) -> np.ndarray:
    """Return the predictions of every row, [rows].

    Args:
        outputs: texts [rows]; or the log-likelihood of each of the task's words, [rows, words].
    """
    form = task.text
    assert form is not None
    if outputs.ndim == 2:
        numbers = outputs.argmax(1)
        return np.array(form.words, np.float32)[numbers] if form.target == "number" else numbers
    said = [text.strip() for text in outputs.tolist()]
    if form.target == "answer":
        return np.array(said)
    if form.target == "number":
        # T5's published code gives a text that is no number the score -1.
        return np.array([_number(text, task.score_range[0] - 1) for text in said], np.float32)
    if form.target == "referent":
        assert examples.answer_texts is not None
        pairs = zip(said, examples.answer_texts, strict=True)
        return np.array([is_same_noun(text, noun) for text, noun in pairs], np.int64)
    return np.array([_class(text, form, examples.labels, row) for row, text in enumerate(said)], np.int64)


def invalid(task: Task, outputs: np.ndarray) -> int:
    """Return how many texts of a decoder are no answer of the task; 0 if any text is one."""
    form = task.text
    if form is None or outputs.ndim == 2 or form.target in ("answer", "referent"):
        return 0
    said = [text.strip() for text in outputs.tolist()]
    if form.target == "number":
        return sum(np.isnan(_number(text, float("nan"))) for text in said)
    return sum(text not in form.words for text in said)


def is_same_noun(said: str, noun: str) -> bool:
    """Return whether two nouns are the same, up to determiners and words that only one of them has ("the fuzzy bunny",
    "bunny"); a possessive is another noun ("Bob", "Bob's hat")."""
    if ("'" in said) != ("'" in noun):
        return False
    first, second = ({word for word in text.lower().split() if word not in DETERMINERS} for text in (said, noun))
    return bool(first) and (first <= second or second <= first)


def _class(text: str, form: TextForm, labels: np.ndarray, row: int) -> int:
    """The class of a word; for another text one that is wrong, where the right one is known, else the first."""
    if text in form.words:
        return form.words.index(text)
    return (int(labels[row]) + 1) % len(form.words) if len(labels) else 0


def _number(text: str, otherwise: float) -> float:
    try:
        value = float(text)
    except ValueError:
        return otherwise
    return value if np.isfinite(value) else otherwise
