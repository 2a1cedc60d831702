"""Variances over people against double loops over all couples of trials; thresholds against their definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from facespace.core.dependence import Trials, share_over_people, threshold_at_fmr
from facespace.errors import DataError, Refused

trials = st.lists(st.tuples(st.integers(-5, 5), st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=25)


@given(trials)
def test_the_variance_is_that_of_all_couples_that_share_a_person(rows: list[tuple[int, int, int]]) -> None:
    rows = [*rows, (1, 0, 0), (1, 1, 1)]
    people = len({person for _, a, b in rows for person in (a, b)})
    total = 0.0
    for x, a, b in rows:
        for y, c, d in rows:
            total += x * y * bool({a, b} & {c, d})
    expected = max(total * people / (people - 1), sum(x * x for x, _, _ in rows))
    x, a, b = np.array(rows).T
    assert Trials.of(a, b).variance(x) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("names", [[0, 1, 2, 3], [70, 10**12, 5, -3], ["a", "b", "ab", "c"]])
def test_people_may_be_named_by_anything(names: list[int] | list[str]) -> None:
    x, a, b = np.array([3.0, 1.0, -2.0, 5.0, 2.0]), [0, 1, 1, 3, 3], [1, 0, 2, 3, 2]
    named = Trials.of([names[i] for i in a], [names[i] for i in b])
    assert named.people == 4
    assert named.variance(x) == pytest.approx(Trials.of(a, b).variance(x))
    kept = np.array([True, True, False, False, False])
    assert (named.people_among(kept), named.only(kept).people) == (2, 2)


def slow_interval(rate: float, effective: float, people: int) -> tuple[float, float]:
    """Korn and Graubard's, by scipy."""
    trials = effective * (stats.norm.ppf(0.975) / stats.t.ppf(0.975, people - 1)) ** 2
    low = stats.beta.ppf(0.025, rate * trials, (1 - rate) * trials + 1) if rate else 0.0
    return low, stats.beta.ppf(0.975, rate * trials + 1, (1 - rate) * trials) if rate < 1 else 1.0


def test_trials_of_people_who_come_once_are_worth_their_number() -> None:
    hits = np.arange(40) < 7
    once = share_over_people(hits, np.arange(40))
    assert once.effective == pytest.approx(39)  # one is lost to the mean
    assert once.ci95 == pytest.approx(slow_interval(7 / 40, 39, 40), abs=1e-9)
    alike = share_over_people(np.repeat(hits, 9), np.repeat(np.arange(40), 9))
    assert (alike.trials, alike.people) == (360, 40)
    assert alike.effective == pytest.approx(39)
    many = np.arange(4000) < 700
    found = share_over_people(many, np.arange(4000), 4000 + np.arange(4000)).ci95
    exact = stats.binomtest(700, 4000).proportion_ci(0.95, "exact")
    assert found == pytest.approx((exact.low, exact.high), abs=1e-4)


def test_trials_that_all_end_alike_are_worth_their_people() -> None:
    assert share_over_people(np.zeros(360, bool), np.repeat(np.arange(40), 9)).ci95 == pytest.approx(
        slow_interval(0, 40, 40), abs=1e-9
    )
    with pytest.raises(DataError, match="one person"):
        Trials.of([3, 3]).variance([1.0, -1.0])


@given(trials, st.integers(2, 3))
def test_trials_that_stand_several_times_are_no_more_evidence(rows: list[tuple[int, int, int]], times: int) -> None:
    x, a, b = np.array([*rows, (1, 0, 0), (1, 1, 1)]).T
    once = Trials.of(a, b).variance(x)
    assert Trials.of(np.tile(a, times), np.tile(b, times), times).variance(np.tile(x / times, times)) == pytest.approx(
        once, abs=1e-9
    )


def sample(seed: int, impostors: int = 3000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of 60 people who differ in how alike they are to themselves, and to others."""
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 60, (2, impostors + 400))
    b[:400] = a[:400]
    known, mistaken = 0.5 * rng.normal(size=(2, 60))
    scores = np.where(a == b, 3.5 + known[a], mistaken[a] + mistaken[b]) + rng.normal(size=a.size)
    return np.round(scores, 3), a, b


@settings(max_examples=10)
@given(st.integers(0, 50))
def test_a_threshold_is_the_lowest_whose_rate_is_not_above_the_asked_one(seed: int) -> None:
    scores, a, b = sample(seed)
    got = threshold_at_fmr(scores, [f"p{i}" for i in a], [f"p{i}" for i in b], 0.02)
    impostors, genuine = scores[a != b], scores[a == b]
    assert got.threshold == min(score for score in scores if (impostors >= score).mean() <= 0.02)
    assert (got.fmr, got.fnmr) == ((impostors >= got.threshold).mean(), pytest.approx((genuine < got.threshold).mean()))
    assert (got.genuine, got.impostors, got.people) == (genuine.size, impostors.size, 60)
    found = (got.threshold_ci95, got.threshold), (got.fmr_ci95, got.fmr), (got.fnmr_ci95, got.fnmr)
    assert all(low < value < high for (low, high), value in found)


def test_the_intervals_of_a_threshold_hold_what_the_law_says() -> None:
    """200 sets. Scores of impostors vary by 1 + 2 / 4, those of genuine pairs by 1 + 1 / 4: both normal."""
    impostors, genuine = stats.norm(0, np.sqrt(1.5)), stats.norm(3.5, np.sqrt(1.25))
    threshold = impostors.isf(0.02)
    held = np.zeros(3)
    for seed in range(200):
        got = threshold_at_fmr(*sample(seed), 0.02)
        truths = threshold, impostors.sf(got.threshold), genuine.cdf(threshold)
        found = got.threshold_ci95, got.fmr_ci95, got.fnmr_ci95
        held += [low <= truth <= high for (low, high), truth in zip(found, truths, strict=True)]
    for inside in held.tolist():  # what chance gives in 998 of 1,000 cases where 93 to 97 % hold
        assert stats.binom.ppf(0.001, 200, 0.93) <= inside <= stats.binom.ppf(0.999, 200, 0.97), held


def test_a_threshold_needs_thirty_errors() -> None:
    """3,000 impostor pairs support no threshold at an FMR of 1e-3: three errors are to be expected."""
    scores, a, b = sample(0)
    with pytest.raises(Refused, match="30 are needed"):
        threshold_at_fmr(scores, a, b, 1e-3)


def test_a_threshold_whose_upper_end_accepts_no_impostor_ends_at_a_score() -> None:
    """Two people err in all false accepts: the rate might as well be near 0."""
    rng = np.random.default_rng(0)
    a, b = rng.integers(2, 60, (2, 4000))
    b[:50] = a[:50]
    a[50:100], b[50:100] = 0, 1
    scores = np.where(a == b, 0.9, rng.normal(0, 0.1, 4000))
    scores[50:100] = 0.95 + np.arange(50) / 1e4
    got = threshold_at_fmr(scores, a, b, 0.0125)
    assert got.threshold_ci95[1] == scores.max()
    assert got.threshold_ci95[0] < got.threshold
