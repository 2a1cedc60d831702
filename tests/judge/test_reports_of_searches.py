"""The pages of identification, clustering and retrieval: what they say, alone, and the documents beside them."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pages import Page, assert_alone
from PIL import Image

from facespace.core.contracts import AlignedFaces, Face, Photo, Vectors
from facespace.core.scores import unit_vectors
from facespace.faces.detect import Aligned
from facespace.judge.clustering import ClusteringEvaluation, clustering, run_clustering
from facespace.judge.contents import mixed, scattered, worst_found
from facespace.judge.galleries import STRANGER, Gallery, GalleryProtocol, run_galleries
from facespace.judge.groups import read_groups
from facespace.judge.identification import Enrolment, identification
from facespace.judge.page import percent, span
from facespace.judge.pooling import Templates
from facespace.judge.report import Report
from facespace.judge.retrieval import RetrievalEvaluation, retrieval, run_retrieval
from facespace.judge.searching import IdentificationEvaluation, run_identification

PEOPLE, PHOTOS = 24, 4


class Colours:
    """A person is a colour: the mean red, green and blue of the picture."""

    name, dim, contract = "colours <1>", 3, "c0105"

    def embed(self, faces: AlignedFaces) -> Vectors:
        return unit_vectors(faces.reshape(len(faces), -1, 3).mean(1) - 127.3)

    def similarity(self, a: Vectors, b: Vectors) -> NDArray[np.float32]:
        return a @ b.T


class BlackHasNoFace(Aligned):
    """Finds a face everywhere but in black photos."""

    def detect(self, photo: Photo) -> list[Face]:
        return super().detect(photo) if photo.any() else []


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """People of a colour each; the first photos of two of them show nobody."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for person in range(PEOPLE):
        (root / f"p{person:02d}").mkdir()
        colour = rng.integers(30, 225, 3)
        for i in range(PHOTOS):
            rgb = (colour + rng.integers(-18, 19, 3)) * (person > 1 or i > 0)
            stream = io.BytesIO()
            Image.new("RGB", (112, 112), tuple(rgb.tolist())).save(stream, "PNG")
            (root / f"p{person:02d}" / f"{i}.png").write_bytes(stream.getvalue())
    return root


@pytest.fixture(scope="module")
def identified(data: Path, tmp_path_factory: pytest.TempPathFactory) -> IdentificationEvaluation:
    table = tmp_path_factory.mktemp("groups") / "groups.csv"
    table.write_text("person,half\n" + "".join(f"p{i:02d},{'ab'[i % 2]}\n" for i in range(PEOPLE)))
    protocol = identification(data, Enrolment(nonmates=0.4))
    return run_identification(protocol, Colours(), BlackHasNoFace(), threads=1, groups=read_groups(table))


@pytest.fixture(scope="module")
def clustered(data: Path) -> ClusteringEvaluation:
    return run_clustering(clustering(data), Colours(), BlackHasNoFace(), threshold=0.97, threads=1)


@pytest.fixture(scope="module")
def retrieved(data: Path) -> RetrievalEvaluation:
    return run_retrieval(retrieval(data), Colours(), BlackHasNoFace(), threads=1)


def labels_of(page: Page) -> list[str | None]:
    return [attrs["aria-label"] for tag, attrs in page.tags if tag == "svg"]


def written(report: Report, folder: Path) -> tuple[Page, dict[str, object]]:
    """The page, which needs nothing but itself and is small, and the document, which says what the page says."""
    report.write(folder / "report.html")
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert_alone(page := Page(text), text)
    assert len(text) < 3_000_000
    for expected in (report.evaluation.digest, "colours <1>", "MIT & more", "arcface_demo", "photos per second"):
        assert expected in page.text
    document = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert {key: document[key] for key in ("card", "recipe")} == {
        "card": {"licence": "MIT & more"},
        "recipe": {"name": "arcface_demo"},
    }
    assert {"model", "protocol", "failures", "speed", "data", "environment", "groups"} <= set(document)
    assert document["speed"]["peak_memory_bytes"] == report.evaluation.peak_memory_bytes
    return page, document


KNOWN: dict[str, dict[str, str]] = {"about": {"licence": "MIT & more"}, "recipe": {"name": "arcface_demo"}}


def test_the_page_of_identification(identified: IdentificationEvaluation, tmp_path: Path) -> None:
    page, document = written(Report(identified, about=KNOWN["about"], recipe=KNOWN["recipe"]), tmp_path)
    assert labels_of(page) == [
        "CMC",
        "scores of searches",
        "DET of identification",
        "thresholds by gallery",
        "map of people",
    ]
    first, at = identified.closed_set[0].share, identified.open_set[0].found
    assert first
    assert at
    for expected in (
        percent(first.rate),
        span(first.ci95),
        percent(at.tpir.rate),
        span(at.tpir.ci95),
        percent(at.fpir.rate, 3),
        f"{at.threshold:.4f}",
        "not shown: 40 non-mated searches cannot show an FPIR of 0.01",
        "FNIR at threshold",
        "2 people could not be enrolled" if len(identified.unenrolled) == 2 else "could not be enrolled",
        "no_face",
    ):
        assert expected in page.text, expected
    assert document["groups"]
    point = next(row.point for row in identified.thresholds if row.point)
    assert f"{point.ci95[0]:.4f} to {point.ci95[1]:.4f}" in page.text


def test_the_page_of_a_sets_own_galleries(data: Path, tmp_path: Path) -> None:
    """Half of the photos of each person make a template that stands in the gallery, the others one that searches."""
    photos = retrieval(data)
    count = len(photos.photos)
    halves = Templates(photos.photos, photos.read, np.arange(count), np.arange(count) // 2, np.zeros(count, np.int64))
    persons = np.repeat(np.arange(PEOPLE), 2)
    galleries = tuple(Gallery(name, np.arange(start, 2 * PEOPLE, 4)) for name, start in (("G1", 0), ("G2", 2)))
    persons[-1] = STRANGER
    protocol = GalleryProtocol(
        "lists-1n", halves, tuple(map(str, range(2 * PEOPLE))), persons, np.arange(1, 2 * PEOPLE, 2), galleries
    )
    result = run_galleries(protocol, Colours(), BlackHasNoFace(), threads=1)
    page, document = written(Report(result, about=KNOWN["about"], recipe=KNOWN["recipe"]), tmp_path)
    assert labels_of(page) == ["CMC", "scores of searches", "DET of identification"] * 2 + ["map of people"]
    for one in result.searched:
        assert f"{one.gallery.name}: 12 templates" in page.text
        assert one.closed_set[0].share
        assert span(one.closed_set[0].share.ci95) in page.text
    rank_1 = [gallery["closed_set"][0]["rate"] for gallery in document["galleries"]]
    assert document["mean"]["closed_set"][0] == {"k": 1, "rate": pytest.approx(sum(rank_1) / 2)}
    assert f"rank 1{percent(sum(rank_1) / 2)}" in page.text.partition("Mean of the galleries")[2]


def test_without_strangers_the_open_set_is_said_not_to_be_measured(data: Path) -> None:
    protocol = identification(data, Enrolment(nonmates=0))
    page = Page(Report(run_identification(protocol, Colours(), BlackHasNoFace(), threads=1)).html())
    assert "DET: not measured (it takes searches of enrolled people and of others)" in page.text
    assert "Whether some groups of people fare worse than others: not measured" in page.text
    assert "DET of identification" not in labels_of(page)


def test_the_page_of_retrieval(retrieved: RetrievalEvaluation, tmp_path: Path) -> None:
    page, document = written(Report(retrieved, about=KNOWN["about"], recipe=KNOWN["recipe"]), tmp_path)
    assert labels_of(page) == ["recall", "map of people"]
    for recall in retrieved.recall_at:
        shown = f"not shown: {recall.refused}" if recall.refused else span(recall.ci95)
        assert shown in page.text
    assert percent(retrieved.map_at_r) in page.text
    assert document["groups"] == "not measured"


def test_who_is_found_worst_is_counted_query_by_query(retrieved: RetrievalEvaluation) -> None:
    ranks, photos = retrieved.ranks, retrieved.protocol.photos
    of: dict[str, list[tuple[float, bool]]] = {}
    for query, precision, rank in zip(ranks.queries, ranks.average_precision, ranks.first_mate, strict=True):
        of.setdefault(photos[query].split("/")[0], []).append((precision, rank == 1))
    expected = sorted((float(np.mean([p for p, _ in rows])), name) for name, rows in of.items())[:10]
    found = worst_found(retrieved)
    assert [(pytest.approx(one.map_at_r), one.name) for one in found] == [row for row in expected if row[0] < 1]
    assert {one.name: one.recall_at_1 for one in found} == {
        one.name: pytest.approx(np.mean([at_1 for _, at_1 in of[one.name]])) for one in found
    }
    assert all(one.queries == PHOTOS for one in found)


def test_the_page_of_clustering(clustered: ClusteringEvaluation, tmp_path: Path) -> None:
    page, document = written(Report(clustered, about=KNOWN["about"], recipe=KNOWN["recipe"]), tmp_path)
    assert labels_of(page) == ["agreement", "number of clusters", "map of people"]
    for agreed in (clustered.pairwise, clustered.bcubed):
        for share in (agreed.precision, agreed.recall, agreed.f):
            assert percent(share.value) in page.text
            assert span(share.ci95) in page.text
    assert f"{clustered.ari:.4f}" in page.text
    assert len(document["by_threshold"]) == len(clustered.by_threshold)  # type: ignore[arg-type]


def test_what_went_wrong_in_clusters_is_counted_photo_by_photo(clustered: ClusteringEvaluation) -> None:
    of_person: dict[str, list[int]] = {}
    of_cluster: dict[int, list[str]] = {}
    for name, cluster in zip(clustered.protocol.photos, clustered.clusters.tolist(), strict=True):
        of_person.setdefault(name.split("/")[0], []).append(cluster)
        of_cluster.setdefault(cluster, []).append(name.split("/")[0])
    people = sorted(((-len(set(c)), name) for name, c in of_person.items() if len(set(c)) > 1))[:10]
    assert [(-one.clusters, one.name) for one in scattered(clustered)] == people
    for one in scattered(clustered):
        held = of_person[one.name]
        assert (one.photos, one.together) == (len(held), max(held.count(c) for c in held))
    found = mixed(clustered)
    assert found
    assert [one.people for one in found] == sorted((len(set(p)) for p in of_cluster.values()), reverse=True)[
        : len(found)
    ]
    for row in found:
        held_by = next(p for p in of_cluster.values() if len(p) == row.photos and set(row.names) <= set(p))
        counts = sorted((held_by.count(name) for name in set(held_by)), reverse=True)
        assert [held_by.count(name) for name in row.names] == counts[:3]


def test_nobody_with_a_face_still_makes_a_page(tmp_path: Path) -> None:
    for name in ("a/1", "a/2", "b/1", "b/2"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (112, 112)).save(tmp_path / f"{name}.png")
    clusters = run_clustering(clustering(tmp_path), Colours(), BlackHasNoFace(), threads=1)
    queries = run_retrieval(retrieval(tmp_path), Colours(), BlackHasNoFace(), threads=1)
    searches = run_identification(
        identification(tmp_path, Enrolment(nonmates=0)), Colours(), BlackHasNoFace(), threads=1
    )
    for evaluation in (clusters, queries, searches):
        page = Page(Report(evaluation).html())
        assert page.open == []
        assert "Map of people: not measured" in page.text
        json.dumps(Report(evaluation).document(), allow_nan=False)
