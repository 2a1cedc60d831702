"""Photos to vectors, and the files they are kept in."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facespace.core.contracts import Face, Photo
from facespace.errors import BadImage, MissingExtra, NoFace, UsageError
from facespace.faces.align import aligned_faces
from facespace.faces.detect import Aligned
from facespace.faces.photo import read_photo
from facespace.models.embedder import NetEmbedder, load
from facespace.models.photos import detect_photos, embed_photos, photo_paths, save_vectors
from tiny_onnx import save_tiny


class Redness:
    """A detector for tests: as many faces as the red of the first pixel says."""

    source = "redness@1"

    def detect(self, photo: Photo) -> list[Face]:
        landmarks = Aligned().detect(photo)[0].landmarks
        return [Face((i, i, 10, 20), 0.9 - i / 10, landmarks, self.source) for i in range(int(photo[0, 0, 0]))]


@pytest.fixture
def embedder(tmp_path: Path) -> NetEmbedder:
    return load(save_tiny(tmp_path / "tiny.onnx", card={}), threads=2)


def photo(path: Path, faces: int) -> Path:
    pixels = np.random.default_rng(len(str(path)) + faces).integers(0, 256, (112, 112, 3), dtype=np.uint8)
    pixels[0, 0, 0] = faces
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Photos with 1, 0, 3 and 1 faces, a damaged one among them; more than one block."""
    rest = [photo(tmp_path / "p" / f"{i:02}.png", 1) for i in range(40)]
    (tmp_path / "p" / "bad.png").write_bytes(b"no photo")
    some = [photo(tmp_path / "p" / "zero.png", 0), tmp_path / "p" / "bad.png", photo(tmp_path / "p" / "three.png", 3)]
    return [*rest, *some, photo(tmp_path / "p" / "last.png", 1)]


def test_folders_stand_for_the_photos_below_them_in_order(tmp_path: Path) -> None:
    for name in ("b/2.JPG", "b/1.png", "a.webp", "b/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = photo_paths([tmp_path / "b", tmp_path / "a.webp", tmp_path / "absent.txt"])
    assert [str(p.relative_to(tmp_path)) for p in found] == ["b/1.png", "b/2.JPG", "a.webp", "absent.txt"]


def test_vectors_stand_in_the_order_of_the_photos(embedder: NetEmbedder, paths: list[Path]) -> None:
    """Threads change nothing; a photo that cannot be used is named and the others go on."""
    result = embed_photos(paths, embedder, Redness(), threads=3)
    expected = [(str(p), crop) for p in paths if p.stem not in ("zero", "bad") for _, crop in crops(p)]
    assert list(result.files) == [file for file, _ in expected]
    assert np.array_equal(result.vectors, embedder.embed(np.stack([crop for _, crop in expected])))
    assert [face.score for face in result.faces[-4:]] == [0.9, 0.8, 0.7, 0.9]
    assert [(type(error), Path(error.file or "").stem) for error in result.failures] == [
        (NoFace, "zero"),
        (BadImage, "bad"),
    ]
    assert result.metadata == {"model": "tiny", "contract": embedder.contract, "dim": 8, "detector": "redness@1"}


def crops(path: Path) -> list[tuple[Face, Photo]]:
    return aligned_faces(read_photo(path), Redness(), "all")


def test_a_policy_takes_one_face_of_several(embedder: NetEmbedder, paths: list[Path]) -> None:
    result = embed_photos(paths, embedder, Redness(), policy="refuse")
    assert len(result.faces) == 41
    assert {error.code for error in result.failures} == {"no_face", "several_faces", "bad_image"}


def test_a_detection_without_faces_is_an_answer(paths: list[Path]) -> None:
    found, failures = detect_photos(paths[-4:], Redness())
    assert [len(faces) for _, faces in found] == [0, 3, 1]
    assert [Path(error.file or "").stem for error in failures] == ["bad"]


def test_an_npz_holds_the_promised_arrays(embedder: NetEmbedder, paths: list[Path], tmp_path: Path) -> None:
    result = embed_photos(paths[-2:], embedder, Redness())
    save_vectors(result, tmp_path / "out" / "v.npz")
    with np.load(tmp_path / "out" / "v.npz", allow_pickle=False) as arrays:
        assert set(arrays) == {"embedding", "file", "box", "score", "metadata"}
        assert arrays["embedding"].dtype == np.float32
        assert np.array_equal(arrays["embedding"], result.vectors)
        assert arrays["file"].tolist() == [str(paths[-2])] * 3 + [str(paths[-1])]
        assert arrays["box"].tolist() == [[0, 0, 10, 20], [1, 1, 10, 20], [2, 2, 10, 20], [0, 0, 10, 20]]
        np.testing.assert_allclose(arrays["score"], [0.9, 0.8, 0.7, 0.9], rtol=1e-6)
        assert json.loads(str(arrays["metadata"]))["contract"] == embedder.contract


def test_no_faces_make_an_empty_file(embedder: NetEmbedder, tmp_path: Path) -> None:
    save_vectors(embed_photos([], embedder, Redness()), tmp_path / "v.npz")
    with np.load(tmp_path / "v.npz") as arrays:
        assert arrays["embedding"].shape == (0, 8)
        assert arrays["box"].shape == (0, 4)


def test_parquet_holds_the_same_or_says_what_is_missing(
    embedder: NetEmbedder, paths: list[Path], tmp_path: Path
) -> None:
    result = embed_photos(paths[-2:], embedder, Redness())
    if importlib.util.find_spec("pyarrow") is None:
        with pytest.raises(MissingExtra, match="pyarrow"):
            save_vectors(result, tmp_path / "v.parquet")
        return
    save_vectors(result, tmp_path / "v.parquet")
    table = importlib.import_module("pyarrow.parquet").read_table(tmp_path / "v.parquet")
    assert np.array_equal(np.array(table["embedding"].to_pylist(), np.float32), result.vectors)
    assert table["file"].to_pylist() == list(result.files)
    assert json.loads(table.schema.metadata[b"facespace"]) == result.metadata


def test_another_suffix_is_refused(embedder: NetEmbedder, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="npz"):
        save_vectors(embed_photos([], embedder, Redness()), tmp_path / "v.csv")
