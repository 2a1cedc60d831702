"""Retrieval against plain sorting, one query after the other."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from facespace.core import retrieval
from facespace.core.resampling import draw_people
from facespace.core.retrieval import NEVER, mean_over_people, rank_mates
from facespace.core.scores import unit_vectors
from facespace.errors import DataError


def grid(seed: int, n: int, people: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Vectors of small whole numbers, so that many scores are exactly equal, and people of any number of photos."""
    rng = np.random.default_rng(seed)
    return rng.integers(-1, 2, (n, 3)).astype(np.float32), rng.integers(0, people, n) * 3 + 5


def by_sorting(vectors: NDArray[Any], labels: NDArray[Any], there: list[bool]) -> dict[int, tuple[int, float]]:
    """First rank and average precision of each query; failed rows are not ranked at all."""
    out = {}
    for q in range(len(labels)):
        mates = [i for i in range(len(labels)) if labels[i] == labels[q] and i != q]
        if not mates:
            continue
        others = [i for i in range(len(labels)) if i != q and there[i]] if there[q] else []
        order = sorted(others, key=lambda i, q=q: (-float(vectors[q] @ vectors[i]), i))
        hits = [i in mates for i in order]
        precision = [sum(hits[: r + 1]) / (r + 1) for r in range(min(len(mates), len(hits))) if hits[r]]
        out[q] = (hits.index(True) + 1 if any(hits) else NEVER, sum(precision) / len(mates))
    return out


@pytest.mark.parametrize("block", [1, 7 * 40, 1 << 24])
@pytest.mark.parametrize("lost", [0.0, 0.3])
@pytest.mark.parametrize("seed", range(4))
def test_ranks_and_precision_are_those_of_sorting(
    seed: int, lost: float, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ties by index, the query left out, photos that gave no vector, in blocks of any size."""
    monkeypatch.setattr(retrieval, "_CELLS", block)
    vectors, labels = grid(seed, 40, 12)
    there = np.random.default_rng(seed).random(40) >= lost
    ranks = rank_mates(vectors, labels, there)
    expected = by_sorting(vectors, labels, there.tolist())
    assert ranks.queries.tolist() == list(expected)
    assert ranks.first_mate.tolist() == [rank for rank, _ in expected.values()]
    np.testing.assert_allclose(ranks.average_precision, [precision for _, precision in expected.values()], atol=1e-15)
    assert ranks.alone == 40 - len(expected)
    for k in (1, 2, 5, 39):
        assert ranks.found_within(k).tolist() == [0 < rank <= k for rank, _ in expected.values()]


def test_ties_go_to_the_lower_index() -> None:
    """Photos 1, 2 and 3 are equally like photo 0; its mate stands first, in the middle, last."""
    vectors = np.array([[1, 0], [1, 0], [1, 0], [1, 0]], np.float32)
    for mate in (1, 2, 3):
        labels = np.arange(4)
        labels[mate] = 0
        assert rank_mates(vectors, labels).first_mate[0] == mate


def test_euclidean_order_of_unit_vectors_is_the_order_by_cosine() -> None:
    rng = np.random.default_rng(0)
    vectors, labels = unit_vectors(rng.normal(size=(60, 8))), rng.integers(0, 15, 60)

    def nearer(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
        return -np.linalg.norm(a[:, None].astype(np.float64) - b[None], axis=2)

    one, other = rank_mates(vectors, labels), rank_mates(vectors, labels, compare=nearer)
    assert one.first_mate.tolist() == other.first_mate.tolist()


def test_a_similarity_of_the_models_own_is_used() -> None:
    """Here the least like is nearest; an array that must not be written to is left as it is."""
    vectors, labels = grid(1, 20, 5)
    labels[:] = np.arange(20) // 2  # everybody asks, so one block asks for the whole matrix
    against = -(vectors @ vectors.T)
    against.setflags(write=False)
    ranks = rank_mates(vectors, labels, compare=lambda a, b: against)
    for query, rank in zip(ranks.queries, ranks.first_mate, strict=True):
        order = sorted((i for i in range(20) if i != query), key=lambda i, q=query: (vectors[q] @ vectors[i], i))
        assert labels[order[rank - 1]] == labels[query]
        assert all(labels[i] != labels[query] for i in order[: rank - 1])


def test_a_perfect_model_and_one_that_finds_nobody() -> None:
    labels = np.repeat(np.arange(4), 3)
    eye = np.eye(4, dtype=np.float32)[labels]
    ranks = rank_mates(eye, labels)
    assert ranks.found_within(1).all()
    np.testing.assert_array_equal(ranks.average_precision, 1)
    lost = rank_mates(eye, labels, np.zeros(12, bool))
    assert not lost.found_within(10_000).any()
    assert not lost.average_precision.any()


@pytest.mark.parametrize("score", [np.nan, np.inf])
def test_a_score_that_is_no_number_is_refused(score: float) -> None:
    with pytest.raises(DataError, match="not a number"):
        rank_mates(np.eye(3, dtype=np.float32), [0, 0, 1], compare=lambda a, b: np.full((len(a), len(b)), score))


def test_photos_of_people_with_one_photo_each_ask_nothing() -> None:
    with pytest.raises(DataError, match="none of 3 photos"):
        rank_mates(np.eye(3, dtype=np.float32), [0, 1, 2])


def test_the_interval_draws_people_and_not_queries() -> None:
    """Ratios of sums in every replicate; forty queries of four people are four draws, not forty."""
    values, people = np.repeat([1.0, 0.0, 1.0, 0.5], 10), np.repeat(np.arange(4), 10)
    weights = draw_people(np.full(4, 10), 500, np.random.default_rng(0))
    mean, (low, high) = mean_over_people(values, people, weights)
    assert mean == 0.625
    replicates = [np.average([1, 0, 1, 0.5], weights=w) for w in weights]
    np.testing.assert_allclose((low, high), np.quantile(replicates, [0.025, 0.975]))
    forty = stats.beta.ppf([0.025, 0.975], [25, 26], [16, 15])  # Clopper and Pearson's of 25 of 40 queries
    assert high - low > 2 * np.ptp(forty)


def test_the_interval_weighs_people_by_their_queries() -> None:
    values, people = np.array([1.0, 1, 1, 0, 0]), np.array([0, 0, 0, 1, 1])
    mean, (low, high) = mean_over_people(values, people, np.array([[1.0, 1], [2, 0], [0, 2]]))
    assert mean == pytest.approx(3 / 5)
    np.testing.assert_allclose((low, high), np.quantile([3 / 5, 1, 0], [0.025, 0.975]))


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_people_who_fare_alike_are_no_certainty(value: float) -> None:
    mean, interval = mean_over_people(np.full(30, value), np.repeat(np.arange(3), 10), np.ones((5, 3)))
    assert mean == value
    trials = 3 * (stats.norm.ppf(0.975) / stats.t.ppf(0.975, 2)) ** 2  # three people know their spread badly
    most = 1 - 0.025 ** (1 / trials)
    assert interval == pytest.approx((1 - most, 1) if value else (0, most), abs=1e-9)
