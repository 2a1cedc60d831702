"""Augmentation: the generator decides, ranges hold, geometry and colour are those of slow float64 code."""

import math
from collections.abc import Callable
from dataclasses import fields

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from facespace.data.augment import Augment
from facespace.errors import UsageError

SIDE = 40
ALL = Augment(
    flip_p=0.5,
    shift=0.1,
    zoom=0.2,
    turn_rad=0.3,
    light=0.3,
    colour=0.5,
    grey_p=0.3,
    blur_p=0.5,
    downscale_p=0.5,
    jpeg_p=0.5,
    erase_p=0.5,
)


def smooth(seed: int = 0, side: int = SIDE) -> NDArray[np.uint8]:
    """A picture without sharp edges, and without symmetry."""
    coarse = np.random.default_rng(seed).uniform(40, 200, (5, 5, 3))
    fine: NDArray[np.float64] = np.asarray(cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC))
    return np.clip(fine, 0, 255).astype(np.uint8)


class Dial(np.random.Generator):
    """A generator whose `random()` is `chance`, and whose `uniform` stands at a share `at` of its range."""

    def __init__(self, chance: float, at: float) -> None:
        super().__init__(np.random.PCG64(0))
        self.chance, self.at = chance, at

    def random(self, *_: object, **__: object) -> float:  # type: ignore[override]
        return self.chance

    def uniform(self, low: float = 0.0, high: float = 1.0, size: int | None = None) -> object:  # type: ignore[override]
        value = low + self.at * (high - low)
        return value if size is None else np.full(size, value)


def slow_warp(face: NDArray[np.uint8], moved: Callable[[float, float], tuple[float, float]]) -> NDArray[np.float64]:
    """Each pixel looks up, bilinearly, whence it came: `moved` is the inverse map of (x, y); outside, the edge."""
    side = len(face)
    out = np.zeros(face.shape)
    for y in range(side):
        for x in range(side):
            u, v = (min(max(c, 0.0), side - 1.0) for c in moved(x, y))
            x0, y0 = min(int(u), side - 2), min(int(v), side - 2)
            a, b = u - x0, v - y0
            upper = (1 - a) * face[y0, x0] + a * face[y0, x0 + 1]
            lower = (1 - a) * face[y0 + 1, x0] + a * face[y0 + 1, x0 + 1]
            out[y, x] = (1 - b) * upper + b * lower
    return out


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("at", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(
    ("shift", "zoom", "turn"),
    [(0.2, 0, 0), (0, 0.25, 0), (0, 0, 0.4), (0.1, 0.2, 0.3)],
    ids=["shift", "zoom", "turn", "all"],
)
def test_shift_zoom_turn_and_flip_are_one_motion_about_the_centre(
    shift: float, zoom: float, turn: float, at: float, flip: bool
) -> None:
    """A point p of the face, mirrored first where asked, lands at c + zoom · R(angle) (p - c) + shift."""
    face = smooth()
    signed = 2 * at - 1
    scale, angle, move = 1 + zoom * signed, turn * signed, shift * SIDE * signed
    centre = (SIDE - 1) / 2

    def whence(x: float, y: float) -> tuple[float, float]:
        dx, dy = (x - centre - move) / scale, (y - centre - move) / scale
        u, v = math.cos(angle) * dx + math.sin(angle) * dy, -math.sin(angle) * dx + math.cos(angle) * dy
        return centre + (-u if flip else u), centre + v

    augment = Augment(flip_p=1.0 if flip else 0.0, shift=shift, zoom=zoom, turn_rad=turn)
    out, flipped = augment(face, Dial(0.5, at))
    assert flipped is flip
    assert np.abs(out - slow_warp(face, whence)).max() <= 2.0


def test_flip_alone_mirrors_exactly_and_is_reported() -> None:
    face, rng = smooth(), np.random.default_rng(0)
    seen = [Augment(flip_p=0.5)(face, rng) for _ in range(200)]
    for out, flipped in seen:
        np.testing.assert_array_equal(out, face[:, ::-1] if flipped else face)
        assert out.flags.c_contiguous
    assert 70 < sum(flipped for _, flipped in seen) < 130


@pytest.mark.parametrize("at", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("grey", [False, True])
def test_light_and_colour_are_the_stated_factors(at: float, grey: bool) -> None:
    """Contrast about the mean of the face, brightness times it, saturation about the luma of BT.601."""
    face = smooth()
    light, colour, signed = 0.2, 0.4, 2 * at - 1
    factor, saturation = 1 + light * signed, 0.0 if grey else 1 + colour * signed
    expected = np.zeros(face.shape)
    for y in range(SIDE):
        for x in range(SIDE):
            r, g, b = (float(v) for v in face[y, x])
            luma = 0.299 * r + 0.587 * g + 0.114 * b
            for c, value in enumerate((r, g, b)):
                coloured = luma + saturation * (value - luma)
                expected[y, x, c] = factor * (face.mean() + factor * (coloured - face.mean()))
    augment = Augment(flip_p=0, light=light, colour=colour, grey_p=1.0 if grey else 0.0)
    out, _ = augment(face, Dial(0.5, at))
    assert np.abs(out - np.clip(expected, 0, 255)).max() <= 1.0
    if grey:
        assert np.ptp(out, axis=2).max() <= 1


def test_the_generator_alone_decides_and_the_input_stays() -> None:
    face = smooth()
    before = face.copy()
    for seed in range(20):
        first = ALL(face, np.random.default_rng(seed))
        again = ALL(face, np.random.default_rng(seed))
        np.testing.assert_array_equal(first[0], again[0])
        assert first[1] == again[1]
        np.testing.assert_array_equal(face, before)
        assert first[0].dtype == np.uint8
        assert first[0].shape == face.shape
    assert len({ALL(face, np.random.default_rng(seed))[0].tobytes() for seed in range(20)}) == 20


@pytest.mark.parametrize("field", [field.name for field in fields(Augment) if field.name != "zoom"])
@pytest.mark.parametrize("side", [32, 112])
def test_each_kind_alone_works_at_its_extreme(field: str, side: int) -> None:
    nothing = dict.fromkeys((f.name for f in fields(Augment)), 0.0)
    augment = Augment(**nothing | {field: 1.0})
    face, changed = smooth(3, side), False
    for seed in range(8):
        out, _ = augment(face, np.random.default_rng(seed))
        assert out.shape == face.shape
        assert out.dtype == np.uint8
        changed = changed or not np.array_equal(out, face)
    assert changed


def test_with_everything_off_a_face_stays_as_it_is() -> None:
    face = smooth()
    out, flipped = Augment(flip_p=0)(face, np.random.default_rng(0))
    np.testing.assert_array_equal(out, face)
    assert not flipped


def test_erasing_covers_between_two_and_twenty_per_cent_with_noise() -> None:
    face = np.zeros((112, 112, 3), np.uint8)
    for seed in range(60):
        out, _ = Augment(flip_p=0, erase_p=1.0)(face, np.random.default_rng(seed))
        rows, columns = np.nonzero(out.any(2))
        area = (np.ptp(rows) + 1) * (np.ptp(columns) + 1) / 112**2
        assert 0.018 < area < 0.21
        assert out[out > 0].std() > 50


def test_blur_and_downscale_take_detail_away_and_keep_the_mean() -> None:
    rng = np.random.default_rng(0)
    face = rng.integers(0, 256, (64, 64, 3), np.uint8)
    for augment in (Augment(flip_p=0, blur_p=1), Augment(flip_p=0, downscale_p=1)):
        out, _ = augment(face, Dial(0.0, 0.3))
        assert out.std() < 0.7 * face.std()
        assert abs(float(out.mean()) - float(face.mean())) < 3


def test_jpeg_keeps_red_red() -> None:
    """Coarse quantisation moves values, never swaps channels."""
    face = np.zeros((48, 48, 3), np.uint8)
    face[..., 0] = 220
    for seed in range(5):
        out, _ = Augment(flip_p=0, jpeg_p=1)(face, np.random.default_rng(seed))
        assert abs(float(out[..., 0].mean()) - 220) < 15
        assert out[..., 1:].mean() < 15


@pytest.mark.parametrize("field", [field.name for field in fields(Augment)])
@pytest.mark.parametrize("value", [-0.01, 1.01, math.nan])
def test_values_outside_their_range_are_refused(field: str, value: float) -> None:
    with pytest.raises(UsageError, match=field):
        Augment(**{field: value})


def test_a_zoom_to_a_point_is_refused() -> None:
    with pytest.raises(UsageError, match="point"):
        Augment(zoom=1.0)
