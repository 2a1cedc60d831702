"""Variances over people against double loops over all couples of trials; thresholds against their definition."""

from math import hypot, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from facespace.core.dependence import Trials, people_variance, share_of_trials, share_over_people, threshold_at_fmr
from facespace.core.intervals import clopper_pearson
from facespace.core.verification import at_far, roc
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
    assert people_variance(*np.array(rows).T) == pytest.approx(expected, abs=1e-9)


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
    assert found == pytest.approx(clopper_pearson(700, 4000), abs=1e-4)


def test_trials_that_all_end_alike_are_worth_their_people() -> None:
    assert share_over_people(np.zeros(360, bool), np.repeat(np.arange(40), 9)).ci95 == pytest.approx(
        slow_interval(0, 40, 40), abs=1e-9
    )
    with pytest.raises(DataError, match="one person"):
        people_variance([1.0, -1.0], [3, 3])


@given(trials, st.integers(2, 3))
def test_trials_that_stand_several_times_are_no_more_evidence(rows: list[tuple[int, int, int]], times: int) -> None:
    x, a, b = np.array([*rows, (1, 0, 0), (1, 1, 1)]).T
    once = Trials.of(a, b).variance(x)
    assert Trials.of(np.tile(a, times), np.tile(b, times), times).variance(np.tile(x / times, times)) == pytest.approx(
        once, abs=1e-9
    )


def test_weighted_trials_are_a_weighted_mean() -> None:
    rng = np.random.default_rng(0)
    hits, people, weights = rng.random(60) < 0.3, rng.integers(0, 12, 60), rng.dirichlet(np.ones(60))
    found = share_of_trials(hits, Trials.of(people), weights)
    rate = sum(w for w, hit in zip(weights, hits, strict=True) if hit)
    sums = [sum(w * (hit - rate) for w, hit, p in zip(weights, hits, people, strict=True) if p == q) for q in range(12)]
    variance = max(
        sum(s * s for s in sums) * 12 / 11, sum((w * (h - rate)) ** 2 for w, h in zip(weights, hits, strict=True))
    )
    assert found.rate == pytest.approx(rate)
    assert found.effective == pytest.approx(rate * (1 - rate) / variance)


def sample(seed: int, impostors: int = 3000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 60, (2, impostors + 400))
    b[:400] = a[:400]
    scores = np.round(rng.normal(0.5 * (a == b), 0.15), 3)
    return scores, a, b


@settings(max_examples=20)
@given(st.integers(0, 50))
def test_a_threshold_is_that_of_the_curve_and_its_ends_those_of_the_rate(seed: int) -> None:
    scores, a, b = sample(seed)
    got, curve = threshold_at_fmr(scores, [f"p{i}" for i in a], [f"p{i}" for i in b], 0.02), roc(scores, a == b)
    point = at_far(curve, 0.02)
    assert (got.threshold, got.fmr, got.fnmr) == (point.threshold, point.far, 1 - point.tar)
    assert got.fmr <= got.asked_fmr == 0.02
    assert (got.genuine, got.impostors, got.people) == (int((a == b).sum()), int((a != b).sum()), 60)
    met = (scores >= got.threshold)[a != b]
    others = share_over_people(met, a[a != b], b[a != b])
    assert got.fmr_ci95 == pytest.approx(others.ci95, abs=1e-12)
    half = 1.959963984540054 * sqrt(0.02 * 0.98 / others.effective)
    ends = [at_far(curve, rate) for rate in (0.02 + half, 0.02 - half)]
    assert got.threshold_ci95 == tuple(end.threshold for end in ends)
    low, high = share_over_people((scores >= got.threshold)[a == b], a[a == b]).ci95
    tar = (
        point.tar - hypot(point.tar - low, point.tar - ends[1].tar),
        point.tar + hypot(high - point.tar, ends[0].tar - point.tar),
    )
    assert got.fnmr_ci95 == pytest.approx((1 - min(1, tar[1]), 1 - max(0, tar[0])), abs=1e-12)


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
