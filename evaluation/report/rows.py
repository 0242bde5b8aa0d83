"""Rows of a report: scores over seeds, and the comparison of two models. All are times 100, but for comparisons."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sesame.evaluation.report.statistics import POWER, Comparison


@dataclass(frozen=True)
class Statistic:
    """One score over several seeds."""

    values: tuple[float, ...]
    """By seed, in the order of ``suite.seeds``; NaN where undefined."""
    kind: Literal["median", "mean"] = "median"
    """What is shown first (``suite.statistic``)."""
    estimate: Comparison | None = None
    """The mean as a fraction with its error over seeds and rows; None for a metric."""

    @property
    def value(self) -> float:
        """The median or mean; NaN if the score is undefined for all seeds."""
        return self.median if self.kind == "median" else self.mean

    @property
    def mean(self) -> float:
        return float(np.mean(self.defined)) if self.defined else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """95 % confidence interval of the mean over seeds and rows; NaN with a single seed of fine-tuning."""
        if self.estimate is None:
            return math.nan, math.nan
        low, high = self.estimate.interval
        return 100 * low, 100 * high

    @property
    def defined(self) -> list[float]:
        return [value for value in self.values if not math.isnan(value)]

    @property
    def median(self) -> float:
        """NaN if the score is undefined for all seeds."""
        return float(np.median(self.defined)) if self.defined else math.nan

    @property
    def spread(self) -> float:
        """Largest minus smallest."""
        return max(self.defined) - min(self.defined) if self.defined else math.nan

    @property
    def std(self) -> float:
        """Standard deviation over seeds, with n - 1 in the denominator."""
        return float(np.std(self.defined, ddof=1)) if len(self.defined) > 1 else math.nan

    def __str__(self) -> str:
        if not self.defined:
            return "undefined"
        missing = len(self.values) - len(self.defined)
        note = f", {missing} of {len(self.values)} undefined" if missing else ""
        return f"{self.value:.1f} ({self.spread:.1f}{note})"

    def to_json(self) -> dict[str, object]:
        numbers = {"median": self.median, "spread": self.spread, "mean": self.mean, "std": self.std}
        found: dict[str, object] = {name: number(value) for name, value in numbers.items()}
        if self.estimate is not None:
            found["interval_95"] = [number(value) for value in self.interval]
        return {**found, "by_seed": [number(value) for value in self.values]}


@dataclass(frozen=True)
class Verdict:
    """A comparison of the pretrained model with the random-init baseline."""

    comparison: Comparison
    p_value: float
    """Of a task, corrected for the number of tasks (Holm); that of the mean over tasks is not corrected."""

    @property
    def text(self) -> str:
        return self.comparison.verdict(self.p_value)

    def to_json(self) -> dict[str, object]:
        low, high = self.comparison.interval
        return {
            "difference_of_means": number(100 * self.comparison.difference),
            "interval_95": [number(100 * low), number(100 * high)],
            "p_value": number(self.comparison.p_value),
            "p_value_holm": number(self.p_value),
            "smallest_detectable": number(100 * self.comparison.smallest_detectable),
            "power": POWER,
            "verdict": self.text,
        }


@dataclass(frozen=True)
class ReportRow:
    """Scores of a task, of one of its metrics, or the mean over tasks."""

    title: str
    models: dict[str, Statistic]
    """By model: "pretrained", and "random" if the baseline was run."""
    constant: float = math.nan
    """Score of always giving the same answer, the most frequent of the training rows; NaN for a regression."""
    verdict: Verdict | None = None
    """None for a metric, and without a baseline."""

    @property
    def difference(self) -> float:
        """Score of the pretrained model minus that of the random-init baseline; NaN without a baseline."""
        if "random" not in self.models:
            return math.nan
        return self.models["pretrained"].value - self.models["random"].value

    @property
    def smallest_detectable(self) -> tuple[float, bool]:
        """The smallest difference that so many seeds and rows show, and whether it is paired by row.

        With a baseline it is that of the comparison; without one it is of a model with the same error, unpaired.
        """
        if self.verdict is not None:
            return 100 * self.verdict.comparison.smallest_detectable, True
        estimate = self.models["pretrained"].estimate if self.models else None
        return (math.nan, False) if estimate is None else (100 * estimate.smallest_detectable_unpaired, False)

    def to_json(self) -> dict[str, object]:
        values: dict[str, object] = {model: statistic.to_json() for model, statistic in self.models.items()}
        values["most_frequent_label"] = number(self.constant)
        detectable, is_paired = self.smallest_detectable
        values["smallest_detectable"] = {"difference": number(detectable), "paired_by_row": is_paired}
        if "random" in self.models:
            values["difference"] = number(self.difference)
        if self.verdict is not None:
            values["comparison"] = self.verdict.to_json()
        return values


def number(value: float) -> float | None:
    """Round for JSON; None where undefined."""
    return None if math.isnan(value) else round(value, 4)
