"""Two photos, one question."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facespace.core.contracts import Face, Photo
from facespace.errors import BadImage, NoFace, SeveralFaces, UsageError
from facespace.faces.detect import Aligned
from facespace.faces.photo import read_photo
from facespace.models.embedder import load
from facespace.models.matching import UNCALIBRATED, decision_point, verify
from tiny_onnx import save_tiny


class Many:
    """A detector for tests that finds the given boxes."""

    source = "many@1"

    def __init__(self, *boxes: tuple[float, float, float, float]) -> None:
        self.boxes = boxes

    def detect(self, photo: Photo) -> list[Face]:
        landmarks = Aligned().detect(photo)[0].landmarks
        return [Face(box, 0.9, landmarks, self.source) for box in self.boxes]


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Two saturated crops: a mistake in the order of the channels would show."""
    made = []
    for name, colour in (("red", (250, 10, 30)), ("blue", (20, 40, 240))):
        pixels = np.random.default_rng(len(name)).integers(0, 90, (112, 112, 3)) + np.array(colour) // 2
        path = tmp_path / f"{name}.png"
        Image.fromarray(pixels.astype(np.uint8)).save(path)
        made.append(path)
    return made


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "tiny.onnx", card={})


def test_a_photo_is_itself(photos: list[Path], tiny: Path) -> None:
    """Both sides go the same way, channels and all."""
    for path in photos:
        verdict = verify(path, path, load(tiny), Aligned())
        assert verdict.same
        assert verdict.similarity == pytest.approx(1, abs=1e-6)


def test_the_verdict_is_the_cosine_of_the_crops_against_the_threshold(photos: list[Path], tiny: Path) -> None:
    embedder = load(tiny)
    a, b = embedder.embed(np.stack([read_photo(path) for path in photos])).astype(np.float64)
    for threshold in (float(a @ b) - 1e-3, float(a @ b) + 1e-3):
        verdict = verify(*photos, embedder, Aligned(), threshold=threshold)
        assert verdict.similarity == pytest.approx(float(a @ b), abs=1e-6)
        assert verdict.same == (threshold < a @ b)
        assert (verdict.threshold, verdict.at) == (threshold, "given")


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.5])
def test_any_finite_threshold_is_obeyed_and_equality_is_the_same_person(
    photos: list[Path], tiny: Path, threshold: float
) -> None:
    """Zero is a threshold like any other."""
    embedder = load(tiny)
    verdict = verify(*photos, embedder, Aligned(), threshold=threshold)
    assert verdict.same is (verdict.similarity >= threshold)
    assert verify(*photos, embedder, Aligned(), threshold=verdict.similarity).same
    for bad in (float("nan"), float("inf")):
        with pytest.raises(UsageError):
            verify(*photos, embedder, Aligned(), threshold=bad)


POINTS = [{"at": "FMR=0.01", "threshold": 0.2}, {"at": "FMR=0.001", "threshold": 0.31}]


@pytest.mark.parametrize(
    ("points", "expected"),
    [(POINTS, ("FMR=0.001", 0.31)), (POINTS[:1], ("FMR=0.01", 0.2)), ([], ("uncalibrated", UNCALIBRATED.threshold))],
)
def test_the_threshold_is_the_cards_or_is_called_uncalibrated(tmp_path: Path, points: Any, expected: Any) -> None:
    point = decision_point(load(save_tiny(tmp_path / "t.onnx", card={"operating_points": points})))
    assert (point.at, point.threshold) == expected


def test_overridden_preprocessing_loses_the_cards_threshold(tmp_path: Path) -> None:
    path = save_tiny(tmp_path / "t.onnx", card={"operating_points": POINTS})
    assert decision_point(load(path, channels="bgr")).at == "uncalibrated"


def test_the_document_has_the_keys_of_the_contract(photos: list[Path], tiny: Path) -> None:
    document = json.loads(json.dumps(verify(*photos, load(tiny), Aligned()).as_json()))
    assert list(document) == ["same", "similarity", "threshold", "at", "log_likelihood_ratio", "faces"]
    assert document["log_likelihood_ratio"] is None
    assert [list(face) for face in document["faces"]] == [["file", "box", "score", "landmarks"]] * 2
    assert [face["file"] for face in document["faces"]] == [str(path) for path in photos]
    assert all(len(face["landmarks"]) == 5 and len(face["box"]) == 4 for face in document["faces"])


def test_no_face_several_faces_and_no_image_name_the_file(photos: list[Path], tiny: Path, tmp_path: Path) -> None:
    embedder = load(tiny)
    text = tmp_path / "text.jpg"
    text.write_text("not an image")
    box = (0.0, 0.0, 50.0, 50.0)
    for error, second, detector in (
        (NoFace, photos[1], Many()),
        (SeveralFaces, photos[1], Many(box, box)),
        (BadImage, text, Many(box)),
    ):
        first = photos[0] if error is BadImage else second
        with pytest.raises(error) as caught:
            verify(first, second, embedder, detector)
        assert caught.value.file == str(second)


def test_a_policy_takes_one_of_several_faces(photos: list[Path], tiny: Path) -> None:
    """One comparison is made, never the best of many."""
    small, large = (40.0, 40.0, 20.0, 20.0), (0.0, 0.0, 60.0, 60.0)
    verdict = verify(*photos, load(tiny), Many(small, large), policy="largest")
    assert [face.box for face in verdict.faces] == [large, large]
    with pytest.raises(UsageError):
        verify(*photos, load(tiny), Many(small), policy="all")
