"""The bootstrap over people of a list against lists in which people really come several times."""

from math import erfc, sqrt

import numpy as np
import pytest

from facespace.core import pair_lists
from facespace.core import verification as v
from facespace.core.intervals import wilson
from facespace.core.pair_lists import PairList, Spread, accuracy, difference, equal_error, p_value, spread, tar_at_far
from facespace.errors import DataError, Refused, UsageError


def sample(seed: int, pairs: int = 120) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Scores with ties and failures, people, and folds that share nobody."""
    rng = np.random.default_rng(seed)
    folds = np.repeat(np.arange(3), pairs // 3)
    a, b = rng.integers(0, 8, (2, pairs)) + 8 * folds
    b[::2] = a[::2]
    scores = np.round(rng.normal(1.5 * (a == b), 1), 1)
    scores[[3, 8]] = -np.inf
    return scores, a, b, folds


def accurate(folds: np.ndarray) -> pair_lists.Figure:
    return lambda pairs, weights: accuracy(pairs, weights, folds)


def strict(pairs: PairList, weights: np.ndarray) -> np.ndarray:
    return tar_at_far(pairs, weights, 0.1)


def test_weights_give_what_repeated_pairs_give() -> None:
    for seed in range(4):
        scores, a, b, folds = sample(seed)
        pairs = PairList.of(scores, a, b)
        counts = np.random.default_rng(seed).integers(0, 3, (6, pairs.people)).astype(float)
        weights = pairs.weights(counts)
        number = {int(person): k for k, person in enumerate(np.unique(np.concatenate((a, b))))}
        for row, times in enumerate(counts):
            each = [
                int(times[number[i]] * (1 if i == j else times[number[j]]))
                for i, j in zip(a.tolist(), b.tolist(), strict=True)
            ]
            assert weights[row].tolist() == [each[k] for k in pairs.order]
            s, y, f = (np.repeat(part, each) for part in (scores, a == b, folds))
            curve = v.roc(s, y)
            assert strict(pairs, weights)[row] == pytest.approx(v.at_far(curve, 0.1).tar, abs=1e-12)
            assert equal_error(pairs, weights)[row] == pytest.approx(v.equal_error(curve)[0], abs=1e-12)
            expected = v.over_folds(s, y, f, v.best_threshold).accuracy.mean()
            assert accuracy(pairs, weights, folds)[row] == pytest.approx(expected, abs=1e-12)


def test_the_spread_is_of_people_less_twice_the_noise_of_impostor_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair_lists, "_CELLS", 120 * 7)  # blocks of seven
    scores, a, b, folds = sample(1)
    pairs = PairList.of(scores, a, b)
    seen = []

    def figure(pairs: PairList, weights: np.ndarray) -> np.ndarray:
        values = accuracy(pairs, weights, folds)
        seen.append((values, weights))
        return values

    got = spread(pairs, figure, 50)
    people, noise = (np.concatenate([values for values, _ in seen[start:-1:2]]) for start in (0, 1))
    assert len(people) == len(noise) == 50
    assert all((weights[:, pairs.same] == 1).all() for _, weights in seen[1:-1:2])
    variance = max(people.var() - 2 * noise.var(), people.var() / 3)
    assert got.standard_error == pytest.approx(sqrt(variance), abs=1e-12)
    assert got.replicates.std() == pytest.approx(got.standard_error, abs=1e-12)
    assert got.replicates.mean() == pytest.approx(people.mean(), abs=1e-12)
    assert got.value == pytest.approx(v.over_folds(scores, a == b, folds, v.best_threshold).accuracy.mean(), abs=1e-12)
    assert got.ci95() == pytest.approx(tuple(np.quantile(got.replicates, [0.025, 0.975])), abs=1e-12)


def test_independent_pairs_are_about_as_sure_as_a_binomial_says() -> None:
    """Each pair of its own two people: the plain product of draws would be sqrt(2) to sqrt(3) times too wide."""
    rng = np.random.default_rng(0)
    a = np.arange(0, 4000, 2)
    b = np.where(np.arange(2000) % 2, a, a + 1)
    scores, folds = rng.normal(2.5 * (a == b)), np.repeat(np.arange(4), 500)
    got = spread(PairList.of(scores, a, b), accurate(folds), 400)
    assert got.standard_error == pytest.approx(sqrt(got.value * (1 - got.value) / 2000), rel=0.2)
    hits = round(got.value * 2000)
    assert got.share_ci95(2000) == pytest.approx(wilson(hits, 2000), abs=0.005)


def test_shares_without_an_error_are_no_certainty() -> None:
    assert Spread(1.0, np.ones(5), 0.0).share_ci95(300) == wilson(300, 300)
    assert Spread(0.9, np.full(5, 0.9), 0.0).share_ci95(300) == wilson(270, 300)


def test_a_model_compared_with_itself_does_not_differ_and_a_better_one_does() -> None:
    scores, a, b, folds = sample(2, 600)
    first, better = PairList.of(scores, a, b), PairList.of(scores + 1.5 * (a == b), a, b)
    none = difference(first, PairList.of(scores, a, b), accurate(folds), 50)
    assert (none.value, none.standard_error, none.ci95(), p_value(none)) == (0, 0, (0, 0), 1)
    gain, loss = (difference(*both, accurate(folds), 200) for both in ((first, better), (better, first)))
    assert gain.value == -loss.value > 0
    assert gain.ci95()[0] > 0 > loss.ci95()[1]
    assert p_value(gain) == pytest.approx(erfc(gain.value / gain.standard_error / sqrt(2)))
    assert p_value(gain) < 0.01
    assert p_value(Spread(0.1, np.full(3, 0.1), 0.0)) == 0


def test_the_difference_is_surer_than_the_figures_because_the_people_are_the_same() -> None:
    scores, a, b, _ = sample(3, 600)
    noise = np.random.default_rng(0).normal(0, 0.1, scores.size)
    first, second = PairList.of(scores, a, b), PairList.of(scores + noise, a, b)
    alone = [spread(pairs, equal_error, 200).standard_error for pairs in (first, second)]
    assert difference(first, second, equal_error, 200).standard_error < 0.5 * min(alone)


def test_lists_that_do_not_fit_are_refused() -> None:
    scores, a, b, _ = sample(0)
    with pytest.raises(UsageError, match="same pairs"):
        difference(PairList.of(scores, a, b), PairList.of(scores[::-1], a[::-1], b[::-1]), equal_error)
    with pytest.raises(DataError, match="both needed"):
        PairList.of(scores, a, a)
    with pytest.raises(DataError, match="not a number"):
        PairList.of(scores * np.nan, a, b)
    with pytest.raises(Refused, match="cannot show"):
        spread(PairList.of(scores, a, b), lambda pairs, weights: tar_at_far(pairs, weights, 1e-3), 2)


def test_every_draw_has_both_kinds_of_pairs() -> None:
    pairs = PairList.of([0.9, 0.1, 0.2], ["x", "x", "y"], ["x", "y", "z"])
    got = spread(pairs, lambda pairs, weights: tar_at_far(pairs, weights, 0.5), 100)
    assert np.isfinite(got.replicates).all()
