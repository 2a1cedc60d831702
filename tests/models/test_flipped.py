"""A face and its mirror image as one vector."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from facespace.core.contracts import ComparesPairs, Embedder
from facespace.errors import ModelError, UsageError
from facespace.faces.detect import Aligned
from facespace.judge.protocols import folder
from facespace.judge.run import run
from facespace.models.embedder import load
from facespace.models.flipped import Flipped, group_aware_of
from tiny_onnx import save_tiny


def some_faces(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 112, 112, 3), dtype=np.uint8)


def slow_sum(path: Path, face: np.ndarray) -> np.ndarray:
    """Raw features of one face and of its mirror image, added."""
    session = onnxruntime.InferenceSession(path)
    total = np.zeros(8)
    for seen in (face, face[:, ::-1]):
        pixels = (seen.astype(np.float32) - 127.5) / 128
        total += session.run(None, {"in": np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])})[0][0]
    return total


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "tiny.onnx", card={})


def test_raw_features_are_added_before_the_length_is_taken(path: Path) -> None:
    faces = some_faces(4)
    plain, flipped = load(path), Flipped(load(path))
    sums = np.stack([slow_sum(path, face) for face in faces])
    expected = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    vectors = flipped.embed(faces)
    np.testing.assert_allclose(vectors, expected, atol=1e-6)
    units = plain.embed(faces) + plain.embed(np.ascontiguousarray(faces[:, :, ::-1]))
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    assert np.abs(units - expected).max() > 1e-3  # the sum of unit vectors is another vector


def test_a_face_and_its_mirror_image_have_one_vector(path: Path) -> None:
    faces = some_faces(3)
    flipped = Flipped(load(path))
    mirrored = np.ascontiguousarray(faces[:, :, ::-1])
    np.testing.assert_allclose(flipped.embed(faces), flipped.embed(mirrored), atol=1e-6)


def test_raw_features_are_those_that_the_unit_vectors_are_made_of(path: Path) -> None:
    embedder, faces = load(path), some_faces(3)
    raw = embedder.raw(faces)
    assert raw.dtype == np.float32
    np.testing.assert_array_equal(embedder.comparable(raw), embedder.embed(faces))
    with pytest.raises(UsageError, match="faces are"):
        embedder.raw(faces[0])


def test_it_goes_where_an_embedder_goes_under_a_contract_of_its_own(path: Path, tmp_path: Path) -> None:
    from facespace.data.drawn import write_people

    write_people(tmp_path / "people", people=4, photos=3)
    plain = load(path)
    flipped: Embedder = Flipped(plain)
    assert isinstance(flipped, ComparesPairs)
    assert (flipped.name, flipped.dim) == ("tiny+flip", 8)
    assert len(flipped.contract) == 12
    assert flipped.contract != plain.contract
    result = run(folder(tmp_path / "people"), flipped, Aligned(), threads=1)
    assert result.model["name"] == "tiny+flip"
    vectors = flipped.embed(some_faces(5))
    np.testing.assert_allclose(flipped.similarity(vectors, vectors), vectors @ vectors.T, atol=1e-6)
    np.testing.assert_allclose(flipped.pair_similarity(vectors, vectors), np.ones(5), atol=1e-6)


def test_the_group_part_of_a_group_aware_model_is_averaged(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from facespace.models.nets.groupface import Groups
    from facespace.models.nets.trunks import TrunkSpec, build, save_trunk

    torch.manual_seed(0)
    spec = TrunkSpec("iresnet10-tiny", 112, 16, Groups(count=4, shared=32, hidden=8))
    save_trunk(tmp_path / "g.safetensors", build(spec).eval(), spec)
    embedder = load(tmp_path / "g.safetensors", threads=1, channels="rgb", mean=127.5, std=127.5)
    faces = some_faces(3)
    mirrored = np.ascontiguousarray(faces[:, :, ::-1])
    one, other = embedder.embed(faces).astype(np.float64), embedder.embed(mirrored).astype(np.float64)
    mean = (one + other) / 2
    mean[:, :16] /= np.linalg.norm(mean[:, :16], axis=1, keepdims=True)
    np.testing.assert_allclose(Flipped(embedder).embed(faces), mean, atol=1e-5)
    assert group_aware_of(Flipped(embedder)) == group_aware_of(embedder) == embedder.card.group_aware
    with pytest.raises(UsageError, match="do not concatenate"):
        Flipped(embedder, "concat")


def test_side_by_side_the_cosine_is_the_mean_of_those_of_faces_and_of_their_mirror_images(path: Path) -> None:
    faces = some_faces(5)
    plain, flipped = load(path), Flipped(load(path), "concat")
    assert (flipped.name, flipped.dim) == ("tiny+flip-concat", 16)
    assert len({plain.contract, Flipped(load(path)).contract, flipped.contract}) == 3
    one = plain.embed(faces).astype(np.float64)
    other = plain.embed(np.ascontiguousarray(faces[:, :, ::-1])).astype(np.float64)
    vectors = flipped.embed(faces)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    expected = np.array([[(one[i] @ one[j] + other[i] @ other[j]) / 2 for j in range(5)] for i in range(5)])
    np.testing.assert_allclose(flipped.similarity(vectors, vectors), expected, atol=1e-6)
    np.testing.assert_allclose(flipped.pair_similarity(vectors, vectors[::-1]), np.diag(expected[:, ::-1]), atol=1e-6)
    with pytest.raises(UsageError, match="unknown"):
        Flipped(load(path), "mean")  # type: ignore[arg-type]


def test_features_that_cancel_out_are_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signs = iter([1.0, -1.0])
    embedder = load(path)
    monkeypatch.setattr(embedder, "raw", lambda faces: np.full((len(faces), 8), next(signs), np.float32))
    with pytest.raises(ModelError, match="no direction"):
        Flipped(embedder).embed(some_faces(1))
