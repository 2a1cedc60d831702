"""Batches of an epoch: what they are made of, and that seed and epoch alone decide."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from facespace.data.sampler import FaceNetBatches, PeopleByPhotos, Sampler, Shuffled
from facespace.errors import DataError, UsageError

LABELS = np.repeat(np.arange(12), [1, 1, 2, 2, 3, 3, 4, 5, 6, 7, 8, 9])
COUNTS = Counter(LABELS.tolist())


@given(st.integers(2, 40), st.integers(40, 200), st.integers(0, 3), st.integers(0, 3))
def test_each_photo_comes_once_an_epoch_but_for_the_last_incomplete_batch(
    batch: int, photos: int, seed: int, epoch: int
) -> None:
    plan = Shuffled(batch).epoch(np.zeros(photos, np.int64), seed, epoch)
    assert plan.shape == (photos // batch, batch)
    assert len(set(plan.ravel().tolist())) == plan.size
    assert plan.min() >= 0
    assert plan.max() < photos


def test_in_a_batch_are_p_people_with_k_photos_each() -> None:
    plan = PeopleByPhotos(3, 4).epoch(LABELS, 0, 0)
    assert plan.shape == (10 // 3, 12)
    for row in plan:
        groups = LABELS[row].reshape(3, 4)
        assert (groups == groups[:, :1]).all()
        assert len(set(groups[:, 0].tolist())) == 3
    people = LABELS[plan].reshape(-1, 4)[:, 0].tolist()
    assert len(set(people)) == len(people) == 9, "each person once an epoch"
    assert min(COUNTS[person] for person in people) >= 2, "nobody with a single photo"


def test_no_photo_comes_twice_before_all_of_the_person_came_once() -> None:
    for epoch in range(20):
        for group in PeopleByPhotos(3, 4).epoch(LABELS, 0, epoch).reshape(-1, 4):
            times = Counter(group.tolist())
            assert max(times.values()) - min(times.values()) <= 1
            assert len(times) == min(4, COUNTS[int(LABELS[group[0]])])


@pytest.mark.parametrize("sampler", [Shuffled(5), PeopleByPhotos(3, 2), FaceNetBatches(3, 2, 4)])
def test_seed_and_epoch_alone_decide(sampler: Sampler) -> None:
    def plan(seed: int, epoch: int) -> NDArray[np.int64]:
        return sampler.epoch(LABELS, seed, epoch)

    first = plan(0, 0)
    np.random.seed(1)  # noqa: NPY002 (nothing global may matter)
    np.testing.assert_array_equal(plan(0, 0), first)
    assert first.dtype == np.int64
    for other in (plan(0, 1), plan(1, 0)):
        assert not np.array_equal(other, first)
        assert other.shape == first.shape


def test_over_many_epochs_every_photo_of_people_with_two_comes() -> None:
    seen = {int(p) for epoch in range(40) for p in PeopleByPhotos(4, 3).epoch(LABELS, 0, epoch).ravel()}
    assert seen == {i for i, label in enumerate(LABELS.tolist()) if COUNTS[label] >= 2}


def test_too_few_photos_or_people_are_refused() -> None:
    """The hint names what there is at the command: photos, people and recipes."""
    with pytest.raises(DataError, match="do not fill") as few:
        Shuffled(100).epoch(LABELS, 0, 0)
    assert few.value.hint == "bring at least 100 photos, or a recipe with a smaller batch"
    with pytest.raises(DataError, match="10 people") as few:
        PeopleByPhotos(11, 2).epoch(LABELS, 0, 0)
    assert few.value.hint == "bring at least 11 people with two photos, or a recipe with fewer people a batch"
    with pytest.raises(DataError, match="50 random negatives") as few:
        FaceNetBatches(2, 2, 50).epoch(LABELS, 0, 0)
    assert few.value.hint.startswith("bring more other people, or a recipe with fewer")


def test_settings_that_make_no_batch_are_refused() -> None:
    with pytest.raises(UsageError):
        Shuffled(1)
    for people, photos in ((1, 4), (4, 1)):
        with pytest.raises(UsageError):
            PeopleByPhotos(people, photos)
    for people, photos, negatives in ((0, 4, 9), (4, 1, 9), (4, 4, -1), (1, 4, 0)):
        with pytest.raises(UsageError):
            FaceNetBatches(people, photos, negatives)


@pytest.mark.parametrize("as_anchors", [False, True])
def test_a_facenet_batch_is_some_people_and_random_others(as_anchors: bool) -> None:
    """Up to K photos of each of the P, no photo twice, the rest of other people; single photos serve too."""
    sampler, extras = FaceNetBatches(2, 4, 3, negatives_as_anchors=as_anchors), Counter[int]()
    for epoch in range(30):
        plan = sampler.epoch(LABELS, 0, epoch)
        assert plan.shape == (10 // 2, sampler.batch) == (5, 11)
        main: list[int] = []
        for row in plan.tolist():
            assert len(set(row)) == len(row)
            people = list(dict.fromkeys(LABELS[row].tolist()))[:2]
            wanted = [min(4, COUNTS[person]) for person in people]
            others = row[sum(wanted) :]
            assert LABELS[row[: sum(wanted)]].tolist() == np.repeat(people, wanted).tolist()
            assert not {int(LABELS[i]) for i in others} & set(people)
            extras.update(others)
            main += people
            if not as_anchors:
                assert len({int(LABELS[i]) for i in others}) == len(others), "no negative finds a positive"
        assert len(set(main)) == len(main) == 10
        assert min(COUNTS[person] for person in main) >= 2
    assert set(extras) == set(range(len(LABELS)))


def test_negatives_as_anchors_meet_others_of_their_person() -> None:
    """Nine photos of ten people, drawn from all they have: somebody comes twice."""
    pairs = 0
    for row in FaceNetBatches(2, 4, 9, negatives_as_anchors=True).epoch(LABELS, 0, 0):
        others = Counter(LABELS[row[8:]].tolist())
        pairs += sum(count > 1 for count in others.values())
    assert pairs > 0


def test_the_default_facenet_batch_is_that_of_the_paper() -> None:
    """1,800 photos, about 40 of an identity."""
    labels = np.repeat(np.arange(600), np.where(np.arange(600) < 50, 45, 1))
    assert FaceNetBatches().batch == 1800
    row = FaceNetBatches().epoch(labels, 0, 0)[0]
    counts = sorted(Counter(labels[row].tolist()).values(), reverse=True)
    assert counts == [40] * 40 + [1] * 200


def test_too_few_negatives_are_refused() -> None:
    """With the number asked for, filled places included, and the number there is."""
    with pytest.raises(DataError, match="there are 10 other people"):
        FaceNetBatches(2, 2, 11).epoch(LABELS, 0, 0)
    FaceNetBatches(2, 2, 10).epoch(LABELS, 0, 0)
    FaceNetBatches(2, 2, 11, negatives_as_anchors=True).epoch(LABELS, 0, 0)
    with pytest.raises(DataError, match="photos of other people"):
        FaceNetBatches(10, 2, 3, negatives_as_anchors=True).epoch(LABELS, 0, 0)
    with pytest.raises(DataError, match="people with two photos"):
        FaceNetBatches(11, 2, 0).epoch(LABELS, 0, 0)
