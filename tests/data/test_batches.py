"""Batches: a function of (seed, epoch, step, place), whatever the workers and however many photos are damaged."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from facespace.data.augment import Augment
from facespace.data.batches import Batch, Reader, read_crop
from facespace.data.folder import People, PhotoRef
from facespace.data.sampler import Shuffled
from facespace.errors import BadImage, DataError

AUGMENT = Augment(shift=0.1, light=0.3, erase_p=0.5)


def png(pixels: NDArray[np.uint8]) -> bytes:
    return cv2.imencode(".png", pixels[..., ::-1])[1].tobytes()


def photo(position: int, height: int = 36, width: int = 36) -> NDArray[np.uint8]:
    return np.random.default_rng(position).integers(0, 256, (height, width, 3), np.uint8)


def people(count: int = 40, damaged: frozenset[int] = frozenset(), side: int = 36) -> People:
    """Five photos of each person, kept in memory; the damaged ones are cut short."""
    refs = tuple(PhotoRef(f"p{i // 5:02}", f"p{i // 5:02}/{i:03}.png") for i in range(count))
    files = {ref.name: png(photo(i, side, side)) for i, ref in enumerate(refs)}
    files |= {refs[i].name: files[refs[i].name][:200] for i in damaged}
    return People(Path("in memory"), refs, files.__getitem__)


def read_all(reader: Reader, epochs: int = 2, start: int = 0, size: int = 36) -> list[Batch]:
    plans = [Shuffled(8).epoch(reader.people.labels, 5, epoch) for epoch in range(epochs)]
    return [
        batch
        for epoch, plan in enumerate(plans)
        for batch in reader.batches(plan, epoch, start if epoch == 0 else 0, lambda step: size)
    ]


def assert_same(one: list[Batch], other: list[Batch]) -> None:
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        for name in ("faces", "labels", "photos", "flipped"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_a_batch_holds_what_it_says() -> None:
    for batch in read_all(Reader(people(), Augment(flip_p=0.5), seed=1)):
        assert batch.faces.shape == (8, 36, 36, 3)
        assert batch.faces.dtype == np.uint8
        np.testing.assert_array_equal(batch.labels, batch.photos // 5)
        for face, position, flipped in zip(batch.faces, batch.photos.tolist(), batch.flipped, strict=True):
            aligned = cv2.resize(photo(position), (112, 112), interpolation=cv2.INTER_AREA)
            shown = np.ascontiguousarray(aligned[:, ::-1]) if flipped else aligned
            np.testing.assert_array_equal(face, cv2.resize(shown, (36, 36), interpolation=cv2.INTER_AREA))


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_workers_change_nothing(workers: int) -> None:
    damaged = people(200, frozenset({17}))
    one, many = Reader(damaged, AUGMENT, seed=3), Reader(damaged, AUGMENT, seed=3, workers=workers)
    assert_same(read_all(one), read_all(many))
    assert one.bad == many.bad


@pytest.mark.parametrize("workers", [0, 2])
def test_started_in_the_middle_the_rest_is_the_same(workers: int) -> None:
    whole, rest = Reader(people(), AUGMENT, seed=3), Reader(people(), AUGMENT, seed=3, workers=workers)
    assert_same(read_all(whole)[3:], read_all(rest, start=3))


def test_seed_epoch_and_step_give_other_chances() -> None:
    reader, other = Reader(people(), AUGMENT, seed=3), Reader(people(), AUGMENT, seed=4)
    positions = np.arange(8)
    first = reader.batch(positions, 0, 0, 36)
    for batch in (
        reader.batch(positions, 1, 0, 36),
        reader.batch(positions, 0, 1, 36),
        other.batch(positions, 0, 0, 36),
    ):
        assert not np.array_equal(batch.faces, first.faces)


def test_damaged_photos_are_left_out_listed_once_and_move_nobody() -> None:
    """Two of 200 are cut short: the others come in the same order, with the same chances, as if all were sound."""
    bad = frozenset({17, 93})
    sound, damaged = Reader(people(200), AUGMENT, seed=3), Reader(people(200, bad), AUGMENT, seed=3)
    for whole, less in zip(read_all(sound), read_all(damaged), strict=True):
        kept = ~np.isin(whole.photos, list(bad))
        for name in ("faces", "labels", "photos", "flipped"):
            np.testing.assert_array_equal(getattr(whole, name)[kept], getattr(less, name))
    assert sorted(damaged.bad) == ["p03/017.png", "p18/093.png"]
    assert all("damaged" in reason or "ends" in reason or "cut" in reason for reason in damaged.bad.values())
    assert sound.bad == {}


@pytest.mark.parametrize("workers", [0, 2])
def test_too_many_damaged_photos_stop_the_training(workers: int) -> None:
    reader = Reader(people(200, frozenset({1, 2, 3})), AUGMENT, seed=3, workers=workers)
    with pytest.raises(DataError, match="3 of 200") as refusal:
        read_all(reader)
    assert "p00/00" in str(refusal.value)


def test_one_damaged_photo_is_borne_however_few_there_are() -> None:
    reader = Reader(people(16, frozenset({3})), AUGMENT, seed=3)
    assert sum(len(batch.photos) for batch in read_all(reader, epochs=1)) == 15


def test_a_batch_of_which_one_photo_remains_is_refused() -> None:
    reader = Reader(people(10, frozenset({3})), AUGMENT, seed=3)
    with pytest.raises(DataError, match="fewer than two"):
        reader.batch(np.array([3, 4]), 0, 0, 36)


def test_the_side_may_change_from_step_to_step() -> None:
    reader = Reader(people(), AUGMENT, seed=3)
    plan = Shuffled(8).epoch(reader.people.labels, 0, 0)
    sides = [batch.faces.shape[1] for batch in reader.batches(plan, 0, 0, lambda step: 32 + 4 * step)]
    assert sides == [32, 36, 40, 44, 48]


def test_a_crop_has_the_asked_side_and_its_own_pixels_where_nothing_is_resized() -> None:
    aligned = people(2, side=112)
    np.testing.assert_array_equal(read_crop(aligned, 1), photo(1, 112, 112))
    assert read_crop(aligned, 1, 80).shape == (80, 80, 3)
    assert read_crop(people(2), 1).shape == (112, 112, 3)


def test_a_photo_that_is_not_square_is_no_aligned_face() -> None:
    """Squeezing it would teach the trunk faces that no camera sees."""
    whole = People(Path("x"), (PhotoRef("a", "a/1.png"),), lambda name: png(photo(0, 40, 60)))
    with pytest.raises(BadImage, match="60 x 40") as refusal:
        read_crop(whole, 0)
    assert "align" in refusal.value.hint
    assert refusal.value.file == "a/1.png"
