"""Calibration against slow loops: a fine descent, pooling one by one, sums in plain Python."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from facespace.core.calibration import Isotonic, Logistic, cllr, cllr_min, expected_calibration_error, reliability
from facespace.core.intervals import wilson
from facespace.errors import DataError, Refused, UsageError

INF = float("inf")


def drawn(apart: float, count: int = 400, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    same = np.arange(3 * count) < count
    return rng.normal(size=same.size) + apart * same, same


def slow_cllr(ratios: NDArray[np.float64], same: NDArray[np.bool_]) -> float:
    genuine = [math.log2(1 + math.exp(-r)) for r in ratios[same]]
    impostors = [math.log2(1 + math.exp(r)) for r in ratios[~same]]
    return (math.fsum(genuine) / len(genuine) + math.fsum(impostors) / len(impostors)) / 2


def slow_pooled(scores: list[float], same: list[bool]) -> list[tuple[float, float, int, int]]:
    """Lowest and highest score, genuine and impostor pairs of each level, by pooling adjacent violators one by one."""
    levels: list[tuple[float, float, int, int]] = []
    for value in sorted(set(scores)):
        kinds = [y for s, y in zip(scores, same, strict=True) if s == value]
        levels.append((value, value, sum(kinds), len(kinds) - sum(kinds)))
        while len(levels) > 1:
            (low, _, g0, i0), (_, high, g1, i1) = levels[-2:]
            if g0 * (g1 + i1) < g1 * (g0 + i0):
                break
            levels[-2:] = [(low, high, g0 + g1, i0 + i1)]
    return levels


@pytest.mark.parametrize("prior", [0.5, 0.1])
@pytest.mark.parametrize("apart", [0.5, 3.0, 20.0])
def test_the_line_is_where_the_slope_of_the_loss_is_zero(apart: float, prior: float) -> None:
    scores, same = drawn(apart)
    line = Logistic.fit(0.01 * scores + 5, same, prior)  # neither scale nor place matters
    shift, genuine, impostors = math.log(prior / (1 - prior)), int(same.sum()), int((~same).sum())
    slopes = [0.0, 0.0]
    for s, y in zip(0.01 * scores + 5, same, strict=True):
        chance = 1 / (1 + math.exp(-(line.slope * s + line.offset + shift)))
        target = (genuine + 1) / (genuine + 2) if y else 1 / (impostors + 2)
        weight = prior / genuine if y else (1 - prior) / impostors
        slopes[0] += weight * (target - chance)
        slopes[1] += weight * (target - chance) * (s - 5) * 100
    assert slopes == pytest.approx([0, 0], abs=1e-6)
    assert line.slope > 0


def test_normal_scores_have_the_line_of_their_law() -> None:
    """Of N(2, 1) against N(0, 1) the log-likelihood ratio is 2 s - 2."""
    line = Logistic.fit(*drawn(2.0, 50_000))
    assert (line.slope, line.offset) == pytest.approx((2, -2), abs=0.05)


def test_pairs_without_errors_claim_no_more_than_their_number_shows() -> None:
    scores, same = drawn(30.0, 100)
    for fitted in (Logistic.fit(scores, same), Isotonic.fit(scores, same)):
        ratios = fitted.log_likelihood_ratio(scores)
        assert np.isfinite(ratios).all()
        assert np.median(ratios[same]) < math.log(200 * 3)
        assert np.median(ratios[~same]) > -math.log(200 * 3)


def test_scores_that_tell_nobody_apart_are_refused() -> None:
    scores, same = drawn(1.0)
    for bad in (-scores, np.zeros(same.size)):
        with pytest.raises(Refused, match="mean nothing"):
            Logistic.fit(bad, same)
    with pytest.raises(Refused, match="mean nothing"):
        Isotonic.fit(np.zeros(same.size), same)
    with pytest.raises(DataError, match="both kinds"):
        Logistic.fit([0.5, 0.6, -INF], [True, True, False])
    with pytest.raises(DataError, match="not a number"):
        Isotonic.fit([0.5, math.nan], [True, False])
    with pytest.raises(UsageError, match="no probability"):
        Logistic.fit(scores, same, prior=1)


def test_a_photo_without_a_face_says_nothing_and_is_counted() -> None:
    scores, same = drawn(2.0)
    failed, kinds = np.append(scores, [-INF, -INF]), np.append(same, [True, False])
    for fitted in (Logistic.fit(scores, same), Isotonic.fit(scores, same)):
        assert type(fitted).fit(failed, kinds).log_likelihood_ratio(0.3) == fitted.log_likelihood_ratio(0.3)
        assert fitted.log_likelihood_ratio(-INF) == 0
    ratios = Logistic.fit(scores, same).log_likelihood_ratio(failed)
    assert cllr(ratios, kinds) == pytest.approx(slow_cllr(ratios, kinds), abs=1e-12)
    assert cllr_min([-INF, -INF], [True, False]) == 1


def test_cllr_by_hand() -> None:
    assert cllr([0, 0, 0], [True, False, False]) == pytest.approx(1)
    assert cllr([INF, -INF], [True, False]) == 0
    assert cllr([-INF, -INF], [True, False]) == INF
    assert cllr([math.log(3), math.log(1 / 3)], [True, False]) == pytest.approx(math.log2(4 / 3))


rows = st.lists(st.tuples(st.sampled_from([-1.0, 0.0, 0.25, 0.5, 0.75, 1.0, 2.0]), st.booleans()), max_size=40)


@settings(max_examples=200)
@given(rows)
def test_levels_are_those_of_pooling_one_by_one(sample: list[tuple[float, bool]]) -> None:
    scores, same = [s for s, _ in sample] + [0.5, 0.5], [y for _, y in sample] + [True, False]
    genuine, impostors = same.count(True), same.count(False)
    cost = 0.0
    for _, _, g, i in slow_pooled(scores, same):
        odds = g / genuine / (i / impostors) if i else INF
        cost += g * math.log2(1 + 1 / odds) / genuine if g else 0
        cost += i * math.log2(1 + odds) / impostors if i else 0
    assert cllr_min(scores, same) == pytest.approx(cost / 2, abs=1e-12)
    low, high = np.nextafter(min(scores), -INF), np.nextafter(max(scores), INF)
    levels = slow_pooled([*scores, low, low, high, high], [*same, True, False, True, False])
    if len(slow_pooled(scores, same)) == 1:
        with pytest.raises(Refused):
            Isotonic.fit(scores, same)
        return
    fitted = Isotonic.fit(scores, same)
    for score in scores:
        g, i = next((g, i) for bottom, top, g, i in levels if bottom <= score <= top)
        ratio = math.log(g / (genuine + 2)) - math.log(i / (impostors + 2))
        assert fitted.log_likelihood_ratio(score) == pytest.approx(ratio, abs=1e-12)
    assert (np.diff(fitted.ratios) >= 0).all()


@given(st.integers(0, 100), st.floats(0.2, 5))
def test_no_rising_function_costs_less_than_the_least(seed: int, apart: float) -> None:
    scores, same = drawn(apart, 30, seed)
    least = cllr_min(scores, same)
    assert least <= 1
    if scores[same].mean() > scores[~same].mean():
        assert least <= cllr(Logistic.fit(scores, same).log_likelihood_ratio(scores), same)
    assert least <= cllr(3 * np.sort(scores)[np.argsort(np.argsort(scores))], same)


@pytest.mark.parametrize("prior", [None, 0.5, 0.01])
def test_bins_and_their_error_agree_with_loops(prior: float | None) -> None:
    scores, same = drawn(2.0)
    ratios = 3 * scores - 2  # not calibrated
    share = same.mean() if prior is None else prior
    shift = math.log(share / (1 - share))
    bins = reliability(ratios, same, 10, prior)
    at, error = 0, 0.0
    for low in range(10):
        chances = [1 / (1 + math.exp(-(r + shift))) for r in ratios]
        here = [k for k, c in enumerate(chances) if low <= c * 10 < low + 1]
        if not here:
            continue
        weight = [share / same.sum() if same[k] else (1 - share) / (~same).sum() for k in here]
        predicted = math.fsum(w * chances[k] for w, k in zip(weight, here, strict=True)) / math.fsum(weight)
        observed = math.fsum(w * same[k] for w, k in zip(weight, here, strict=True)) / math.fsum(weight)
        assert bins.predicted[at] == pytest.approx(predicted, abs=1e-12)
        assert bins.observed[at] == pytest.approx(observed, abs=1e-12)
        assert bins.weight[at] == pytest.approx(math.fsum(weight), abs=1e-12)
        assert (bins.genuine[at], bins.impostors[at]) == (same[here].sum(), (~same)[here].sum())
        assert bins.ci95[at, 0] <= observed + 1e-12
        assert observed - 1e-12 <= bins.ci95[at, 1]
        if prior is None:
            assert bins.ci95[at] == pytest.approx(wilson(int(same[here].sum()), len(here)), abs=1e-9)
        error += math.fsum(weight) * abs(predicted - observed)
        at += 1
    assert at == bins.predicted.size
    assert bins.weight.sum() == pytest.approx(1)
    assert expected_calibration_error(bins) == pytest.approx(error, abs=1e-12)


def test_calibrated_scores_have_little_error_and_others_more() -> None:
    scores, same = drawn(2.0, 20_000)
    good, bad = (expected_calibration_error(reliability(r, same, prior=0.5)) for r in (2 * scores - 2, 6 * scores - 6))
    assert good < 0.01 < 0.05 < bad
