"""Variances over people against double loops over all couples of trials; thresholds against their definition."""

from math import hypot, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facespace.core.dependence import people_variance, share_ci95, tar_at_far_ci95, threshold_at_fmr, trials_worth
from facespace.core.intervals import wilson, wilson_share
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


def test_trials_of_people_who_come_once_are_worth_their_number() -> None:
    hits = np.arange(40) < 7
    assert trials_worth(hits, np.arange(40)) == pytest.approx(39)  # one is lost to the mean
    assert share_ci95(hits, np.arange(40), 40 + np.arange(40)) == pytest.approx(wilson(7, 40), abs=2e-3)
    alike = np.repeat(hits, 9)
    assert trials_worth(alike, np.repeat(np.arange(40), 9)) == pytest.approx(39)
    low, high = share_ci95(np.zeros(40, bool), np.arange(40))
    assert (low, high) == wilson(0, 40)
    with pytest.raises(DataError, match="one person"):
        share_ci95(hits, np.zeros(40))


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
    assert got.fmr_ci95 == pytest.approx(share_ci95(met, a[a != b], b[a != b]), abs=1e-12)
    worth = trials_worth(met, a[a != b], b[a != b])
    half = 1.959963984540054 * sqrt(0.02 * 0.98 / worth)
    ends = [at_far(curve, rate) for rate in (0.02 + half, 0.02 - half)]
    assert got.threshold_ci95 == tuple(end.threshold for end in ends)
    low, high = wilson_share(point.tar, trials_worth((scores >= got.threshold)[a == b], a[a == b]))
    tar = (
        point.tar - hypot(point.tar - low, point.tar - ends[1].tar),
        point.tar + hypot(high - point.tar, ends[0].tar - point.tar),
    )
    assert got.fnmr_ci95 == pytest.approx((1 - min(1, tar[1]), 1 - max(0, tar[0])), abs=1e-12)
    assert tar_at_far_ci95(scores, a, b, 0.02) == pytest.approx((1 - got.fnmr_ci95[1], 1 - got.fnmr_ci95[0]), abs=1e-12)


def test_a_threshold_needs_thirty_errors_and_a_figure_one() -> None:
    """3,000 impostor pairs cannot show an FMR of 1e-4, and at 1e-3 show a figure but support no threshold."""
    scores, a, b = sample(0)
    with pytest.raises(Refused, match="30 are needed"):
        threshold_at_fmr(scores, a, b, 1e-3)
    low, high = tar_at_far_ci95(scores, a, b, 1e-3)
    assert 0 <= low < high <= 1
    with pytest.raises(Refused, match="cannot show"):
        tar_at_far_ci95(scores, a, b, 1e-4)


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
