"""What each pair adds to a figure: by its definition, and against how figures really vary from set to set."""

import numpy as np
import pytest
from scipy import stats

from facespace.core.dependence import Trials
from facespace.core.over_people import Estimate, Judged, difference, share_over_folds
from facespace.core.verification import at_far


def judged(seed: int, pairs: int = 2000) -> Judged:
    """Pairs of people who come once, in four folds."""
    rng = np.random.default_rng(seed)
    same = np.arange(pairs) % 2 == 0
    a = 2 * np.arange(pairs)
    trials = Trials.of(a, np.where(same, a, a + 1))
    return Judged.of(rng.normal(2.5 * same), same, np.arange(pairs) * 4 // pairs, trials, "accept")


def test_a_share_over_folds_is_the_mean_of_its_folds_and_influences_add_up_to_nothing() -> None:
    rng = np.random.default_rng(0)
    folds, hits, among = rng.integers(0, 3, 60), rng.random(60) < 0.4, rng.random(60) < 0.7
    found = share_over_folds(hits, among, folds)
    shares = [hits[among & (folds == fold)].mean() for fold in range(3)]
    assert found.value == pytest.approx(np.mean(shares), abs=1e-12)
    expected = [
        among[k] * (hits[k] - found.value) / (3 * (among & (folds == folds[k])).sum()) for k in range(60)
    ]  # fmt: skip
    np.testing.assert_allclose(found.influence, expected, atol=1e-12)
    assert found.influence.sum() == pytest.approx(0, abs=1e-12)


def test_copies_of_a_list_add_up_pair_by_pair() -> None:
    estimate = Estimate(0.5, np.array([1.0, 2.0, 3.0, 10.0, 20.0, 30.0]), 0.25)
    summed = estimate.summed(2)
    assert (summed.value, summed.influence.tolist(), summed.extra) == (0.5, [11.0, 22.0, 33.0], 0.25)


def test_predicted_variances_are_those_from_set_to_set() -> None:
    values: dict[str, list[float]] = {"EER": [], "TAR": [], "accuracy": []}
    predicted: dict[str, list[float]] = {name: [] for name in values}
    for seed in range(300):
        pairs = judged(seed)
        rates = pairs.rates(np.array([at_far(pairs.curve, 0.05).threshold]))
        estimates = {"EER": pairs.equal_error(), "TAR": pairs.moving(0.05, rates), "accuracy": pairs.accuracy()}
        for name, estimate in estimates.items():
            values[name].append(estimate.value)
            predicted[name].append(pairs.trials.variance(estimate.influence) + estimate.extra)
    for name, found in values.items():
        assert 0.75 < np.mean(predicted[name]) / np.var(found) < 1.5, name  # slopes are noisy: rather too much


def test_a_difference_is_students() -> None:
    rng = np.random.default_rng(1)
    first, second = (Estimate(value, rng.normal(size=50) / 50, extra) for value, extra in ((0.2, 0.001), (0.5, 0.002)))
    trials = Trials.of(np.arange(50))
    moved = second.influence - first.influence
    error = np.sqrt(max(moved @ moved * 50 / 49, moved @ moved) + 0.002)
    value, (low, high), p = difference(first, second, trials)
    half = stats.t.ppf(0.975, 49) * error
    assert (value, low, high) == pytest.approx((0.3, 0.3 - half, 0.3 + half), rel=1e-9)
    assert p == pytest.approx(2 * stats.t.sf(0.3 / error, 49), rel=1e-6)


def test_figures_that_no_pair_moves_apart_may_still_differ_by_the_rule_of_3() -> None:
    same = Estimate(0.5, np.ones(50), 0.1)
    value, (low, high), p = difference(same, same, Trials.of(np.arange(50)))
    assert (value, p) == (0, 1)
    assert -low == high == pytest.approx(1 - 0.025 ** (1 / 50), rel=0.06)
