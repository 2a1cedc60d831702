"""What each pair adds to a figure: by its definition, and against how figures really vary from set to set."""

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from facespace.core.dependence import Trials
from facespace.core.over_people import Estimate, Judged, difference, share_over_folds
from facespace.core.verification import Ties, at_far, over_folds


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


@given(st.lists(st.tuples(st.sampled_from([*range(5), -np.inf]), st.booleans(), st.integers(0, 2)), max_size=40))
def test_thresholds_of_the_other_folds_are_those_of_their_curves(rows: list[tuple[float, bool, int]]) -> None:
    rows += [(1.0, kind, fold) for kind in (True, False) for fold in range(3)]
    scores, same, folds = (np.array(column) for column in zip(*rows, strict=True))
    for ties in get_args(Ties):
        pairs = Judged.of(scores, same, folds, Trials.of(np.arange(len(rows))), ties)
        for far in (0.5, 0.9, 1.0):
            slow = over_folds(scores, same, folds, lambda curve, far=far: at_far(curve, far).threshold, ties)
            assert pairs.held(far).tolist() == slow.thresholds.tolist()


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


def test_the_interval_of_a_difference_is_that_of_a_paired_t_test() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal((0.4, 0.5), 0.3, (50, 2))
    first, second = (Estimate(each.mean(), (each - each.mean()) / 50) for each in values.T)
    value, interval, p = difference(first, second, Trials.of(np.arange(50)))
    test = stats.ttest_rel(values[:, 1], values[:, 0])
    assert value == pytest.approx(np.mean(values[:, 1] - values[:, 0]))
    assert interval == pytest.approx(tuple(test.confidence_interval()), rel=1e-9)
    assert p == pytest.approx(test.pvalue, rel=1e-6)


def test_figures_that_no_pair_moves_apart_may_still_differ_by_the_rule_of_3() -> None:
    same = Estimate(0.5, np.ones(50), 0.1)
    value, (low, high), p = difference(same, same, Trials.of(np.arange(50)))
    assert (value, p) == (0, 1)
    assert -low == high == pytest.approx(1 - 0.025 ** (1 / 50), rel=0.06)


@pytest.mark.parametrize("apart", [0.0005, 0.0009217, 0.0009228, 0.01, 1.0])
def test_figures_apart_that_no_pair_moves_differ_as_far_as_people_can_tell(apart: float) -> None:
    """Were one of 1 / apart people otherwise, the chance that none of 4,000 is, and as much for the other side."""
    first, second = (Estimate(value, np.ones(4000)) for value in (1 - apart, 1.0))
    value, (low, high), p = difference(first, second, Trials.of(np.arange(4000)))
    assert value == pytest.approx(apart)
    assert p == pytest.approx(min(1, 2 * stats.binom.pmf(0, 4000, apart)), rel=0.01)
    assert (low > 0) == (p < 0.05)
    assert high <= 1


def bootstrap(genuine: np.ndarray, impostors: np.ndarray, allowed: int) -> tuple[float, float]:
    """The TAR at so many false accepts, where pairs are drawn anew and the threshold is found anew: 2.5 to 97.5 %."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(1000):
        threshold = np.sort(rng.choice(impostors, impostors.size))[-allowed - 1]
        found.append((rng.choice(genuine, genuine.size) > threshold).mean())
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


@pytest.mark.parametrize(("count", "near"), [(300, 1), (5000, 8)])
@pytest.mark.parametrize("good", [True, False])
def test_a_tar_next_to_none_or_all_is_as_sure_as_drawing_the_pairs_anew(count: int, near: int, good: bool) -> None:
    """All genuine pairs are accepted, or none, but a few are so near the threshold that chance decides otherwise."""
    rng = np.random.default_rng(0)
    impostors = np.sort(rng.normal(0, 0.1, 3000))[::-1]
    genuine = np.full(count, 1.0 if good else -1.0)
    genuine[:near] = impostors[25 if good else 35] - 1e-9  # 30 false accepts are allowed
    scores, same = np.append(genuine, impostors), np.arange(count + 3000) < count
    pairs = Judged.of(scores, same, np.arange(scores.size) % 10, Trials.of(np.arange(scores.size)), "accept")
    threshold = at_far(pairs.curve, 0.01).threshold
    low, high = pairs.at_far(0.01, np.array([threshold]))[0].ci95
    least, greatest = bootstrap(genuine, impostors, 30)
    unseen = 1 - 0.025 ** (1 / count)  # what pairs may do that none of these does: no drawing shows it
    assert low == pytest.approx(least, abs=1.2 * unseen) if good else low == 0
    assert high == pytest.approx(greatest, abs=1.2 * unseen) if not good else high == 1
    assert high - low >= greatest - least - 1e-3
