"""Bytes against numbers one at a time, and the paper's claim that nothing is lost."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from facespace.core import verification
from facespace.core.quantise import Ranges, from_bytes, to_bytes
from facespace.core.scores import pair_scores, unit_vectors
from facespace.errors import DataError, ModelError


def units(count: int, dim: int = 128, seed: int = 0) -> NDArray[np.float32]:
    return unit_vectors(np.random.default_rng(seed).normal(size=(count, dim)))


def test_a_number_is_the_nearest_of_127_steps_and_a_vector_is_one_byte_a_dimension() -> None:
    vectors = units(20)
    rows = to_bytes(vectors)
    assert rows.dtype == np.int8
    assert len(rows[0].tobytes()) == 128
    for value, byte in zip(vectors.ravel().tolist(), rows.ravel().tolist(), strict=True):
        assert abs(127 * value - byte) <= 0.5 + 1e-5
    axes = np.concatenate([np.eye(4), -np.eye(4)]).astype(np.float32)
    assert sorted(set(to_bytes(axes).ravel().tolist())) == [-127, 0, 127]
    np.testing.assert_array_equal(from_bytes(to_bytes(axes)), axes)


def test_rounding_past_one_does_not_wrap_around() -> None:
    assert to_bytes(np.array([[1.0000001, 0], [-1.01, 0]], np.float32)).tolist() == [[127, 0], [-127, 0]]


@pytest.mark.parametrize("with_ranges", [False, True])
def test_what_is_read_is_a_unit_vector_again_by_the_definition(with_ranges: bool) -> None:
    vectors = units(10, 16)
    ranges = Ranges.of(vectors) if with_ranges else None
    read = from_bytes(to_bytes(vectors, ranges), ranges)
    assert read.dtype == np.float32
    for row, byte_row in zip(read, to_bytes(vectors, ranges), strict=True):
        numbers = [int(b) / 127 for b in byte_row]
        if ranges is not None:
            numbers = [
                float(low) + int(b) / 255 * (float(high) - float(low))
                for b, low, high in zip(byte_row, ranges.low, ranges.high, strict=True)
            ]
        length = sum(x * x for x in numbers) ** 0.5
        np.testing.assert_allclose(row, [x / length for x in numbers], rtol=0, atol=1e-6)


def test_ranges_use_all_steps_and_are_off_by_half_a_step_at_most() -> None:
    vectors = units(500, 32)
    ranges = Ranges.of(vectors)
    rows = to_bytes(vectors, ranges)
    assert rows.dtype == np.uint8
    assert (rows.min(0) == 0).all()
    assert (rows.max(0) == 255).all()
    back = ranges.low + rows * ranges.step
    assert (np.abs(back - vectors) <= ranges.step / 2 + 1e-6).all()


def test_numbers_outside_the_ranges_are_cut_and_a_constant_dimension_stays() -> None:
    ranges = Ranges.of(np.array([[0.1, 0.5], [0.3, 0.5]], np.float32))
    assert to_bytes(np.array([[-0.9, 0.5], [0.9, 0.5], [0.2, 0.5]], np.float32), ranges)[:, 0].tolist() in (
        [0, 255, 127],
        [0, 255, 128],
    )
    read = from_bytes(to_bytes(np.array([[0.3, 0.5]], np.float32), ranges), ranges)
    np.testing.assert_allclose(read, unit_vectors([[0.3, 0.5]]), atol=1e-6)


@given(st.integers(0, 10_000))
def test_cosines_hardly_move(seed: int) -> None:
    """A number is off by 1 / (127 sqrt(12)) = 0.0023, the cosine by sqrt(2) times that: 0.02 is six of them."""
    pair = unit_vectors(np.random.default_rng(seed).normal(0.5, 1, size=(2, 128)))
    read = from_bytes(to_bytes(pair))
    assert abs(float(pair[0] @ pair[1]) - float(read[0] @ read[1])) < 0.02


@pytest.mark.parametrize("with_ranges", [False, True])
def test_verification_loses_nothing(with_ranges: bool) -> None:
    """FaceNet section 5.4: 128 bytes without loss of accuracy; here within a thousandth, on people drawn at random."""
    rng = np.random.default_rng(7)
    people = rng.normal(size=(300, 128))
    vectors = unit_vectors(np.repeat(people, 4, axis=0) + 1.6 * rng.normal(size=(1200, 128)))
    first, second = rng.integers(0, 1200, (2, 40_000))
    second[:20_000] = first[:20_000] // 4 * 4 + (first[:20_000] + rng.integers(1, 4, 20_000)) % 4
    same = first // 4 == second // 4
    ranges = Ranges.of(vectors) if with_ranges else None
    accuracy = []
    for each in (vectors, from_bytes(to_bytes(vectors, ranges), ranges)):
        curve = verification.roc(pair_scores(each, first, second), same)
        at = verification.best_threshold(curve)
        accuracy.append(float(((pair_scores(each, first, second) >= at) == same).mean()))
    assert 0.9 < accuracy[0] < 0.999
    assert abs(accuracy[0] - accuracy[1]) < 1e-3


def test_bytes_are_read_as_they_were_written_or_not_at_all() -> None:
    vectors = units(3, 8)
    ranges = Ranges.of(vectors)
    with pytest.raises(DataError, match="int8"):
        from_bytes(to_bytes(vectors, ranges))
    with pytest.raises(DataError, match="uint8"):
        from_bytes(to_bytes(vectors), ranges)
    with pytest.raises(ModelError, match="row 0"):
        from_bytes(np.zeros((1, 8), np.int8))
    with pytest.raises(DataError, match="no vectors"):
        Ranges.of(np.zeros((0, 8), np.float32))


def test_no_vectors_are_no_bytes() -> None:
    assert from_bytes(to_bytes(np.zeros((0, 8), np.float32))).shape == (0, 8)
