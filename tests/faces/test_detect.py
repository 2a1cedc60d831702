"""What the detectors find, where they say it is, and which face a policy takes."""

import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from facespace.core.contracts import Detector, Face
from facespace.core.geometry import TEMPLATE
from facespace.errors import ModelError, ModelNotFound, NoFace, SeveralFaces, UsageError
from facespace.faces.detect import WEIGHTS, Aligned, YuNet, _enlarged, choose
from facespace.faces.photo import read_photo

YUNET = ["yunet_n_dynamic.onnx", "face_detection_yunet_2023mar.onnx"]


def face(x: float, y: float, width: float, height: float, score: float = 0.9) -> Face:
    return Face((x, y, width, height), score, tuple((px, py) for px, py in TEMPLATE.tolist()), "test")


@pytest.fixture(scope="module")
def portrait(shared: Path) -> NDArray[np.uint8]:
    with tarfile.open(shared / "data/lfw/lfw-photos-folds1-3.tar") as photos:
        return read_photo(photos.extractfile("Aaron_Sorkin/Aaron_Sorkin_0001.jpg").read())


def test_largest_takes_the_largest_box() -> None:
    faces = [face(0, 0, 30, 30, 0.99), face(50, 50, 20, 60, 0.6), face(9, 9, 35, 30, 0.7)]
    assert choose(faces, "largest", (200, 200, 3)) == [faces[1]]


def test_central_takes_the_largest_area_less_twice_the_squared_distance() -> None:
    """Worked by hand for a photo of 200 x 100: 400 - 0 against 2500 - 2 * 40 ** 2 and 900 - 2 * 10 ** 2."""
    middle, large, between = face(90, 40, 20, 20), face(35, 25, 50, 50), face(95, 35, 30, 30)
    assert choose([middle, large], "central", (100, 200, 3)) == [middle]
    assert choose([middle, large, between], "central", (100, 200, 3)) == [between]


@pytest.mark.parametrize("seed", range(10))
def test_central_agrees_with_the_rule_written_out(seed: int) -> None:
    rng = np.random.default_rng(seed)
    faces = [face(*rng.uniform(0, 200, 4).tolist()) for _ in range(7)]
    boxes = np.array([f.box for f in faces])
    distance = np.hypot(*(boxes[:, :2] + boxes[:, 2:] / 2 - np.array([160, 120])).T)
    expected = faces[int(np.argmax(boxes[:, 2:].prod(1) - 2 * distance**2))]
    assert choose(faces, "central", (240, 320, 3)) == [expected]


def test_all_keeps_every_face_in_order() -> None:
    faces = [face(0, 0, 9, 9, 0.9), face(0, 0, 99, 99, 0.8)]
    assert choose(faces, "all", (100, 100)) == faces


def test_refuse_wants_exactly_one() -> None:
    one = face(0, 0, 9, 9)
    assert choose([one], "refuse", (100, 100)) == [one]
    with pytest.raises(SeveralFaces, match="2 faces"):
        choose([one, one], "refuse", (100, 100))


@pytest.mark.parametrize("policy", ["largest", "central", "all", "refuse"])
def test_no_face_is_an_error_under_every_policy(policy: Any) -> None:
    with pytest.raises(NoFace):
        choose([], policy, (100, 100))


def test_an_unknown_policy_is_refused_before_anything_else() -> None:
    wrong: Any = "biggest"
    with pytest.raises(UsageError, match="biggest"):
        choose([], wrong, (100, 100))


def test_absent_weights_say_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FACESPACE_HOME", str(tmp_path))
    with pytest.raises(ModelNotFound) as caught:
        YuNet()
    assert caught.value.file == str(tmp_path / "models" / WEIGHTS)
    assert "facespace model pull yunet" in caught.value.hint
    assert "aligned" in caught.value.hint


def test_weights_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "w.onnx").write_bytes(b"no weights")
    with pytest.raises(ModelError):
        YuNet(tmp_path / "w.onnx")


@pytest.mark.parametrize("settings", [{"working_size": 16}, {"score": 0.0}, {"score": 1.0}])
def test_senseless_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        YuNet("anywhere", **settings)


def test_points_of_a_reduced_photo_go_back_to_where_they_were() -> None:
    """Point (x, y) of a photo reduced by area: pixel i stands for pixels s i ... s i + s - 1, whose middle it is."""
    rows = np.array([[2.0, 3.0, 10.0, 20.0, *range(10), 0.9]])
    (out,) = _enlarged(rows, 4.0, 2.0)
    for x, y, found in [(2, 3, out[:2]), *((i, i + 1, out[4 + i : 6 + i]) for i in range(0, 10, 2))]:
        assert found[0] == np.mean([4 * x + k for k in range(4)])
        assert found[1] == np.mean([2 * y + k for k in range(2)])
    assert out[2:4].tolist() == [40, 40]
    assert out[14] == 0.9


def test_detectors_keep_the_contract() -> None:
    detector: Detector = Aligned()
    assert detector.source == "aligned"
    (found,) = detector.detect(np.zeros((112, 112, 3), np.uint8))
    assert found.score == 1
    assert len(found.landmarks) == 5


@pytest.mark.shared
@pytest.mark.parametrize("weights", YUNET)
def test_yunet_finds_the_face_where_it_is(weights: str, shared: Path, portrait: NDArray[np.uint8]) -> None:
    detector: Detector = YuNet(shared / "models" / weights)
    assert detector.source == "yunet@640"
    found = detector.detect(portrait)[0]
    x, y, width, height = found.box
    assert 0.5 < found.score <= 1
    assert 40 < width < 140
    assert x < 125 < x + width
    assert y < 125 < y + height
    left_eye, right_eye, nose, left_mouth, right_mouth = found.landmarks
    assert left_eye[0] < nose[0] < right_eye[0]
    assert left_mouth[0] < right_mouth[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])


@pytest.mark.shared
@pytest.mark.parametrize("weights", YUNET)
def test_a_large_photo_gives_the_same_places_in_its_own_pixels(
    weights: str, shared: Path, portrait: NDArray[np.uint8]
) -> None:
    """Four times larger, reduced to the first size within: places are 4 (x + 1/2) - 1/2."""
    detector = YuNet(shared / "models" / weights, working_size=250)
    small = choose(detector.detect(portrait), "central", portrait.shape)[0]
    large = choose(detector.detect(np.kron(portrait, np.ones((4, 4, 1), np.uint8))), "central", (1000, 1000))[0]
    np.testing.assert_allclose(large.landmarks, 4 * (np.array(small.landmarks) + 0.5) - 0.5, atol=1e-3)
    np.testing.assert_allclose(large.box[2:], 4 * np.array(small.box[2:]), atol=1e-3)
    assert large.source == "yunet@250"


@pytest.mark.shared
def test_a_photo_within_the_working_size_is_looked_at_as_it_is(shared: Path, portrait: NDArray[np.uint8]) -> None:
    weights = shared / "models" / YUNET[0]
    at_250 = YuNet(weights, working_size=250).detect(portrait)
    at_640 = YuNet(weights, working_size=640).detect(portrait)
    assert [f.landmarks for f in at_250] == [f.landmarks for f in at_640]


@pytest.mark.shared
def test_a_group_is_found_best_score_first(shared: Path) -> None:
    photo = read_photo(shared / "data/rollcall/photos/bbt4.jpg")
    faces = YuNet(shared / "models" / YUNET[0]).detect(photo)
    assert len(faces) == 6
    assert [f.score for f in faces] == sorted((f.score for f in faces), reverse=True)


@pytest.mark.shared
@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (900, 1), (7, 5), (112, 112), (33, 2000)])
def test_photos_without_a_face_give_none_at_any_shape(shape: tuple[int, int], shared: Path) -> None:
    detector = YuNet(shared / "models" / YUNET[0])
    assert detector.detect(np.full((*shape, 3), 128, np.uint8)) == []


@pytest.mark.shared
def test_threads_share_a_detector(shared: Path, portrait: NDArray[np.uint8]) -> None:
    detector = YuNet(shared / "models" / YUNET[0])
    photos = [portrait, portrait[:200], np.ascontiguousarray(portrait[:, ::-1])] * 6
    alone = [detector.detect(photo) for photo in photos]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(detector.detect, photos)) == alone


@pytest.mark.shared
def test_opening_the_net_says_nothing_and_leaves_the_log_as_it_was(
    shared: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    level = cv2.utils.logging.getLogLevel()
    YuNet(shared / "models" / YUNET[0])
    assert capfd.readouterr().err == ""
    assert cv2.utils.logging.getLogLevel() == level
