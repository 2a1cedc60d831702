"""The bootstrap over people against one that really repeats photos; how often its intervals hold the truth."""

import numpy as np
import pytest
from numpy.typing import NDArray

from facespace.core import resampling
from facespace.core.resampling import (
    RankedPairs,
    draw_people,
    draw_seeds,
    equal_error,
    over_seeds,
    percentile_interval,
    ranked_pairs,
    tar_at_far,
)
from facespace.core.verification import at_far, roc
from facespace.core.verification import equal_error as plain_equal_error
from facespace.errors import DataError, Refused

FARS = (0.3, 0.1, 0.02)


def faces(
    people: int, rng: np.random.Generator, dim: int = 3, spread: float = 0.7
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Unit vectors `(N, dim)` about a direction for each person, 1 to 4 of each, in no order; and labels with gaps."""
    photos = rng.integers(1, 5, people)
    photos[0] = 2
    labels = rng.permutation(np.repeat(np.arange(people), photos))
    centres = rng.normal(size=(people, dim))
    vectors = centres[labels] + spread * rng.normal(size=(len(labels), dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), 3 * labels + 5


def coarse(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """A similarity with many ties."""
    return np.round(3 * a @ b.T)


def exact(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """The cosine, summed alike whatever the shapes."""
    return np.einsum("id,jd->ij", a, b)


def repeated(
    vectors: NDArray[np.float32], labels: NDArray[np.int64], counts: NDArray[np.float64], similarity: object
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores of the pairs among people who really come several times, with all their photos; and which are genuine."""
    assert callable(similarity)
    copies = [
        (person, copy, photo)
        for person, count in zip(np.unique(labels), counts, strict=True)
        for copy in range(int(count))
        for photo in np.flatnonzero(labels == person)
    ]
    whole = similarity(vectors, vectors)
    scores, same = [], []
    for i, (person, copy, photo) in enumerate(copies):
        for other, its_copy, its_photo in copies[:i]:
            if person != other or copy == its_copy:
                scores.append(whole[photo, its_photo])
                same.append(person == other)
    return np.array(scores), np.array(same)


@pytest.mark.parametrize("similarity", [coarse, exact])
@pytest.mark.parametrize("window", [1, 4, 10_000])
@pytest.mark.parametrize("many_equals", [0, 1_000_000])
def test_weights_give_what_repeated_people_give(
    similarity: object, window: int, many_equals: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the window that is looked at first, and whether runs of equals are counted whole or one by one."""
    monkeypatch.setattr(resampling, "_WINDOW", window)
    monkeypatch.setattr(resampling, "_MANY_EQUALS", many_equals)
    monkeypatch.setattr(resampling, "_ROWS", 7)
    assert callable(similarity)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        vectors, labels = faces(9, rng)
        pairs = ranked_pairs(vectors, labels, similarity)
        weights = draw_people(pairs.photos, 6, rng)
        tars, errors = [tar_at_far(pairs, weights, far) for far in FARS], equal_error(pairs, weights)
        for row, counts in enumerate(weights):
            scores, same = repeated(vectors, labels, counts, similarity)
            assert pairs.genuine(weights)[row] == same.sum()
            assert pairs.impostors(weights)[row] == (~same).sum()
            curve = roc(scores, same)
            assert errors[row] == pytest.approx(plain_equal_error(curve)[0], abs=1e-12)
            for far, tar in zip(FARS, tars, strict=True):
                if far * curve.impostors >= 1:
                    assert tar[row] == at_far(curve, far).tar


def test_one_of_each_gives_the_plain_figures() -> None:
    vectors, labels = faces(80, np.random.default_rng(3), dim=8)
    pairs, once = ranked_pairs(vectors, labels), np.ones((1, 80))
    i, j = np.triu_indices(len(labels), 1)
    curve = roc(exact(vectors, vectors)[i, j], labels[i] == labels[j])
    assert equal_error(pairs, once)[0] == pytest.approx(plain_equal_error(curve)[0], abs=1e-9)
    for far in (1e-1, 1e-2, 1e-3):
        assert tar_at_far(pairs, once, far)[0] == pytest.approx(at_far(curve, far).tar, abs=1e-9)


def test_a_product_that_rounding_moves_allows_as_many_false_accepts_as_the_quotient() -> None:
    """0.07 * 100 is 7.000000000000001, and 0.29 * 100 is 28.999999999999996."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 10)  # 100 impostor pairs
    table = rng.permutation(400).astype(np.float32).reshape(20, 20)
    table = np.maximum(table, table.T)
    rows = np.arange(20, dtype=np.float32)[:, None]
    pairs = ranked_pairs(rows, labels, lambda a, b: table[np.ix_(a[:, 0].astype(int), b[:, 0].astype(int))])
    i, j = np.triu_indices(20, 1)
    curve = roc(table[i, j], labels[i] == labels[j])
    for count in range(1, 100):
        assert tar_at_far(pairs, np.ones((1, 2)), count / 100)[0] == at_far(curve, count / 100).tar


def test_rates_that_the_pairs_cannot_support_are_refused() -> None:
    vectors, labels = faces(6, np.random.default_rng(0))
    pairs = ranked_pairs(vectors, labels)
    impostors = int(pairs.impostors(np.ones((1, 6)))[0])
    tar_at_far(pairs, np.ones((1, 6)), 1 / impostors)
    with pytest.raises(Refused, match=f"{impostors} impostor pairs cannot show a FAR"):
        tar_at_far(pairs, np.ones((1, 6)), 0.99 / impostors)


def test_a_model_that_collapsed_accepts_nobody_and_errs_in_half_of_the_cases() -> None:
    vectors = np.tile(np.float32([0.6, 0.8]), (40, 1))
    pairs = ranked_pairs(vectors, np.repeat(np.arange(10), 4))
    weights = draw_people(pairs.photos, 20, np.random.default_rng(0))
    assert (tar_at_far(pairs, weights, 0.1) == 0).all()
    assert equal_error(pairs, weights) == pytest.approx(np.full(20, 0.5))


def test_photos_that_give_no_pairs_of_both_kinds_and_scores_that_are_none_are_refused() -> None:
    rows = np.eye(4, dtype=np.float32)
    for labels in ([0, 0, 0, 0], [0, 1, 2, 3]):
        with pytest.raises(DataError, match="pairs"):
            ranked_pairs(rows, labels)
    with pytest.raises(DataError, match="not a number"):
        ranked_pairs(rows * np.nan, [0, 0, 1, 1])
    for photos in ([5], [1, 1, 1]):
        with pytest.raises(DataError, match="two people"):
            draw_people(photos, 3, np.random.default_rng(0))


def test_every_draw_of_people_gives_both_kinds_of_pairs() -> None:
    """Of three people, one with two photos, a plain draw does without the latter 8 times in 27."""
    weights = draw_people([2, 1, 1], 500, np.random.default_rng(0))
    assert (weights.sum(axis=1) == 3).all()
    assert (weights[:, 0] >= 1).all()
    assert ((weights > 0).sum(axis=1) >= 2).all()
    plain = draw_people(np.full(50, 3), 4000, np.random.default_rng(0))
    assert plain.mean() == 1.0
    assert plain.var() == pytest.approx(1 - 1 / 50, abs=0.01)


def test_the_interval_of_tar_covers_the_truth_about_as_often_as_it_says() -> None:
    """300 sets of 40 people from one population, whose own TAR comes from 3,000; nominal 95 %."""
    rng, far = np.random.default_rng(5), 0.02

    def sample(people: int) -> RankedPairs:
        labels = np.repeat(np.arange(people), 3)
        # Some people vary more than others: genuine pairs of one person are far from independent.
        spread = np.exp(0.6 * rng.normal(size=people))[labels, None]
        vectors = rng.normal(size=(people, 6))[labels] + 0.5 * spread * rng.normal(size=(len(labels), 6))
        return ranked_pairs((vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), labels)

    truth = np.mean([tar_at_far(sample(500), np.ones((1, 500)), far)[0] for _ in range(6)])
    held = 0
    for _ in range(300):
        pairs = sample(40)
        low, high = percentile_interval(tar_at_far(pairs, draw_people(pairs.photos, 120, rng), far))
        held += low <= truth <= high
    assert 0.90 <= held / 300 <= 0.985


def test_means_over_drawn_seeds_spread_as_means_of_new_trainings_would() -> None:
    """From 3 trainings, on average over many such: variance of the replicates = variance of a mean of 3."""
    rng = np.random.default_rng(0)
    variances = []
    for _ in range(400):
        values = np.repeat(rng.normal(size=(3, 1)), 300, axis=1)
        replicates = over_seeds(values, draw_seeds(3, 300, rng))
        variances.append(replicates.var())
    assert np.mean(variances) == pytest.approx(1 / 3, rel=0.1)


def test_seeds_are_drawn_whole_and_one_seed_moves_nothing() -> None:
    values = np.array([[1.0, 10.0], [2.0, 20.0]])
    drawn = np.array([[0, 0], [0, 1]])
    stretched = 1.5 + np.sqrt(2) * (1.0 - 1.5)
    assert over_seeds(values, drawn) == pytest.approx([stretched, 15.0])
    assert over_seeds(values[:1], np.zeros((2, 1), np.int64)) == pytest.approx([1.0, 10.0])


def test_percentiles_are_those_of_the_replicates() -> None:
    assert percentile_interval(np.arange(1001) / 1000) == pytest.approx((0.025, 0.975))
    assert percentile_interval(np.arange(1001) / 1000, level=0.8) == pytest.approx((0.1, 0.9))
