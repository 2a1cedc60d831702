"""A run from bytes to figures, with an embedder and a detector small enough to follow."""

import hashlib
import io
import json
import threading

import numpy as np
import pytest
from PIL import Image

from facespace.core.contracts import AlignedFaces, Face, Photo, Vectors
from facespace.core.scores import unit_vectors
from facespace.data.folder import PhotoRef
from facespace.errors import DataError
from facespace.faces.detect import Aligned
from facespace.judge.embedding import BATCH, embed_photos
from facespace.judge.protocols import PairProtocol, made_pairs
from facespace.judge.run import run, worst_pairs


class Colours:
    """A person is a colour: the mean red, green and blue of the face."""

    name, dim, contract = "colours", 3, "c0105"

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.threads: set[int] = set()

    def embed(self, faces: AlignedFaces) -> Vectors:
        self.batches.append(len(faces))
        self.threads.add(threading.get_ident())
        return unit_vectors(faces.reshape(len(faces), -1, 3).mean(1) - 127.3)

    def similarity(self, a: Vectors, b: Vectors) -> np.ndarray:
        return a @ b.T


class BlackHasNoFace(Aligned):
    """Finds a face everywhere but in black photos."""

    def detect(self, photo: Photo) -> list[Face]:
        return super().detect(photo) if photo.any() else []


def colour(person: int, photo: int) -> tuple[int, int, int]:
    rng = np.random.default_rng([person])
    return tuple((rng.integers(30, 225, 3) + np.random.default_rng([person, photo]).integers(-12, 12, 3)).tolist())


def png(rgb: tuple[int, int, int]) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (112, 112), rgb).save(stream, "PNG")
    return stream.getvalue()


def coloured_people(count: int = 30, each: int = 3) -> tuple[list[PhotoRef], dict[str, bytes]]:
    content = {f"p{i:02d}/{j}.png": png(colour(i, j)) for i in range(count) for j in range(each)}
    return [PhotoRef(name.split("/")[0], name) for name in content], content


def protocol_of(content: dict[str, bytes], photos: list[PhotoRef]) -> PairProtocol:
    return made_pairs(photos, content.__getitem__)


def test_scores_are_those_of_vectors_made_one_by_one() -> None:
    photos, content = coloured_people()
    protocol = protocol_of(content, photos)
    result = run(protocol, Colours(), Aligned(), threads=2)
    vectors = {}
    for name in protocol.photos:
        mean = np.asarray(Image.open(io.BytesIO(content[name])), dtype=np.float64).mean((0, 1)) - 127.3
        vectors[name] = mean / np.linalg.norm(mean)
    expected = [
        vectors[protocol.photos[a]] @ vectors[protocol.photos[b]]
        for a, b in zip(protocol.first, protocol.second, strict=True)
    ]
    np.testing.assert_allclose(result.scores, expected, atol=1e-6)
    assert result.figures.accuracy > 0.8


def test_the_number_of_workers_changes_nothing_and_each_photo_is_read_once() -> None:
    photos, content = coloured_people()
    reads: list[str] = []
    protocol = made_pairs(photos, lambda name: (reads.append(name), content[name])[1])
    results = [run(protocol, Colours(), Aligned(), threads=threads) for threads in (1, 3)]
    np.testing.assert_array_equal(results[0].scores, results[1].scores)
    assert results[0].digest == results[1].digest
    assert sorted(reads) == sorted(protocol.photos * 2)


def test_workers_embed_small_batches_and_report_every_photo() -> None:
    photos, content = coloured_people()
    embedder, heard = Colours(), []
    protocol = protocol_of(content, photos)
    embed_photos(protocol, embedder, Aligned(), "central", 2, lambda done, total: heard.append((done, total)))
    assert max(embedder.batches) == BATCH
    assert sum(embedder.batches) == len(photos) == 90
    assert heard == [(done, 90) for done in [*range(8, 90, 8), 90]]
    assert len(embedder.threads) <= 2


def test_photos_without_a_face_stay_in_every_denominator() -> None:
    """Findings D14 and D17: one black photo and one that is no image; kept and failed photos sum up."""
    photos, content = coloured_people()
    content["p03/1.png"], content["p07/0.png"] = png((0, 0, 0)), b"not an image"
    protocol = protocol_of(content, photos)
    result = run(protocol, Colours(), BlackHasNoFace(), threads=2)
    assert {failure.file: failure.code for failure in result.failures} == {
        "p03/1.png": "no_face",
        "p07/0.png": "bad_image",
    }
    lost = [
        any(protocol.photos[i] in ("p03/1.png", "p07/0.png") for i in pair)
        for pair in zip(protocol.first, protocol.second, strict=True)
    ]
    np.testing.assert_array_equal(np.isneginf(result.scores), lost)
    document = result.as_json()
    assert document["pairs"] == len(protocol.same)
    assert document["failures"]["to_acquire"] == 2
    assert document["failures"]["genuine_pairs"] == 4
    assert document["failures"]["impostor_pairs"] == sum(lost) - 4
    assert result.figures.curve.tar.max() == pytest.approx(1 - 4 / protocol.same.sum())


def test_a_photo_lost_only_lowers_the_figures() -> None:
    """Finding D18: absent pairs must never be credited."""
    photos, content = coloured_people()
    whole = run(protocol_of(content, photos), Colours(), Aligned(), threads=1).figures
    for name in list(content)[::4]:
        content[name] = b""
    broken = run(protocol_of(content, photos), Colours(), Aligned(), threads=1).figures
    assert broken.accuracy < whole.accuracy
    assert broken.auc < whole.auc


def test_a_file_that_cannot_be_read_at_all_stops_the_run() -> None:
    photos, content = coloured_people()

    def read(name: str) -> bytes:
        if name == "p05/1.png":
            raise DataError("gone", file=name)
        return content[name]

    with pytest.raises(DataError, match="gone"):
        run(made_pairs(photos, read), Colours(), Aligned(), threads=2)


def test_the_digest_is_of_names_and_contents() -> None:
    photos, content = coloured_people()
    result = run(protocol_of(content, photos), Colours(), Aligned(), threads=2)
    whole = hashlib.sha256()
    for name in sorted(content):
        whole.update(name.encode() + b"\0" + hashlib.sha256(content[name]).digest())
    assert result.digest == whole.hexdigest()
    content["p00/0.png"] = png(colour(1, 0))
    assert run(protocol_of(content, photos), Colours(), Aligned(), threads=2).digest != result.digest


def test_worst_pairs_are_the_ends_of_the_scores() -> None:
    photos, content = coloured_people()
    protocol = protocol_of(content, photos)
    result = run(protocol, Colours(), Aligned(), threads=1, pictures=4)
    for same, far_end in ((True, np.sort), (False, lambda scores: -np.sort(-scores))):
        worst = worst_pairs(protocol, result.scores, same, 4)
        np.testing.assert_array_equal([score for *_, score in worst], far_end(result.scores[protocol.same == same])[:4])
        for first, second, _ in worst:
            assert (first.split("/")[0] == second.split("/")[0]) == same
            assert result.crops[first].shape == (112, 112, 3)
            assert second in result.crops


def test_the_document_has_the_keys_of_the_command_line_and_is_strict_json() -> None:
    photos, content = coloured_people()
    document = run(protocol_of(content, photos), Colours(), Aligned(), threads=2).as_json()
    assert set(document) == {
        *("model", "protocol", "pairs", "folds", "accuracy", "val_at_far", "tar_at_far", "eer", "auc", "threshold"),
        *("ties", "intervals", "failures", "speed", "data", "environment"),
    }
    assert document["model"] == {"name": "colours", "contract": "c0105", "dim": 3}
    assert {"mean", "stderr", "std", "ci95"} <= document["accuracy"].keys()
    assert document["accuracy"]["stderr"] == pytest.approx(document["accuracy"]["std"] / document["folds"] ** 0.5)
    assert all({"far", "val", "achieved_far", "ci95"} <= rate.keys() for rate in document["val_at_far"])
    assert document["data"]["images"] == 90
    assert document["data"]["people"] == 30
    assert document["speed"]["images_per_s"] == pytest.approx(90 / document["speed"]["seconds"])
    assert document["environment"]["threads"] == 2
    assert document["environment"]["detector"] == "aligned"
    assert json.loads(json.dumps(document, allow_nan=False)) is not None
