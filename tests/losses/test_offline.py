"""Offline mining against loops over all pairs and negatives; batches that keep triplets whole."""

from itertools import product
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from triplet_reference import distances

from facespace.errors import DataError, UsageError
from facespace.losses import offline
from facespace.losses.offline import Hard, Offline, batches_of, mine_offline, subset_of
from facespace.losses.triplet import Metric, Triplet

LABELS = np.array([4, 4, 9, 4, 1, 1, 9, 2, 3, 9, 9, 5, 4])


def unit(seed: int, n: int = len(LABELS), spread: float = 0.4) -> NDArray[np.float64]:
    """Unit rows around one direction."""
    x = 1 + spread * np.random.default_rng(seed).normal(size=(n, 4))
    rows: NDArray[np.float64] = x / np.linalg.norm(x, axis=1, keepdims=True)
    return rows


def mined(
    vectors: NDArray[np.floating], settings: Offline, triplet: Triplet | None = None, seed: int = 0
) -> set[tuple[int, ...]]:
    """As a set; no triplet comes twice."""
    found = mine_offline(vectors, LABELS, settings, triplet or Triplet(), np.random.default_rng(seed))
    assert found.dtype == np.int64
    assert found.shape == (len(found), 3)
    triplets = {tuple(row) for row in found.tolist()}
    assert len(triplets) == len(found)
    return triplets


def slow(D: NDArray[np.float64], hard: Hard, hardest_positive: bool, alpha: float) -> set[tuple[int, ...]]:
    """By the definition, one pair at a time."""
    n, chosen = len(D), set()
    for a, p in product(range(n), repeat=2):
        own = [i for i in range(n) if LABELS[i] == LABELS[a] and i != a]
        if p not in own or (hardest_positive and D[a, p] < max(D[a, i] for i in own)):
            continue
        others = [i for i in range(n) if LABELS[i] != LABELS[a]]
        if hard == "semihard":
            others = [i for i in others if D[a, i] > D[a, p]]
        nearest = min(others, key=lambda i: D[a, i], default=None)
        if nearest is not None and D[a, nearest] < D[a, p] + alpha:
            chosen.add((a, p, nearest))
    return chosen


@pytest.mark.parametrize("metric", get_args(Metric))
@pytest.mark.parametrize("positives", ["all", "hardest"])
@pytest.mark.parametrize("hard", get_args(Hard))
def test_triplets_are_those_of_the_definition(
    hard: Hard, positives: str, metric: Metric, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the size of the blocks."""
    settings, triplet = Offline(hard=hard, positives=positives), Triplet(0.3, metric=metric)  # type: ignore[arg-type]
    for seed in range(4):
        expected = slow(distances(unit(seed), metric), hard, positives == "hardest", 0.3)
        assert expected
        for cells in (1, 40, 1 << 20):
            monkeypatch.setattr(offline, "_CELLS", cells)
            assert mined(unit(seed), settings, triplet) == expected


def test_drawn_positives_are_some_of_all_and_in_time_all() -> None:
    """At most `per_anchor` for each anchor; the draw follows the generator."""
    every = mined(unit(1), Offline(positives="all"))
    draws = [mined(unit(1), Offline(per_anchor=1), seed=seed) for seed in range(60)]
    for draw in draws:
        anchors = [a for a, _, _ in draw]
        assert len(set(anchors)) == len(anchors)
    assert set.union(*draws) == every
    assert draws[5] == mined(unit(1), Offline(per_anchor=1), seed=5)
    assert mined(unit(1), Offline(per_anchor=20)) == every


def test_float32_finds_the_same_triplets() -> None:
    """Away from ties."""
    for hard in get_args(Hard):
        settings = Offline(hard=hard, positives="all")
        assert mined(unit(2).astype(np.float32), settings) == mined(unit(2), settings)


def test_anchors_of_a_person_stay_together() -> None:
    """So that few batches hold them."""
    found = mine_offline(unit(3), LABELS, Offline(positives="all"), Triplet(), np.random.default_rng(0))
    people = LABELS[found[:, 0]]
    assert (people[1:] != people[:-1]).sum() == len(set(people.tolist())) - 1


@pytest.mark.parametrize("labels", [[], [0], [0, 1, 2], [0, 0, 0]], ids=str)
@pytest.mark.parametrize("hard", get_args(Hard))
def test_u11_nothing_to_mine_gives_no_triplet(labels: list[int], hard: Hard) -> None:
    """Nobody, one photo, no pair, nobody else."""
    settings = Offline(hard=hard, positives="hardest")
    found = mine_offline(
        unit(0, len(labels)), np.array(labels, np.int64), settings, Triplet(), np.random.default_rng(0)
    )
    assert found.shape == (0, 3)
    assert batches_of(found, 6).shape == (0, 6)


@given(
    st.lists(st.lists(st.integers(0, 25), min_size=3, max_size=3, unique=True), min_size=1, max_size=60),
    st.integers(3, 12),
)
def test_every_triplet_is_whole_in_a_batch_and_no_photo_twice(rows: list[list[int]], batch: int) -> None:
    triplets = np.array(rows, np.int64)
    photos = set(triplets.ravel().tolist())
    plan = batches_of(triplets, batch)
    assert plan.dtype == np.int64
    assert plan.shape[1] == min(batch, len(photos))
    sets = [set(row.tolist()) for row in plan]
    assert all(len(s) == plan.shape[1] for s in sets)
    assert set.union(*sets) == photos
    assert all(any(set(row) <= s for s in sets) for row in rows)
    assert len(plan) <= len(rows), "a batch has a triplet of its own"


def test_triplets_that_share_photos_share_a_batch() -> None:
    """Four triplets of five photos need one batch of five."""
    triplets = np.array([[0, 1, 8], [1, 0, 8], [0, 2, 9], [2, 0, 8]])
    assert sorted(batches_of(triplets, 5)[0].tolist()) == [0, 1, 2, 8, 9]
    assert batches_of(triplets, 5).shape == (1, 5)
    assert batches_of(triplets, 4).tolist() == [[0, 1, 8, 2], [0, 2, 9, 8]]


def test_a_subset_is_whole_people_and_as_many_photos_as_fit() -> None:
    """Other people for another generator."""
    counts = {label: int((label == LABELS).sum()) for label in LABELS.tolist()}
    seen: set[int] = set()
    for seed in range(20):
        chosen = subset_of(LABELS, Offline(subset=9), np.random.default_rng(seed))
        assert (np.diff(chosen) > 0).all()
        assert len(chosen) <= 9
        people = LABELS[chosen].tolist()
        assert all(people.count(person) == counts[person] for person in people)
        seen |= set(people)
    assert seen == set(LABELS.tolist())
    assert subset_of(LABELS, Offline(), np.random.default_rng(0)).tolist() == list(range(13))


@pytest.mark.parametrize(
    "fields",
    [{"hard": "random"}, {"positives": "nearest"}, {"every_steps": 0}, {"subset": 2}, {"per_anchor": 0}],
    ids=str,
)
def test_contradictions_are_refused(fields: dict[str, int | str]) -> None:
    with pytest.raises(UsageError) as error:
        Offline(**fields)  # type: ignore[arg-type]
    assert error.value.hint


def test_unfit_shapes_are_refused() -> None:
    with pytest.raises(DataError):
        mine_offline(unit(0), LABELS[:5], Offline(), Triplet(), np.random.default_rng(0))
    with pytest.raises(UsageError):
        batches_of(np.array([[0, 1, 2]]), 2)
