"""Aligned crops: on the template, as plain sampling says, without aliasing, equal to those of a benchmark."""

import io
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from facespace.core.contracts import Face
from facespace.core.geometry import TEMPLATE, similarity_transform
from facespace.errors import InputError, NoFace, SeveralFaces
from facespace.faces.align import align, aligned_faces
from facespace.faces.detect import Aligned, YuNet
from facespace.faces.photo import read_photo

Pixels = NDArray[np.uint8]


def placed(scale: float, turn_rad: float, x: float, y: float) -> Face:
    """A face whose landmarks are the template's, scaled, turned and moved."""
    c, s = scale * np.cos(turn_rad), scale * np.sin(turn_rad)
    points = TEMPLATE @ np.array([[c, s], [-s, c]]) + np.array([x, y])
    return Face((x, y, 112 * scale, 112 * scale), 0.9, tuple((px, py) for px, py in points.tolist()), "test")


def dotted(face: Face, side: int, radius: float) -> Pixels:
    """A black photo with a soft white dot on each landmark, drawn from its formula."""
    y, x = np.mgrid[0:side, 0:side]
    dots = [np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * radius**2)) for px, py in face.landmarks]
    return np.round(255 * np.stack([np.max(dots, 0)] * 3, -1)).astype(np.uint8)


def brightest_near(crop: Pixels, x: float, y: float) -> tuple[float, float]:
    """The middle of the light within 8 pixels of a point."""
    rows, columns = np.mgrid[0 : crop.shape[0], 0 : crop.shape[1]]
    light = crop[:, :, 0] * (np.hypot(columns - x, rows - y) < 8).astype(float)
    return float((light * columns).sum() / light.sum()), float((light * rows).sum() / light.sum())


@pytest.mark.parametrize("scale", [0.8, 1.0, 1.7, 2.0, 2.6, 3.5, 7.3])
@pytest.mark.parametrize("turn_rad", [0.0, 0.4, -2.0])
def test_landmarks_land_on_the_template(scale: float, turn_rad: float) -> None:
    """Within a fifth of a pixel at every scale: reducing first must not shift by half pixels."""
    side = 1100
    middle = placed(scale, turn_rad, 0, 0).landmarks
    shift = side / 2 - np.mean(middle, 0)
    face = placed(scale, turn_rad, *shift.tolist())
    crop = align(dotted(face, side, radius=1.5 * scale), face)
    for x, y in TEMPLATE:
        found_x, found_y = brightest_near(crop, x, y)
        assert abs(found_x - x) < 0.2
        assert abs(found_y - y) < 0.2


def test_a_small_face_is_sampled_plainly() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (250, 250, 3), dtype=np.uint8)
    face = placed(1.3, 0.2, 60, 40)
    plain = cv2.warpAffine(photo, similarity_transform(face.landmarks, TEMPLATE), (112, 112), flags=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(align(photo, face), plain)


def test_fine_stripes_of_a_large_face_become_grey_and_not_coarse_stripes() -> None:
    photo = np.zeros((1200, 1200, 3), np.uint8)
    photo[:, ::2] = 255
    face = placed(6.05, 0.0, 200, 200)
    crop = align(photo, face).astype(float)
    plain = cv2.warpAffine(photo, similarity_transform(face.landmarks, TEMPLATE), (112, 112), flags=cv2.INTER_LINEAR)
    assert crop.std() < 10 < plain.astype(float).std()
    assert crop.mean() == pytest.approx(127.5, abs=3)


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_beyond_the_photo_the_crop_is_black(scale: float) -> None:
    side = int(112 * scale)
    photo = np.full((side, side, 3), 200, np.uint8)
    crop = align(photo, placed(scale, 0.0, -side / 2, 0))
    assert not crop[:, :50].any()
    assert (crop[2:-2, 62:-2] == 200).all()


@pytest.mark.parametrize("x", [-5000.0, 5000.0])
def test_a_face_outside_of_the_photo_is_black_and_no_failure(x: float) -> None:
    assert not align(np.full((50, 50, 3), 200, np.uint8), placed(5, 0.0, x, x)).any()


def test_other_sizes_show_the_same_face() -> None:
    face = placed(2.4, 0.3, 150, 90)
    photo = dotted(face, 512, radius=16)
    small, large = align(photo, face, 56), align(photo, face, 224)
    assert np.abs(large.reshape(56, 4, 56, 4, 3).mean((1, 3)) - small).mean() < 0.5


def test_landmarks_in_one_point_are_refused() -> None:
    with pytest.raises(InputError):
        align(np.zeros((50, 50, 3), np.uint8), Face((0, 0, 9, 9), 1.0, ((5.0, 5.0),) * 5, "test"))


def test_an_aligned_crop_passes_unchanged() -> None:
    crop = np.random.default_rng(1).integers(0, 256, (112, 112, 3), dtype=np.uint8)
    ((face, out),) = aligned_faces(crop, Aligned())
    np.testing.assert_array_equal(out, crop)
    assert face.source == "aligned"
    np.testing.assert_allclose(face.landmarks, TEMPLATE, atol=1e-12)


def test_an_aligned_crop_of_another_size_is_resized() -> None:
    y, x = np.mgrid[0:224, 0:224] / 223
    crop = np.round(np.stack([255 * x, 255 * y, 255 * x * y], -1)).astype(np.uint8)
    ((_, out),) = aligned_faces(crop, Aligned())
    np.testing.assert_allclose(out, crop.reshape(112, 2, 112, 2, 3).mean((1, 3)), atol=1)
    ((_, grown),) = aligned_faces(crop[::4, ::4], Aligned())
    np.testing.assert_allclose(grown[4:-4, 4:-4], out[4:-4, 4:-4], atol=6)


def test_an_aligned_crop_96_wide_stands_in_the_middle() -> None:
    crop = np.full((112, 96, 3), 77, np.uint8)
    ((face, out),) = aligned_faces(crop, Aligned())
    np.testing.assert_allclose(face.landmarks, TEMPLATE - np.array([8, 0]), atol=1e-12)
    assert (out[:, 8:104] == 77).all()
    assert not out[:, :8].any()
    assert not out[:, 104:].any()


class Finds:
    """A detector that finds what it is told."""

    source = "told"

    def __init__(self, *faces: Face) -> None:
        self.faces = list(faces)

    def detect(self, photo: Pixels) -> list[Face]:
        return self.faces


def test_policies_reach_through_to_the_crops() -> None:
    photo = np.random.default_rng(2).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    small, large = placed(0.5, 0.0, 130, 130), placed(1.2, 0.1, 20, 20)
    assert [face for face, _ in aligned_faces(photo, Finds(small, large), "largest")] == [large]
    both = aligned_faces(photo, Finds(small, large), "all")
    assert [face for face, _ in both] == [small, large]
    for face, crop in both:
        np.testing.assert_array_equal(crop, align(photo, face))
    with pytest.raises(SeveralFaces):
        aligned_faces(photo, Finds(small, large), "refuse")
    with pytest.raises(NoFace):
        aligned_faces(photo, Finds(), "all")


@pytest.mark.shared
def test_crops_of_the_benchmark_are_made_again(shared: Path) -> None:
    """The photos of LFW through read, detect and align give the published crops, but for the loss of their JPEG."""
    detector = YuNet(shared / "models/yunet_n_dynamic.onnx")
    with (
        tarfile.open(shared / "data/lfw/lfw-photos-folds1-3.tar") as photos,
        tarfile.open(shared / "data/lfw/lfw-crops.tar") as crops,
    ):
        names = [member.name for member in photos if member.isfile()][::60]
        for name in names:
            photo, crop = (read_photo(io.BytesIO(tar.extractfile(name).read()).getvalue()) for tar in (photos, crops))
            ((_, aligned),) = aligned_faces(photo, detector, "central")
            assert np.abs(aligned.astype(float) - crop).mean() < 4, name


@pytest.mark.shared
def test_a_tilted_head_is_set_upright(shared: Path) -> None:
    """A photo turned together with its landmarks gives the crop of the photo as it was; a box would stay tilted."""
    with tarfile.open(shared / "data/lfw/lfw-photos-folds1-3.tar") as photos:
        photo = read_photo(photos.extractfile("Aaron_Sorkin/Aaron_Sorkin_0001.jpg").read())
    ((face, upright),) = aligned_faces(photo, YuNet(shared / "models/yunet_n_dynamic.onnx"), "central")
    turn = cv2.getRotationMatrix2D((125, 125), 35, 1)
    turned = np.array(face.landmarks) @ turn[:, :2].T + turn[:, 2]
    tilted = Face(face.box, face.score, tuple((x, y) for x, y in turned.tolist()), face.source)
    crop = align(cv2.warpAffine(photo, turn, (250, 250)), tilted)
    assert np.abs(crop[20:100, 20:92].astype(float) - upright[20:100, 20:92]).mean() < 4
