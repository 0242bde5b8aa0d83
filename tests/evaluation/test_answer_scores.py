"""Scores of answers that are texts: against other ways to compute them, and by hand."""

import random

import numpy as np
import pytest

from sesame.evaluation.answer_scores import CMRC_PUNCTUATION, cmrc_em, cmrc_f1, squad_em, squad_f1
from sesame.evaluation.report.resampling import RESAMPLED
from sesame.evaluation.scores import SEPARATOR, score


def _words(text: str) -> list[str]:
    """SQuAD's normal form, character by character."""
    kept = "".join(each.lower() if each.isalnum() or not each.isascii() else " " * each.isspace() for each in text)
    return [word for word in kept.split() if word not in ("a", "an", "the")]


def _matched_f1(answer: str, prediction: str) -> float:
    """F1 of the words that can be paired, each with one of the other text."""
    found, left = _words(prediction), _words(answer)
    total, paired = len(found) + len(left), 0
    for word in found:
        if word in left:
            left.remove(word)
            paired += 1
    return 2 * paired / total if paired else 0.0


def test_squad_scores_equal_those_of_a_pairing_of_words() -> None:
    draw = random.Random(1)
    words = ["the", "The", "a", "an", "Ada", "ada's", "Rome,", "U.S.", "3,000", "co-op", "—", "tea", "Tea!"]
    for _ in range(2000):
        answers = [" ".join(draw.choices(words, k=draw.randint(1, 4))) for _ in range(draw.randint(1, 3))]
        prediction = " ".join(draw.choices(words, k=draw.randint(0, 4)))
        assert squad_f1(answers, prediction) == pytest.approx(max(_matched_f1(each, prediction) for each in answers))
        assert squad_em(answers, prediction) == float(_words(prediction) in map(_words, answers))


def test_squad_by_hand() -> None:
    assert squad_em(["The U.S. army", "x"], "us army") == 1.0
    assert squad_f1(["Puerto Rico"], "Rico") == pytest.approx(2 / 3)
    assert squad_f1(["the"], "the") == 0.0 and squad_em(["the"], "the") == 1.0
    assert squad_em(["Ada"], "Bob") == squad_f1(["Ada"], "") == 0.0


def _brute_f1(answer: str, prediction: str) -> float:
    """F1 of the longest common substring of characters, over all substrings."""
    answer, prediction = ("".join(c for c in text if c not in CMRC_PUNCTUATION) for text in (answer, prediction))
    parts = {answer[first:end] for first in range(len(answer)) for end in range(first + 1, len(answer) + 1)}
    longest = max((len(part) for part in parts if part in prediction), default=0)
    if not longest:
        return 0.0
    precision, recall = longest / len(prediction), longest / len(answer)
    return 2 * precision * recall / (precision + recall)


def test_cmrc_f1_is_that_of_the_longest_common_substring() -> None:
    draw = random.Random(1)
    for _ in range(2000):
        answers = ["".join(draw.choices("甲乙丙丁，。", k=draw.randint(1, 7))) for _ in range(draw.randint(1, 3))]
        prediction = "".join(draw.choices("甲乙丙丁，。", k=draw.randint(0, 7)))
        assert cmrc_f1(answers, prediction) == pytest.approx(max(_brute_f1(each, prediction) for each in answers))


@pytest.mark.parametrize(
    ("answer", "prediction", "em", "f1"),
    [
        ("《红楼梦》", "红楼梦", 1, 1),
        ("买入并持有", "其实就是买入并持有", 0, 2 * 5 / (5 + 9)),
        # A number or Latin word is one segment.
        ("78.1", "78.1%", 0, 2 / 3),
        ("iPhone 5s手机", "IPHONE 5S 手机", 0, 1),
        ("U.S. Army", "u.s. army", 1, 1),
        ("don't", "do", 0, 2 / 3),
        ("NBA、CBA", "nbacba", 1, 1),
        # The letters of common words count only if the words are neighbours.
        ("甲乙丙", "甲丙", 0, 2 * 1 / (3 + 2)),
        ("。", "，", 1, 0),
    ],
)
def test_cmrc_by_hand(answer: str, prediction: str, em: int, f1: float) -> None:
    assert (cmrc_em([answer], prediction), cmrc_f1([answer], prediction)) == (em, pytest.approx(f1))
    assert cmrc_em(["丁", answer], prediction) == em


@pytest.mark.parametrize("metric", ["squad_em", "squad_f1", "cmrc_em", "cmrc_f1"])
def test_a_metric_is_the_mean_of_its_rows_and_is_resampled(metric: str) -> None:
    labels = np.array([f"Ada{SEPARATOR}Bob Lee", "Rome", "甲乙"])
    predictions = np.array([["Bob", "Rome", "甲乙"], ["Ada", "x", "乙"]])
    measure = {"squad_em": squad_em, "squad_f1": squad_f1, "cmrc_em": cmrc_em, "cmrc_f1": cmrc_f1}[metric]
    rows = np.array(
        [
            [measure(label.split(SEPARATOR), each) for label, each in zip(labels, seed, strict=True)]
            for seed in predictions
        ]
    )
    assert [score(metric, labels, each) for each in predictions] == pytest.approx(rows.mean(1).tolist())
    weights = np.array([[1, 1, 1], [3, 0, 0], [0, 2, 1]])
    np.testing.assert_allclose(RESAMPLED[metric](labels, predictions, None, weights), weights @ rows.T / 3)
