"""Votes of neighbours, counted one query at a time in exact numbers."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from facespace.core.neighbours import UNKNOWN, recognise
from facespace.core.scores import unit_vectors
from facespace.errors import DataError, UsageError

TURNS = [(1, 0, 0, 0), (0, 1, 0, 0), (-1, 0, 0, 0), (0.5, 0.5, 0.5, 0.5), (0.5, -0.5, 0.5, 0.5), (0.5, 0.5, -0.5, 0.5)]
"""Unit vectors whose cosines are quarters, without rounding, so that ties are common and exact."""


def vectors(indices: list[int]) -> NDArray[np.float32]:
    return np.array([TURNS[i] for i in indices], np.float32).reshape(-1, 4)


def slow(query: NDArray[np.float32], references: NDArray[np.float32], labels: list[int], k: int, far: float) -> int:
    """The definition: the k nearest, those near enough vote, then the sum, then the lower label."""
    cosines = [np.float32(c) for c in references @ query]
    nearest = sorted(range(len(labels)), key=lambda i: (-cosines[i], i))[:k]
    voters = [i for i in nearest if 2 - 2 * min(1.0, float(cosines[i])) <= far]
    if not voters:
        return UNKNOWN
    people = sorted({labels[i] for i in voters})
    score = {
        p: (sum(labels[i] == p for i in voters), sum(Fraction(float(cosines[i])) for i in voters if labels[i] == p))
        for p in people
    }
    return max(people, key=lambda p: (*score[p], -p))


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=12),
    st.integers(1, 6),
    st.sampled_from([0.0, 0.5, 1.0, 2.0, 4.0]),
)
def test_the_winner_is_that_of_the_definition(
    queries: list[int], known: list[tuple[int, int]], k: int, far: float
) -> None:
    references, labels = vectors([i for i, _ in known]), [label for _, label in known]
    got = recognise(vectors(queries), references, np.array(labels, np.int64), k=k, distance=far)
    for i, query in enumerate(vectors(queries)):
        assert got.labels[i] == slow(query, references, labels, k, far)


def test_more_votes_beat_a_nearer_one_and_as_many_are_weighed() -> None:
    references = unit_vectors([[1, 0.1], [1, 0.2], [1, 0.25], [1, 0.3]])
    query, labels = unit_vectors([[1.0, 0.0]]), np.array([5, 8, 8, 5])
    assert recognise(query, references, labels).labels.tolist() == [5]
    by_three = recognise(query, references, labels, k=3)
    assert (by_three.labels.tolist(), by_three.votes.tolist()) == ([8], [2])
    assert by_three.similarities[0] == pytest.approx(float((references[1:3] @ query[0]).mean()), abs=1e-7)
    sums = {5: references[[0, 3]] @ query[0], 8: references[[1, 2]] @ query[0]}
    assert sums[5].sum() > sums[8].sum()
    assert recognise(query, references, labels, k=4).labels.tolist() == [5]


def test_somebody_too_far_is_unknown_and_at_the_distance_known() -> None:
    """The paper accepts D <= d. Those too far have no vote either."""
    references, labels = np.array([[1, 0], [0, 1], [0, 1]], np.float32), np.array([3, 4, 4])
    query = np.array([[1, 0], [0, -1]], np.float32)
    got = recognise(query, references, labels, k=3, distance=1.99)
    assert got.labels.tolist() == [3, UNKNOWN]
    assert got.votes.tolist() == [1, 0]
    assert np.isnan(got.similarities).tolist() == [False, True]
    at = recognise(query, references, labels, k=3, distance=2.0)
    assert at.labels.tolist() == [4, 3]


def test_nobody_known_and_nobody_asked() -> None:
    none = np.zeros((0, 4), np.float32)
    assert recognise(vectors([0, 1]), none, np.zeros(0, np.int64), k=3).labels.tolist() == [UNKNOWN, UNKNOWN]
    assert recognise(none, vectors([0]), np.array([1])).labels.shape == (0,)


def test_settings_and_labels_that_make_no_sense_are_refused() -> None:
    for k, distance in ((0, 1.0), (1, -0.1), (1, float("nan"))):
        with pytest.raises(UsageError):
            recognise(vectors([0]), vectors([0]), np.array([1]), k=k, distance=distance)
    for labels in ([1, 2], [-1]):
        with pytest.raises(DataError):
            recognise(vectors([0]), vectors([0]), np.array(labels))
