"""Two photos, one question."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facespace.core.calibration import Logistic
from facespace.core.contracts import Embedder, Face, Photo
from facespace.core.drift import ImpostorScores
from facespace.errors import BadCard, BadImage, ContractMismatch, ModelError, NoFace, Refused, SeveralFaces, UsageError
from facespace.faces.detect import Aligned
from facespace.faces.photo import read_photo
from facespace.models.calibration import Calibration
from facespace.models.card import OperatingPoint, card_path, write_card
from facespace.models.embedder import load
from facespace.models.flipped import Flipped
from facespace.models.matching import UNCALIBRATED, calibration_of, decision_point, verify
from facespace.models.rescored import Rescored
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


def calibrated(path: Path, **changes: Any) -> Path:
    """A tiny model whose card holds a calibration for it, with `changes` to the latter."""
    embedder = load(save_tiny(path, card={}))
    calibration = Calibration(
        contract=embedder.contract,
        similarity="cosine",
        detector="aligned",
        data="ab" * 32,
        people=40,
        photos=120,
        failures=0,
        genuine_pairs=120,
        impostor_pairs=7020,
        least=-2.5,
        most=5.5,
        cllr=0.2,
        cllr_min=0.19,
        impostors=ImpostorScores((0.5,), (0.1,), (0.01,), 40),
        logistic=Logistic(2.0, -1.0),
    )
    points = tuple(
        OperatingPoint(f"FMR={fmr:g}", t, contract=embedder.contract) for fmr, t in ((0.01, 0.2), (0.001, 0.3))
    )
    write_card(replace(embedder.card, operating_points=points, calibration=replace(calibration, **changes)), path)
    return path


def test_a_calibrated_model_says_what_the_similarity_means(photos: list[Path], tmp_path: Path) -> None:
    embedder = load(calibrated(tmp_path / "c.onnx"))
    verdict = verify(*photos, embedder, Aligned())
    assert (verdict.at, verdict.threshold) == ("FMR=0.001", 0.3)
    assert verdict.log_likelihood_ratio == pytest.approx(2 * verdict.similarity - 1)
    document = verdict.as_json()["calibrated_on"]
    assert document == {"detector": "aligned", "people": 40, "photos": 120, "data": "ab" * 32, "same_detector": True}
    assert verify(*photos, embedder, Aligned(), fmr=0.01).threshold == 0.2
    assert verify(*photos, embedder, Aligned(), threshold=0.5).log_likelihood_ratio is not None


def test_faces_by_another_detector_than_calibrated_with_are_told(photos: list[Path], tmp_path: Path) -> None:
    verdict = verify(*photos, load(calibrated(tmp_path / "c.onnx")), Many((0.0, 0.0, 60.0, 60.0)))
    assert verdict.other_detector == "aligned"
    assert verdict.as_json()["calibrated_on"]["same_detector"] is False


def test_a_rate_that_the_card_does_not_state_is_refused(tmp_path: Path) -> None:
    embedder = load(calibrated(tmp_path / "c.onnx"))
    with pytest.raises(Refused, match=r"FMR=0\.0001"):
        decision_point(embedder, fmr=1e-4)
    with pytest.raises(UsageError):
        decision_point(embedder, threshold=0.3, fmr=0.01)
    for fmr in (5, 1, 0, -0.1, float("nan")):
        with pytest.raises(UsageError, match="between 0 and 1"):
            decision_point(embedder, fmr=fmr)


@pytest.mark.parametrize("times", [1, pytest.param(10, marks=pytest.mark.nightly)])
def test_t52_another_use_of_the_model_than_calibrated_decides_nothing(tmp_path: Path, times: int) -> None:
    """Twenty mismatches, nightly 200: weights, preprocessing, similarity, mirror image. None decides, each says why."""
    path = calibrated(tmp_path / "c.onnx")
    other = [{"contract": f"{number:012x}"} for number in range(5 * times)]
    other += [{"similarity": f"group-aware (split {number})"} for number in range(5 * times)]
    uses: list[Embedder] = [load(calibrated(tmp_path / f"{n}.onnx", **change)) for n, change in enumerate(other)]
    stated: list[dict[str, Any]] = [{"channels": "bgr"}, {"mean": 0.0}, {"mean": 127.0}, {"std": 127.5}, {"std": 1.0}]
    stated += [{"mean": 128.0 + number} for number in range(10 * times - 10)]
    uses += [load(path, **change) for change in stated]
    old = save_tiny(tmp_path / "old.onnx", card={"operating_points": POINTS})
    uses += [load(old, **change) for change in stated[:3]]
    uses += [Flipped(load(path)), Rescored(load(path), load(path).similarity, "joint")]
    assert len(uses) == 20 * times
    for use in uses:
        with pytest.raises(ContractMismatch, match=r"no threshold is known|were found"):
            decision_point(use)
        assert calibration_of(use) is None
        assert decision_point(use, threshold=0.4).at == "given"


@pytest.mark.parametrize("bits", [20, pytest.param(200, marks=pytest.mark.nightly)])
def test_t52_another_bit_of_the_weights_is_refused_when_the_model_is_loaded(tmp_path: Path, bits: int) -> None:
    """Bits among the numbers of its matrix."""
    path = calibrated(tmp_path / "c.onnx")
    right = path.read_bytes()
    for place in np.random.default_rng(0).integers(len(right) // 2, len(right) - 200, bits).tolist():
        path.write_bytes(right[:place] + bytes([right[place] ^ 1 << place % 8]) + right[place + 1 :])
        with pytest.raises(ModelError):
            load(path)


def test_a_card_copied_beside_other_weights_is_refused(tmp_path: Path) -> None:
    path, other = calibrated(tmp_path / "c.onnx"), save_tiny(tmp_path / "other.onnx", seed=1)
    card_path(other).write_bytes(card_path(path).read_bytes())
    with pytest.raises(BadCard, match="sha256"):
        load(other)


def test_the_document_has_the_keys_of_the_contract(photos: list[Path], tiny: Path) -> None:
    document = json.loads(json.dumps(verify(*photos, load(tiny), Aligned()).as_json()))
    assert list(document) == ["same", "similarity", "threshold", "at", "log_likelihood_ratio", "calibrated_on", "faces"]
    assert document["log_likelihood_ratio"] is None is document["calibrated_on"]
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
