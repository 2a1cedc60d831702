"""Searches of a gallery in which people stand several times, against sorted lists."""

import numpy as np
import pytest

from facespace.core import several
from facespace.core.contracts import Vectors
from facespace.core.identification import search
from facespace.core.retrieval import NEVER
from facespace.core.scores import unit_vectors
from facespace.core.several import search_several
from facespace.errors import DataError


def cosines(a: Vectors, b: Vectors) -> Vectors:
    return a @ b.T


def test_ranks_are_places_of_the_persons_first_row_in_the_sorted_list(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    gallery, probes = unit_vectors(rng.normal(size=(60, 4))), unit_vectors(rng.normal(size=(40, 4)))
    owners, people = np.append(rng.integers(0, 9, 50), np.full(10, -1)), rng.integers(0, 14, 40)
    enrolled, acquired = rng.random(60) > 0.1, rng.random(40) > 0.1
    monkeypatch.setattr(several, "_CELLS", 7 * 60)
    got = search_several(gallery, owners, probes, people, cosines, enrolled=enrolled, acquired=acquired)
    mates, ranks, tops = [], [], []
    for probe, person, there in zip(probes, people, acquired, strict=True):
        rows = [
            (float(probe @ row), int(o)) for row, o, e in zip(gallery, owners, enrolled, strict=True) if e and there
        ]
        rows.sort(reverse=True)
        places = [at for at, (_, owner) in enumerate(rows, 1) if owner == person]
        if person in owners:
            ranks.append(places[0] if places else NEVER)
            mates.append(rows[places[0] - 1][0] if places else -np.inf)
        else:
            tops.append(rows[0][0] if rows else -np.inf)
    assert got.ranks.tolist() == ranks
    np.testing.assert_allclose(got.mates, mates, atol=1e-6)
    np.testing.assert_allclose(got.tops, tops, atol=1e-6)
    assert got.people.tolist() == [p for p in people if p in owners]
    assert got.strangers.tolist() == [p for p in people if p not in owners]


def test_with_one_row_each_it_is_the_search_of_one_row() -> None:
    rng = np.random.default_rng(1)
    gallery, probes = unit_vectors(rng.normal(size=(9, 3))), unit_vectors(rng.normal(size=(30, 3)))
    people = rng.integers(0, 12, 30)
    everybody = {"enrolled": np.ones(9, bool), "acquired": np.ones(30, bool)}
    got = search_several(gallery, np.arange(9), probes, people, cosines, **everybody)
    plain = search(gallery, probes, np.where(people < 9, people, -1), people)
    for column in ("mates", "ranks", "people", "tops", "strangers"):
        np.testing.assert_array_equal(getattr(got, column), getattr(plain, column))


def test_of_equal_scores_others_come_first_and_no_number_is_refused() -> None:
    one = np.array([[1, 0]] * 3, np.float32)
    everybody = {"enrolled": np.ones(3, bool), "acquired": np.ones(1, bool)}
    got = search_several(one, [5, 5, 6], one[:1], [5], cosines, **everybody)
    assert got.ranks.tolist() == [2]
    with pytest.raises(DataError, match="not a number"):
        search_several(one, [5, 5, 6], np.full((1, 2), np.nan, np.float32), [5], cosines, **everybody)
