"""The comparison of two models: replicates of every metric, false positives and power in a simulation, Holm."""

import numpy as np
import pytest
from scipy import stats

from sesame.evaluation.report.resampling import RESAMPLED, weights_of
from sesame.evaluation.report.statistics import (
    Comparison,
    DevPredictions,
    difference_of,
    estimate_of,
    holm,
    mean_of,
    resample,
)
from sesame.evaluation.scores import ANSWER_SCORES, METRICS, score

ROWS = 60


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("case", ["random", "constant", "one row repeated"])
def test_a_replicate_is_the_metric_of_the_repeated_rows(metric: str, case: str) -> None:
    generator = np.random.default_rng(3)
    groups = generator.integers(12, size=ROWS) if metric in ("exact_match", "parity") else None
    if metric in ("pearson", "spearman"):
        labels, predictions = generator.integers(5, size=ROWS) * 1.0, generator.normal(size=(3, ROWS))
    elif metric == "pair_accuracy":
        labels, predictions = np.zeros(ROWS, np.int64), generator.choice([0.0, 0.5, 1.0], (3, ROWS))
    elif metric in ANSWER_SCORES:
        words = np.array(["a black cat", "the cat", "black dogs", "a dog"])
        labels, predictions = generator.choice(words, ROWS), generator.choice(words, (3, ROWS))
    else:
        classes = 3 if metric in ("macro_f1", "matthews") else 2
        labels, predictions = generator.integers(classes, size=ROWS), generator.integers(classes, size=(3, ROWS))
    if case == "constant":
        predictions = np.full_like(predictions, predictions[0, 0])
    weights = weights_of(ROWS, groups, 4, generator)
    if case == "one row repeated":
        weights = np.zeros_like(weights)
        weights[:, groups == groups[0] if groups is not None else [0]] = 5
    found = RESAMPLED[metric](labels, predictions, groups, weights)
    for replicate, each in enumerate(weights):
        drawn = np.repeat(np.arange(ROWS), each)
        for seed in range(3):
            # A group that is drawn twice is two groups.
            copies = np.concatenate([np.arange(count) for count in each]) if groups is not None else None
            drawn_groups = groups[drawn] * 100 + copies if groups is not None and copies is not None else None
            expected = score(metric, labels[drawn], predictions[seed, drawn], drawn_groups)
            assert found[replicate, seed] == pytest.approx(expected, abs=1e-9, nan_ok=True)


def test_rows_of_a_group_are_drawn_together() -> None:
    groups = np.array([0, 1, 1, 2, 2, 2])
    weights = weights_of(6, groups, 50, np.random.default_rng(1))
    assert (weights[:, 1] == weights[:, 2]).all() and (weights[:, 3] == weights[:, 5]).all()
    assert (weights[:, [0, 1, 3]].sum(1) == 3).all()


def _share_of_verdicts(seeds: int, effect: float, seed_std: float, trials: int = 400, rows: int = 100) -> float:
    """Share of simulated experiments with p below 5 %, where the models differ by ``effect`` in ability."""
    generator, verdicts = np.random.default_rng(seeds), 0
    for trial in range(trials):
        difficulty = generator.normal(-0.6, 1.5, rows)
        models = []
        for ability in (effect, 0.0):
            of_seeds, of_rows = generator.normal(0, seed_std, (seeds, 1)), generator.normal(0, 0.6, rows)
            noise = generator.normal(0, 1, (seeds, rows))
            models.append((ability + of_seeds + of_rows + noise > difficulty).astype(np.int64))
        data = DevPredictions(np.ones(rows, np.int64), models[0], models[1], ("accuracy",))
        # A single seed stands for models that do not depend on it.
        is_seeded = seeds > 1
        found = difference_of(*resample([data], replicates=100, seed=trial, seeded=[is_seeded, is_seeded]))
        verdicts += found.p_value < 0.05
    return verdicts / trials


@pytest.mark.parametrize("seeds", [5, pytest.param(10, marks=pytest.mark.slow)])
def test_the_false_positive_rate_is_five_percent(seeds: int) -> None:
    """400 experiments: the rate is known to 1.1 points (one standard error)."""
    for seed_std in (0.1, 0.4):
        assert 0.02 <= _share_of_verdicts(seeds, 0.0, seed_std) <= 0.08


def test_models_that_do_not_depend_on_the_seed_are_compared_by_their_rows() -> None:
    """Without a seed's variance the false-positive rate is five percent as well, and large differences are found."""
    assert 0.03 <= _share_of_verdicts(1, 0.0, 0.0, trials=800) <= 0.07
    assert _share_of_verdicts(1, 1.0, 0.0, 200) > 0.7
    generator = np.random.default_rng(1)
    labels, (first, second) = np.ones(90, np.int64), generator.integers(2, size=(2, 1, 90))
    data = DevPredictions(labels, first, second, ("accuracy",))
    once = difference_of(*resample([data], seeded=[False, False]))
    assert once.seeds is None and once.freedom == 89 and once.verdict(0.01) in ("better", "worse")
    again = DevPredictions(labels, np.repeat(first, 5, 0), np.repeat(second, 5, 0), ("accuracy",))
    assert difference_of(*resample([again], seeded=[False, False])) == once, "a result that is repeated is the same one"
    # The standard error of a mean of paired differences.
    assert once.error == pytest.approx(np.std(first - second, ddof=1) / 90**0.5, rel=0.15)
    mixed = difference_of(*resample([data], seeded=[False, True]))
    assert mixed.seeds == 1 and np.isnan(mixed.p_value), "the variance of the seeded one is not known"
    assert mean_of([once, Comparison(0.04, 0.04, 20, 7)]).seeds == 7 and mean_of([once, once]).seeds is None


def test_more_seeds_and_larger_differences_have_more_power() -> None:
    """At an ability of 0.5 the models differ by about 9 points of accuracy on 100 rows."""
    few, many = (_share_of_verdicts(seeds, 0.5, 0.4, 200) for seeds in (5, 15))
    assert 0.25 < few < many - 0.1 and many > 0.55
    assert _share_of_verdicts(5, 1.5, 0.1, 100) > 0.95


def test_the_smallest_detectable_difference_is_detected_in_four_of_five_cases() -> None:
    generator, found = np.random.default_rng(1), 0
    smallest = Comparison(0.0, 0.02, 12.0, 5).smallest_detectable
    for _ in range(2000):
        error = 0.02 * np.sqrt(generator.chisquare(12) / 12)
        found += Comparison(smallest + generator.normal(0, 0.02), error, 12.0, 5).p_value < 0.05
    assert found / 2000 == pytest.approx(0.8, abs=0.03)


def test_few_seeds_give_no_verdict() -> None:
    labels = np.ones(50, np.int64)
    for seeds, verdict in ((1, "no verdict below 5 seeds"), (4, "no verdict below 5 seeds"), (5, "better")):
        right, wrong = np.ones((seeds, 50), np.int64), np.zeros((seeds, 50), np.int64)
        found = difference_of(*resample([DevPredictions(labels, right, wrong, ("accuracy",))]))
        assert found.verdict(found.p_value) == verdict and found.difference == 1
    assert Comparison(-0.1, 0.01, 9, 5).verdict(0.001) == "worse"
    assert Comparison(-0.1, 0.01, 9, 5).verdict(0.06) == "no difference shown"
    assert Comparison(float("nan"), float("nan"), float("nan"), 5).verdict(float("nan")) == "undefined"


def test_equal_models_do_not_differ() -> None:
    predictions = np.random.default_rng(1).integers(2, size=(5, 80))
    found = difference_of(
        *resample([DevPredictions(np.ones(80, np.int64), predictions, predictions, ("accuracy", "f1"))])
    )
    assert found.difference == 0 and found.p_value == 1


def test_rounding_is_no_difference() -> None:
    """Sums over 5 and over 10 equal scores differ in their last bit."""
    generator = np.random.default_rng(3)
    for _ in range(60):
        rows = int(generator.integers(20, 90))
        labels = (generator.random(rows) < 0.7).astype(np.int64)
        five, ten = (np.ones((seeds, rows), np.int64) for seeds in (5, 10))
        found = difference_of(*resample([DevPredictions(labels, five, ten, ("accuracy", "f1"))], 50))
        assert found.difference == 0 and found.p_value == 1


@pytest.mark.parametrize(("rows", "expected"), [(3, 0.25), (5, 0.0625), (8, 0.0078125)])
def test_rows_that_all_agree_have_the_p_value_of_the_sign_test(rows: int, expected: float) -> None:
    right, wrong = (np.full((5, rows), answer, np.int64) for answer in (1, 0))
    found = difference_of(*resample([DevPredictions(np.ones(rows, np.int64), right, wrong, ("accuracy",))], 50))
    assert found.difference == 1 and found.p_value == pytest.approx(expected)
    assert found.p_value == pytest.approx(stats.binomtest(rows, rows).pvalue)


def test_holm() -> None:
    """Holm's procedure by hand: 3 * 0.01, 2 * 0.02, 1 * 0.03 and never less than the one before."""
    corrected = holm({"c": 0.03, "a": 0.01, "undefined": float("nan"), "b": 0.02})
    assert [corrected[name] for name in "abc"] == pytest.approx([0.03, 0.04, 0.04])
    assert np.isnan(corrected["undefined"])


def test_the_mean_over_tasks_has_the_error_of_a_mean() -> None:
    mean = mean_of([Comparison(0.02, 0.03, 10, 5), Comparison(0.04, 0.04, 20, 7)])
    assert mean.difference == pytest.approx(0.03) and mean.error == pytest.approx(0.025) and mean.seeds == 5
    assert 10 < mean.freedom < 30


def test_the_interval_of_one_model_has_its_true_score_in_95_of_100_cases() -> None:
    """Rows are easy or hard, seeds good or bad; the true score is that over all rows and seeds."""
    generator, inside, trials = np.random.default_rng(5), 0, 300
    detectable, paired = [], []
    for trial in range(trials):
        of_rows, of_seeds = generator.normal(0.8, 1.0, 100), generator.normal(0, 0.15, (5, 1))
        right = of_rows + of_seeds + generator.normal(0, 0.6, (5, 100)) > 0
        other = of_rows + generator.normal(0, 0.15, (5, 1)) + generator.normal(0, 0.6, (5, 100)) > 0
        labels, predictions = np.ones(100, np.int64), right.astype(np.int64)
        scores, units = resample([DevPredictions(labels, predictions, None, ("accuracy",))], 100, trial)
        estimate = estimate_of(scores[0], units)
        low, high = estimate.interval
        # P(N(0.8, 1 + 0.15^2 + 0.6^2) > 0)
        inside += low < 0.7519 < high
        both = DevPredictions(labels, predictions, other.astype(np.int64), ("accuracy",))
        paired.append(difference_of(*resample([both], 100, trial)).smallest_detectable)
        detectable.append(estimate.smallest_detectable_unpaired)
    assert 0.92 <= inside / trials <= 0.98
    assert np.mean(detectable) > 1.2 * np.mean(paired), "rows that are compared one by one find smaller differences"


def test_two_seeds_that_disagree_on_many_rows_have_a_finite_interval() -> None:
    """Their spread is explained by the rows, so that nothing is left of it; the degrees of freedom are still one."""
    generator = np.random.default_rng(2)
    labels, first = generator.integers(2, size=(2, 277))
    predictions = np.stack([first, np.where(generator.random(277) < 0.95, 1 - first, first)])
    scores, units = resample([DevPredictions(labels, predictions, None, ("accuracy",))])
    estimate = estimate_of(scores[0], units)
    low, high = estimate.interval
    assert estimate.freedom == 1 and 0.05 < high - low < 1.5
