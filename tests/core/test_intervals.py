"""Intervals against slow exact sums and published tables."""

from fractions import Fraction
from math import comb, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facespace.core import intervals
from facespace.errors import Refused


def tail(hits: int, trials: int, share: float) -> float:
    """P(X >= hits) of a binomial, summed in exact fractions."""
    p = Fraction(share)
    return float(sum(comb(trials, k) * p**k * (1 - p) ** (trials - k) for k in range(hits, trials + 1)))


@given(st.integers(1, 30), st.data())
def test_incomplete_beta_is_a_binomial_tail(trials: int, data: st.DataObject) -> None:
    """I_p(k, n - k + 1) = P(X >= k), DLMF 8.17.5."""
    hits = data.draw(st.integers(1, trials))
    share = data.draw(st.sampled_from([0.0, 0.001, 0.1, 0.37, 0.5, 0.83, 0.999, 1.0]))
    assert intervals.incomplete_beta(hits, trials - hits + 1, share) == pytest.approx(
        tail(hits, trials, share), abs=1e-13
    )


@pytest.mark.parametrize(("hits", "trials"), [(0, 10), (1, 10), (5, 10), (10, 10), (3, 300), (299, 300)])
@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_clopper_pearson_bounds_have_exactly_their_tails(hits: int, trials: int, level: float) -> None:
    low, high = intervals.clopper_pearson_share(hits / trials, trials, level)
    if hits:
        assert tail(hits, trials, low) == pytest.approx((1 - level) / 2, rel=1e-9)
    else:
        assert low == 0
    if hits < trials:
        assert 1 - tail(hits + 1, trials, high) == pytest.approx((1 - level) / 2, rel=1e-6)
    else:
        assert high == 1


def test_clopper_pearson_of_no_error_is_the_closed_form() -> None:
    """1 - (alpha / 2)^(1 / n), down to a share of 2e-7 among many pairs."""
    for trials in (1, 20, 3000, 15_658_489):
        closed = -np.expm1(np.log(0.025) / trials)
        assert intervals.clopper_pearson_share(0, trials)[1] == pytest.approx(closed, rel=1e-9)


def test_clopper_pearson_gives_the_published_interval() -> None:
    """10 of 20 in the tables of the paper: 0.2720 to 0.7280."""
    assert intervals.clopper_pearson_share(0.5, 20) == pytest.approx((0.27196, 0.72804), abs=1e-5)


@given(st.integers(1, 500), st.data(), st.sampled_from([0.9, 0.95, 0.99]))
def test_wilson_bounds_are_the_shares_that_a_score_test_just_accepts(
    trials: int, data: st.DataObject, level: float
) -> None:
    z = {0.9: 1.6448536269514722, 0.95: 1.959963984540054, 0.99: 2.5758293035489004}[level]
    hits = data.draw(st.integers(0, trials))
    for bound in intervals.wilson(hits, trials, level):
        assert abs(hits / trials - bound) == pytest.approx(z * sqrt(bound * (1 - bound) / trials), abs=1e-9)


@pytest.mark.parametrize(
    ("level", "freedom", "quantile"),
    [
        (0.95, 1, 12.7062047364),
        (0.95, 2, 4.30265272991),
        (0.95, 9, 2.26215716280),
        (0.99, 9, 3.24983554402),
        (0.9, 30, 1.69726088659),
        (0.95, 1000, 1.96233908083),
    ],
)
def test_t_quantiles_are_those_of_the_tables(level: float, freedom: int, quantile: float) -> None:
    assert intervals.t_quantile(level, freedom) == pytest.approx(quantile, rel=1e-8)


def test_t_quantile_cuts_the_asked_share_of_the_density() -> None:
    """A fine sum over the density (1 + t^2 / 9)^-5, normalised by its own sum."""
    t = np.linspace(-300, 300, 2_000_001)
    density = (1 + t * t / 9) ** -5.0
    inside = density[np.abs(t) <= intervals.t_quantile(0.95, 9)].sum() / density.sum()
    assert inside == pytest.approx(0.95, abs=1e-4)


def test_the_standard_error_of_a_mean() -> None:
    values = [0.98, 0.99, 0.97, 0.985, 0.99, 0.98, 0.975, 0.99, 0.985, 0.98]
    error = sqrt(sum((v - sum(values) / 10) ** 2 for v in values) / 9) / sqrt(10)
    assert intervals.standard_error(values) == pytest.approx(error, rel=1e-12)
    assert intervals.t_quantile(0.95, 9) == pytest.approx(2.2621571628, rel=1e-9)


def test_rule_of_3_is_near_the_one_sided_exact_bound() -> None:
    for trials in (30, 3000):
        assert intervals.rule_of_3(trials) == pytest.approx(1 - 0.05 ** (1 / trials), rel=0.06)
    assert intervals.rule_of_3(2) == 1


@pytest.mark.parametrize(("hits", "trials", "level"), [(1, 0, 0.95), (5, 4, 0.95), (-1, 4, 0.95), (1, 4, 1.0)])
def test_a_share_that_is_none_is_refused(hits: int, trials: int, level: float) -> None:
    with pytest.raises(ValueError, match="no share"):
        intervals.wilson(hits, trials, level)


def test_intervals_agree_with_scipy_where_it_is_installed() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    for trials in (7, 600, 3000, 1_000_000):
        hits = int(rng.integers(1, trials))
        exact = stats.binomtest(hits, trials).proportion_ci(0.95, "exact")
        got = intervals.clopper_pearson_share(hits / trials, trials)
        assert got == pytest.approx((exact.low, exact.high), rel=1e-7)
        score = stats.binomtest(hits, trials).proportion_ci(0.95, "wilson")
        assert intervals.wilson(hits, trials) == pytest.approx((score.low, score.high), rel=1e-9)


@given(st.integers(1, 300), st.data())
def test_the_interval_of_a_share_needs_no_whole_number_of_trials(trials: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, trials))
    assert intervals.wilson_share(hits / trials, trials) == intervals.wilson(hits, trials)
    share, worth = hits / trials, trials / 1.7
    for bound in intervals.wilson_share(share, worth):
        assert abs(share - bound) == pytest.approx(1.959963984540054 * sqrt(bound * (1 - bound) / worth), abs=1e-9)


def test_a_threshold_is_refused_below_thirty_expected_errors() -> None:
    intervals.require_30(30_000, 1e-3)
    intervals.require_30(300, 0.1)
    with pytest.raises(Refused, match="29,999 pairs are too few") as refusal:
        intervals.require_30(29_999, 1e-3)
    assert "at least 30,000 pairs" in refusal.value.hint


def test_thirty_errors_are_within_thirty_percent_in_nine_of_ten_cases() -> None:
    """The claim of the rule: the exact 90 % interval of 30 errors among many lies within about 30 %."""
    low, high = intervals.clopper_pearson_share(1e-4, 300_000, 0.9)
    assert low / 1e-4 == pytest.approx(0.7, abs=0.03)
    assert high / 1e-4 == pytest.approx(1.35, abs=0.05)


@given(st.integers(0, 25), st.integers(0, 25))
def test_mcnemar_sums_the_coin_tosses_at_least_as_uneven(first: int, second: int) -> None:
    tosses = first + second
    uneven = [comb(tosses, k) for k in range(tosses + 1) if abs(2 * k - tosses) >= abs(first - second)]
    assert intervals.mcnemar(first, second) == pytest.approx(sum(uneven) / 2**tosses, abs=1e-12)
