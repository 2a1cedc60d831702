"""The clustering protocol from bytes to figures, with an embedder small enough to follow."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from facespace.core.contracts import AlignedFaces, Vectors
from facespace.core.partitions import adjusted_rand_index, bcubed, normalised_mutual_information, pairwise, tabulate
from facespace.core.scores import unit_vectors
from facespace.errors import DataError, Refused
from facespace.faces.detect import Aligned
from facespace.judge.clustering import STEPS, ClusteringProtocol, clustering, run_clustering


class Colours:
    """A person is a colour: the mean red, green and blue of the picture."""

    name, dim, contract = "colours", 3, "c0105"

    def embed(self, faces: AlignedFaces) -> Vectors:
        return unit_vectors(faces.reshape(len(faces), -1, 3).mean(1) - 127.3)

    def similarity(self, a: Vectors, b: Vectors) -> NDArray[np.float32]:
        return a @ b.T


class Distances(Colours):
    """Compares by something else than cosine."""

    name = "distances"

    def similarity(self, a: Vectors, b: Vectors) -> NDArray[np.float32]:
        return -np.linalg.norm(a[:, None] - b[None], axis=2).astype(np.float32)


def protocol_of(people: int, photos: int = 4, spread: int = 25) -> tuple[ClusteringProtocol, dict[str, bytes]]:
    content, rng = {}, np.random.default_rng(0)
    for person in range(people):
        own = rng.integers(30, 225, 3)
        for i in range(photos):
            stream = io.BytesIO()
            rgb = (own + rng.integers(-spread, spread + 1, 3)).clip(0, 255)
            Image.new("RGB", (112, 112), tuple(rgb.tolist())).save(stream, "PNG")
            content[f"p{person:02d}/{i}.png"] = stream.getvalue()
    names = tuple(content)
    persons = tuple(f"p{person:02d}" for person in range(people))
    return ClusteringProtocol(names, np.repeat(np.arange(people), photos), persons, content.__getitem__), content


def joined_by_hand(vectors: Vectors, threshold: float) -> NDArray[np.int64]:
    """Average linkage by its definition: the two clusters of highest mean cosine join, while it is high enough."""
    groups = [[i] for i in range(len(vectors))]
    cosines = vectors.astype(np.float64) @ vectors.T
    while len(groups) > 1:
        best = max(
            ((cosines[np.ix_(a, b)].mean(), i, j) for i, a in enumerate(groups) for j, b in enumerate(groups[:i])),
        )
        if best[0] < threshold:
            break
        groups[best[2]] += groups.pop(best[1])
    labels = np.empty(len(vectors), np.int64)
    for number, group in enumerate(groups):
        labels[group] = number
    return labels


def test_figures_are_those_of_clusters_made_by_hand() -> None:
    protocol, content = protocol_of(8)
    result = run_clustering(protocol, Colours(), Aligned(), threshold=0.9, threads=2)
    faces = np.stack([np.asarray(Image.open(io.BytesIO(content[name]))) for name in protocol.photos])
    table = tabulate(protocol.labels, joined_by_hand(Colours().embed(faces), 0.9))
    assert adjusted_rand_index(tabulate(result.clusters, joined_by_hand(Colours().embed(faces), 0.9))) == 1
    assert result.ari == adjusted_rand_index(table)
    assert result.nmi == normalised_mutual_information(table)
    for mine, plain in ((result.pairwise, pairwise(table)), (result.bcubed, bcubed(table))):
        assert (mine.precision.value, mine.recall.value, mine.f.value) == tuple(map(float, plain))
        assert mine.f.ci95[0] < mine.f.value < mine.f.ci95[1]
    assert 0 < result.pairwise.f.value < 1


def test_the_threshold_is_the_models_own_unless_one_is_given() -> None:
    protocol, _ = protocol_of(5)
    own, given = (run_clustering(protocol, Colours(), Aligned(), threshold=t, threads=1) for t in (None, 0.99))
    assert (own.point.at, given.point.at, given.point.threshold) == ("uncalibrated", "given", 0.99)
    assert given.found > own.found


def test_the_curves_over_thresholds_are_runs_at_these_thresholds() -> None:
    """From one cluster to all apart."""
    protocol, content = protocol_of(6)
    content["p00/0.png"] = b"not an image"
    result = run_clustering(protocol, Colours(), Aligned(), threads=1)
    rows = result.by_threshold
    assert (rows[0].clusters, rows[-1].clusters, len(rows)) == (2, 24, STEPS)  # the photo without a face is alone
    for row in rows[::6]:
        one = run_clustering(protocol, Colours(), Aligned(), threshold=row.threshold, threads=1)
        expected = (one.found, one.pairwise.f.value, one.bcubed.f.value, one.nmi, one.ari)
        assert (row.clusters, row.pairwise_f, row.bcubed_f, row.nmi, row.ari) == expected
    assert result.as_json()["by_threshold"][3]["threshold"] == rows[3].threshold


def test_a_photo_without_a_face_is_alone_and_stays_in_the_count() -> None:
    protocol, content = protocol_of(6, spread=0)
    whole = run_clustering(protocol, Colours(), Aligned(), threshold=0.999, threads=1)
    assert (whole.pairwise.recall.value, whole.found) == (1, 6)
    assert whole.pairwise.recall.ci95[0] < 0.7  # six people prove little
    content["p00/0.png"] = content["p01/0.png"] = b"not an image"
    broken = run_clustering(protocol, Colours(), Aligned(), threshold=0.999, threads=1)
    assert broken.found == 8
    assert broken.pairwise.recall.value == pytest.approx((4 * 6 + 2 * 3) / 36)
    assert broken.pairwise.precision.value == 1
    assert broken.as_json()["failures"]["to_acquire"] == 2


def test_all_photos_may_fail() -> None:
    protocol, content = protocol_of(3)
    content.update(dict.fromkeys(content, b"nothing"))
    result = run_clustering(protocol, Colours(), Aligned(), threads=1)
    assert (result.found, result.by_threshold) == (12, ())


def test_a_model_that_compares_otherwise_is_refused() -> None:
    with pytest.raises(Refused, match="by cosine") as refused:
        run_clustering(protocol_of(3)[0], Distances(), Aligned(), threshold=0.5, threads=1)
    assert refused.value.hint


def test_the_document_is_strict_json_and_the_same_again() -> None:
    one, other = (
        run_clustering(protocol_of(6)[0], Colours(), Aligned(), threshold=0.9, threads=t).as_json() for t in (1, 3)
    )
    assert json.loads(json.dumps(one, allow_nan=False))["linkage"] == "average"
    assert {k: one[k] for k in ("pairwise", "bcubed", "nmi", "ari")} == {
        k: other[k] for k in ("pairwise", "bcubed", "nmi", "ari")
    }
    assert set(one["bcubed"]) == {"precision", "recall", "f"}


def test_a_folder_is_read_and_one_without_anything_to_sort_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    protocol, content = protocol_of(3, photos=2)
    for name in protocol.photos:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content[name])
    assert clustering(tmp_path).photos == protocol.photos
    assert clustering(tmp_path).people == 3
    monkeypatch.setattr("facespace.judge.clustering.MOST_PHOTOS", 5)
    with pytest.raises(DataError, match="fit into memory"):
        clustering(tmp_path)
    for person in range(3):
        (tmp_path / f"p{person:02d}/1.png").unlink()
    with pytest.raises(DataError, match="nothing to sort"):
        clustering(tmp_path)
