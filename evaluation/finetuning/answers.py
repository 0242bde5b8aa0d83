"""What stored outputs mean: a prediction of each row.

S sequences, B rows, C outputs.
"""

import numpy as np
from scipy.optimize import linear_sum_assignment

from sesame.evaluation.finetuning.encoded import EncodedExamples
from sesame.evaluation.finetuning.kinds import KINDS
from sesame.evaluation.finetuning.text_answers import text_answers
from sesame.evaluation.tasks.task import Task


def answers(task: Task, examples: EncodedExamples, outputs_SC: np.ndarray) -> np.ndarray:
    """Return the predictions of every row, [B]: int64 classes or candidates, float32 scores, or texts."""
    if task.text is not None:
        return text_answers(task, examples, outputs_SC)
    if task.is_distinct and examples.groups is not None:
        found = _distinct(outputs_SC[:, 0], examples.starts, examples.groups)
    else:
        found = ANSWERS[task.kind](outputs_SC, examples.row_counts)
    texts, ranges = examples.answer_texts, examples.ranges
    if texts is None:
        return found
    if ranges is None:
        return np.array([texts[sequence] for sequence in examples.starts[:-1] + found])
    return np.array([_part(texts[sequence], ranges[sequence], *span) for sequence, *span in found])


def _part(text: str, ranges: np.ndarray, first: int, last: int) -> str:
    """The text from a first to a last token; empty if no token of a window is of the text."""
    return text[max(ranges[first, 0], 0) : max(ranges[last, 1], 0)].strip()


def _distinct(outputs_S: np.ndarray, starts: np.ndarray, groups_B: np.ndarray) -> np.ndarray:
    """The candidate of each row, such that the sum of outputs is the largest in which no two rows of a group have the
    same one."""
    found = np.empty(len(groups_B), np.int64)
    order = np.argsort(groups_B, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(groups_B[order])) + 1):
        scores = np.stack([outputs_S[starts[row] : starts[row + 1]] for row in rows])
        chosen, candidates = linear_sum_assignment(scores, maximize=True)
        # If there are more rows than candidates, the rest have their best one.
        found[rows] = scores.argmax(1)
        found[rows[chosen]] = candidates
    return found


def _pair_answers(outputs_SC: np.ndarray, counts_B: np.ndarray) -> np.ndarray:
    """1 if the first of two sequences has the larger output, 1/2 if both are equal, else 0."""
    first, second = outputs_SC.reshape(-1, 2).T
    return np.where(first == second, 0.5, first > second).astype(np.float32)


ANSWERS = {
    **{name: kind.answers for name, kind in KINDS.items()},
    # Both sequences of a row have the cosine of the two.
    "similarity": lambda outputs_SC, counts_B: outputs_SC[::2, 0],
    "minimal_pairs": _pair_answers,
}
"""Function from stored outputs [S, C] and the sequences of each row [B] to what answers are made of, by
``Task.kind``."""
