"""The retrieval protocol from bytes to figures, with an embedder small enough to follow."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from facespace.core.contracts import AlignedFaces, Face, Photo, Vectors
from facespace.core.scores import unit_vectors
from facespace.errors import DataError
from facespace.faces.detect import Aligned
from facespace.judge.retrieval import KS, RetrievalProtocol, retrieval, run_retrieval


class Colours:
    """A class is a colour: the mean red, green and blue of the picture."""

    name, dim, contract = "colours", 3, "c0105"

    def embed(self, faces: AlignedFaces) -> Vectors:
        return unit_vectors(faces.reshape(len(faces), -1, 3).mean(1) - 127.3)

    def similarity(self, a: Vectors, b: Vectors) -> NDArray[np.float32]:
        return a @ b.T


class BlackHasNoFace(Aligned):
    """Finds a face everywhere but in black photos."""

    def detect(self, photo: Photo) -> list[Face]:
        return super().detect(photo) if photo.any() else []


def png(rgb: tuple[int, ...], size: tuple[int, int] = (112, 112)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, rgb).save(stream, "PNG")
    return stream.getvalue()


def coloured(sizes: list[int], spread: int = 15) -> dict[str, bytes]:
    """So many pictures of each class, each near the colour of its class."""
    content = {}
    for i, size in enumerate(sizes):
        own = np.random.default_rng([i]).integers(30, 225, 3)
        for j in range(size):
            near = own + np.random.default_rng([i, j]).integers(-spread, spread + 1, 3)
            content[f"class{i:02d}/{j}.png"] = png(tuple(near.tolist()))
    return content


def protocol_of(content: dict[str, bytes]) -> RetrievalProtocol:
    names = tuple(sorted(content))
    classes, labels = np.unique([name.split("/")[0] for name in names], return_inverse=True)
    return RetrievalProtocol(names, labels, tuple(classes.tolist()), content.__getitem__)


def test_figures_are_those_of_vectors_made_one_by_one() -> None:
    content = coloured([4] * 12 + [1, 1])
    protocol = protocol_of(content)
    result = run_retrieval(protocol, Colours(), Aligned(), threads=2)
    mean = {
        name: np.asarray(Image.open(io.BytesIO(content[name])), np.float64).mean((0, 1)) - 127.3 for name in content
    }
    unit = {name: v / np.linalg.norm(v) for name, v in mean.items()}
    queries = [name for name in sorted(content) if name < "class12"]
    for k in (1, 2, 8):
        hits = []
        for query in queries:
            nearest = sorted((n for n in sorted(content) if n != query), key=lambda n, q=query: -(unit[q] @ unit[n]))
            hits.append(any(n.split("/")[0] == query.split("/")[0] for n in nearest[:k]))
        (recall,) = (r for r in result.recall_at if r.k == k)
        assert recall.recall == pytest.approx(np.mean(hits))
        assert recall.ci95 is not None
        assert recall.ci95[0] < recall.recall <= recall.ci95[1]
    assert (len(result.ranks.queries), result.ranks.alone) == (48, 2)
    assert 0.3 < result.recall_at[0].recall < 1  # type: ignore[operator]


def test_workers_and_repetitions_change_nothing() -> None:
    """The bootstrap has a fixed seed."""
    protocol = protocol_of(coloured([3] * 20))
    one, other = (run_retrieval(protocol, Colours(), Aligned(), threads=threads).as_json() for threads in (1, 3))
    for key in ("recall_at", "map_at_r", "data", "queries"):
        assert one[key] == other[key]


def test_photos_without_a_face_only_lower_the_figures_and_stay_in_the_count() -> None:
    """A failed query is a miss; one whose only mate failed is a miss too."""
    content = coloured([2] * 30, spread=0)
    whole = run_retrieval(protocol_of(content), Colours(), BlackHasNoFace(), threads=2)
    assert whole.recall_at[0].recall == 1
    content["class03/1.png"], content["class07/0.png"] = png((0, 0, 0)), b"not an image"
    broken = run_retrieval(protocol_of(content), Colours(), BlackHasNoFace(), threads=2)
    assert broken.recall_at[0].recall == pytest.approx(56 / 60)
    assert len(broken.ranks.queries) == 60
    document = broken.as_json()
    assert document["failures"]["to_acquire"] == document["failures"]["queries"] == 2
    assert {failure["code"] for failure in document["failures"]["files"]} == {"no_face", "bad_image"}


def test_a_recall_that_all_models_reach_is_refused() -> None:
    result = run_retrieval(protocol_of(coloured([3, 3, 3])), Colours(), Aligned(), threads=1)
    assert [(r.k, r.refused is None) for r in result.recall_at] == [(k, k < 8) for k in KS]
    refused = result.recall_at[3]
    assert (refused.recall, refused.ci95) == (None, None)
    assert refused.refused == "the 8 nearest of 8 other photos are all of them"


def test_all_right_is_no_certainty() -> None:
    result = run_retrieval(protocol_of(coloured([3] * 10, spread=0)), Colours(), Aligned(), threads=1)
    recall = result.recall_at[0]
    assert recall.recall == 1
    assert recall.ci95 is not None
    assert recall.ci95[0] < 0.8


def test_the_document_is_strict_json_with_the_keys_of_the_command_line() -> None:
    document = run_retrieval(protocol_of(coloured([3] * 5 + [1])), Colours(), Aligned(), threads=1).as_json()
    assert set(document) == {
        *("model", "protocol", "queries", "without_mate", "recall_at", "map_at_r"),
        *("failures", "speed", "data", "environment"),
    }
    assert (document["protocol"], document["queries"], document["without_mate"]) == ("retrieval", 15, 1)
    assert all(set(recall) == {"k", "recall", "ci95", "refused"} for recall in document["recall_at"])
    assert set(document["map_at_r"]) == {"mean", "ci95"}
    assert document["data"]["images"] == 16
    assert document["data"]["people"] == 6
    assert json.loads(json.dumps(document, allow_nan=False)) is not None


def test_a_folder_of_classes_of_images_of_any_shape(tmp_path: Path) -> None:
    """With the detector `aligned` the middle square of an image is taken, and a narrow one stands between bars."""
    for name, rgb in (("bird/a", (200, 30, 30)), ("bird/b", (190, 40, 30)), ("car/a", (30, 30, 200))):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.png").write_bytes(png(rgb, (300, 200)))
    (tmp_path / "car/b.png").write_bytes(png((40, 40, 190), (150, 200)))
    protocol = retrieval(tmp_path)
    assert protocol.photos == ("bird/a.png", "bird/b.png", "car/a.png", "car/b.png")
    assert protocol.labels.tolist() == [0, 0, 1, 1]
    assert run_retrieval(protocol, Colours(), Aligned(), threads=1).recall_at[0].recall == 1


@pytest.mark.parametrize("files", [["a/1", "b/1"], ["a/1", "a/2", "b/1", "c/1"]])
def test_too_few_mates_are_refused(tmp_path: Path, files: list[str]) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.png").write_bytes(png((1, 2, 3)))
    with pytest.raises(DataError, match="needs two such") as refused:
        retrieval(tmp_path)
    assert refused.value.hint
