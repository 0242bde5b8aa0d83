"""Comparison of two models on the dev sets of a task, from the predictions of every seed.

A score varies with the seed and with the dev rows that happened to be published. Both models are scored on the same
rows, so rows are resampled for both at once (paired bootstrap, Efron and Tibshirani 1993, chapter 16). Few seeds cannot
be resampled: a bootstrap of five makes intervals too narrow. Their share of the variance is estimated from the scores
(n - 1 in the denominator), less what the rows contribute to them, and the interval is Student's t with the degrees of
freedom of Satterthwaite 1946. A model that is not trained on the task has the same predictions for every seed, so only
the rows vary. S seeds, R rows, B replicates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from sesame.evaluation.report.resampling import RESAMPLED, weights_of

REPLICATES = 400
SMALLEST = 1e-9
"""Of scores between -1 and 1; below it is rounding."""
FEWEST_SEEDS = 5
"""Fewer give no verdict."""
LEVEL = 0.05
"""Share of verdicts in error where two models are equally good."""
POWER = 0.8
"""Probability with which the smallest detectable difference is found."""


@dataclass(frozen=True)
class DevPredictions:
    """Predictions of two models for one dev set."""

    labels: np.ndarray
    """[R]"""
    first: np.ndarray
    """[S, R]"""
    second: np.ndarray | None
    """[S, R]; may have another number of seeds. None: there is one model."""
    metrics: tuple[str, ...]
    groups: np.ndarray | None = None
    """[R]: rows that are drawn together; None: each row is its own group."""


@dataclass(frozen=True)
class Comparison:
    """Difference of two models' mean scores, as fractions."""

    difference: float
    """Mean score of the first model minus that of the second."""
    error: float
    """Its standard error; NaN with a single seed of a model that depends on it, or where a score is undefined."""
    freedom: float
    """Degrees of freedom of the error."""
    seeds: int | None
    """Of the model with fewer; None: no model depends on the seed."""

    @property
    def interval(self) -> tuple[float, float]:
        """95 % confidence interval."""
        half = float(stats.t.ppf(1 - LEVEL / 2, self.freedom)) * self.error
        return self.difference - half, self.difference + half

    @property
    def p_value(self) -> float:
        """Probability of a difference at least as large between equally good models."""
        if self.error == 0:
            # All rows agree: the sign test (Dixon and Mood 1946), as the freedom is that of the rows.
            return 1.0 if self.difference == 0 else float(2.0**-self.freedom)
        return float(2 * stats.t.sf(abs(self.difference) / self.error, self.freedom))

    @property
    def smallest_detectable(self) -> float:
        """The difference that so many seeds and rows show with probability ``POWER``; NaN if nothing varied."""
        if self.error == 0:
            return float("nan")
        return float(stats.t.ppf(1 - LEVEL / 2, self.freedom) + stats.t.ppf(POWER, self.freedom)) * self.error

    @property
    def smallest_detectable_unpaired(self) -> float:
        """The difference from another model that has the same error, where its rows are not compared with these: the
        rows of two models agree, so that a comparison row by row finds smaller ones."""
        return float(np.sqrt(2)) * self.smallest_detectable

    def verdict(self, p_value: float) -> str:
        """What can be said, given the p-value corrected for the number of tasks."""
        if self.seeds is not None and self.seeds < FEWEST_SEEDS:
            return f"no verdict below {FEWEST_SEEDS} seeds"
        if np.isnan(p_value):
            return "undefined"
        if p_value >= LEVEL:
            return "no difference shown"
        return "better" if self.difference > 0 else "worse"


@dataclass(frozen=True)
class Scores:
    """Scores of one model."""

    whole_S: np.ndarray
    """On the dev rows, by seed."""
    resampled_BS: np.ndarray
    """On resampled dev rows, the same ones for every model."""
    is_seeded: bool
    """Whether they depend on the seed."""


def resample(
    sets: Sequence[DevPredictions],
    replicates: int = REPLICATES,
    seed: int = 0,
    seeded: Sequence[bool] = (True, True),
) -> tuple[list[Scores], int]:
    """Return the scores of both models, or of the first one alone, and the number of rows or groups that were drawn.

    The score is the mean of all metrics of all dev sets.

    Args:
        seeded: whether the predictions of each model depend on the seed; those that do not may be given once.
    """
    generator = np.random.default_rng(seed)
    count = 1 if any(part.second is None for part in sets) else 2
    scores: list[list[np.ndarray]] = [[] for _ in range(count)]
    whole: list[list[np.ndarray]] = [[] for _ in range(count)]
    units = 0
    for part in sets:
        weights = weights_of(len(part.labels), part.groups, replicates, generator)
        units += len(part.labels) if part.groups is None else len(np.unique(part.groups))
        ones = np.ones((1, len(part.labels)), np.int64)
        for metric in part.metrics:
            for model, predictions in enumerate((part.first, part.second)[:count]):
                assert predictions is not None
                scores[model].append(RESAMPLED[metric](part.labels, predictions, part.groups, weights))
                whole[model].append(RESAMPLED[metric](part.labels, predictions, part.groups, ones)[0])
    means = [(np.mean(whole[model], axis=0), np.mean(scores[model], axis=0)) for model in range(count)]
    return [Scores(*each, seeded[model]) for model, each in enumerate(means)], units


def estimate_of(scores: Scores, units: int) -> Comparison:
    """Return one model's mean score in the place of the difference, with its error."""
    return _comparison([(1.0, scores)], units)


def difference_of(scores: Sequence[Scores], units: int) -> Comparison:
    """Return the difference of two models' mean scores."""
    return _comparison(list(zip((1.0, -1.0), scores, strict=True)), units)


def mean_of(comparisons: Sequence[Comparison]) -> Comparison:
    """Compare the mean over tasks, whose errors are independent."""
    if not comparisons:
        return Comparison(float("nan"), float("nan"), float("nan"), 0)
    count = len(comparisons)
    variances = np.array([each.error**2 for each in comparisons]) / count**2
    total = float(variances.sum())
    parts = sum(variance**2 / each.freedom for variance, each in zip(variances, comparisons, strict=True))
    difference = float(np.mean([each.difference for each in comparisons]))
    freedom = total**2 / parts if parts > 0 else 1.0
    seeds = min((each.seeds for each in comparisons if each.seeds is not None), default=None)
    return Comparison(difference, total**0.5, float(freedom), seeds)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Correct p-values for their number (Holm 1979); a NaN is not counted."""
    known = sorted((value, name) for name, value in p_values.items() if not np.isnan(value))
    corrected, largest = dict.fromkeys(p_values, float("nan")), 0.0
    for rank, (value, name) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * value))
        corrected[name] = largest
    return corrected


def _comparison(signed: Sequence[tuple[float, Scores]], units: int) -> Comparison:
    """The sum of signed mean scores, with its error over seeds and rows."""
    difference = _unrounded(float(sum(sign * each.whole_S.mean() for sign, each in signed)))
    seeded = [each for _, each in signed if each.is_seeded]
    seeds = min((len(each.whole_S) for each in seeded), default=None)
    if units < 2 or (seeds is not None and seeds < 2):
        return Comparison(difference, float("nan"), float("nan"), seeds)
    means_B = sum(sign * each.resampled_BS.mean(1) for sign, each in signed)
    rows = float(np.var(means_B, ddof=1)) * units / (units - 1)
    # Variances of the mean over seeds, and what each contributes to the uncertainty of the error.
    total, uncertainty = rows, rows**2 / (units - 1)
    for each in seeded:
        count = len(each.whole_S)
        observed = float(np.var(each.whole_S, ddof=1))
        # Rows on which seeds disagree are in both variances; here is their part of ``observed``.
        deviations_BS = each.resampled_BS - each.resampled_BS.mean(1, keepdims=True)
        of_rows = float(np.mean(np.var(deviations_BS, axis=0, ddof=1))) * count / (count - 1)
        total += max(observed - of_rows, 0.0) / count
        uncertainty += (observed / count) ** 2 / (count - 1)
    freedom = total**2 / uncertainty if uncertainty > 0 else float(units - 1)
    # Satterthwaite's number is never below the smallest of its parts, but what was subtracted above can make it so.
    fewest = (units if seeds is None else min(seeds, units)) - 1
    return Comparison(difference, _unrounded(total**0.5), max(freedom, float(fewest)), seeds)


def _unrounded(value: float) -> float:
    """Return 0 for a sum of equal scores that is not exactly 0."""
    return value if abs(value) > SMALLEST else 0.0
