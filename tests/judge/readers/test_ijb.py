"""IJB-B and IJB-C in InsightFace's layout, on drawn faces: pairs and searches against the formulas of public code."""

import io
import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from facespace.cli import app, protocols
from facespace.core.contracts import Photo
from facespace.core.geometry import TEMPLATE
from facespace.data.drawn import draw_crop, person
from facespace.errors import DataError
from facespace.faces.detect import Aligned
from facespace.judge.galleries import run_galleries
from facespace.judge.readers import ijb as room
from facespace.judge.readers.ijb import ijb
from facespace.judge.readers.ijb_searches import ijb_searches
from facespace.judge.run import run
from facespace.models.embedder import load
from tiny_onnx import save_tiny

PEOPLE, DIM = 12, 16
TEMPLATES = {3: 0, 7: 0} | {10 * who + part: who for who in range(1, PEOPLE) for part in (0, 1, 2)} | {152: 0}
"""Whose each is, by number."""
PHOTOS = 3 * len(TEMPLATES)
GALLERIES = [[t for t in TEMPLATES if t in (3, 10, 20, 30, 40, 50)], [60, 70, 80, 90, 100, 110]]
PROBES = [t for t in TEMPLATES if t not in GALLERIES[0] + GALLERIES[1]]
HEADER = "TEMPLATE_ID,SUBJECT_ID,FILENAME,SIGHTING_ID"


def listed() -> list[tuple[str, int, int]]:
    """Photo, template and medium: two photos of one medium, one of another; medium numbers recur among templates."""
    return [(f"{3 * at + part + 1}.jpg", t, 7 + part // 2) for at, t in enumerate(TEMPLATES) for part in range(3)]


def pairs() -> list[tuple[int, int, int]]:
    ids = list(TEMPLATES)
    return [(a, b, int(TEMPLATES[a] == TEMPLATES[b])) for i, a in enumerate(ids) for b in ids[i + 1 :]]


@cache
def crops() -> dict[str, Photo]:
    return {name: draw_crop(person(0, TEMPLATES[t]), at) for at, (name, t, _) in enumerate(listed())}


def scores() -> dict[str, float]:
    rng = np.random.default_rng(5)
    return {name: round(float(rng.uniform(0.1, 1)), 3) for name, _, _ in listed()}


def png(crop: Photo, left: int, top: int) -> bytes:
    """The crop within a larger photo, without loss."""
    canvas = np.full((150, 160, 3), 90, np.uint8)
    canvas[top : top + 112, left : left + 112] = crop
    stream = io.BytesIO()
    Image.fromarray(canvas).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The set `ijbc`; every photo is larger than its face, and the landmarks say where that is."""
    root = tmp_path_factory.mktemp("made")
    (root / "meta").mkdir()
    (root / "loose_crop").mkdir()
    rng, points = np.random.default_rng(1), []
    for name, crop in crops().items():
        left, top = rng.integers(0, 38, 2).tolist()
        (root / "loose_crop" / name).write_bytes(png(crop, left, top))
        xy = " ".join(f"{value:.4f}" for value in (TEMPLATE + np.array([left, top])).ravel())
        points.append(f"{name} {xy} {scores()[name]}\n")
    write(root, "face_tid_mid", "".join(f"{name} {t} {m}\n" for name, t, m in listed()))
    write(root, "template_pair_label", "".join(f"{a} {b} {same}\n" for a, b, same in pairs()))
    write(root, "name_5pts_score", "".join(points))
    for part, subset in (("gallery_G1", GALLERIES[0]), ("gallery_G2", GALLERIES[1]), ("probe_mixed", PROBES)):
        rows = [f"{t},{1000 + TEMPLATES[t]},img/{row}.png,1" for t in subset for row in range(2)]  # a row per photo
        (root / "meta" / f"ijbc_1N_{part}.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return shutil.copytree(made, tmp_path / "set")


def write(root: Path, name: str, text: str) -> None:
    (root / "meta" / f"ijbc_{name}.txt").write_text(text)


def public_templates(model: Path, weighted: bool, lost: frozenset[str] = frozenset()) -> dict[int, NDArray[np.float64]]:
    """As public code: unit vectors times the detector's score, mean within a medium, sum over media, unit length."""
    embedder, found = load(model, threads=1), {}
    images = crops()
    for t in TEMPLATES:
        mine = [(name, m) for name, of, m in listed() if of == t and name not in lost]
        total = np.zeros(DIM)
        for medium in {m for _, m in mine}:
            rows = []
            for name in (name for name, m in mine if m == medium):
                vector = embedder.embed(images[name][None])[0].astype(np.float64)
                rows.append(vector / np.linalg.norm(vector) * (scores()[name] if weighted else 1))
            total += np.sum(rows, 0) / len(rows)
        found[t] = total / np.linalg.norm(total) if mine else np.full(DIM, np.nan)
    return found


def public_scores(model: Path, weighted: bool, lost: frozenset[str] = frozenset()) -> list[float]:
    """Their dot products; -inf where a template has no photo."""
    found = public_templates(model, weighted, lost)
    return [float(np.nan_to_num(found[a] @ found[b], nan=-np.inf)) for a, b, _ in pairs()]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("model") / "tiny.onnx", card={}, dim=DIM)


@pytest.mark.parametrize("weighted", [False, True])
def test_scores_of_templates_are_those_of_public_code_by_the_landmarks_of_the_set(
    root: Path, model: Path, weighted: bool
) -> None:
    result = run(ijb(root, "ijbc", weighted), load(model, threads=1), Aligned(), threads=2, pictures=2)
    np.testing.assert_allclose(result.scores, public_scores(model, weighted), atol=2e-4)  # bilinear at whole shifts
    assert result.environment["detector"] == "given"
    document = result.as_json()
    assert (document["data"]["images"], document["pairs"], document["data"]["people"]) == (PHOTOS, len(pairs()), None)
    assert set(result.crops) <= set(map(str, TEMPLATES))
    assert all(crop.shape == (112, 112, 3) for crop in result.crops.values())
    belief = [np.mean([np.mean([scores()[n] for n, of, m in listed() if (of, m) == (t, i)]) for i in (7, 8)])
              for t in TEMPLATES]  # fmt: skip
    np.testing.assert_allclose(result.compared.detector_scores, belief, atol=1e-6)


def test_folds_are_dealt_in_turn_and_nobody_is_named(root: Path) -> None:
    protocol = ijb(root, "ijbc")
    seen = {0: 0, 1: 0}
    for (_, _, same), fold in zip(pairs(), protocol.folds.tolist(), strict=True):
        assert fold == seen[same] % 10 + 1
        seen[same] += 1
    assert protocol.labels is None
    assert protocol.photos == tuple(map(str, TEMPLATES))
    read = [(protocol.photos[a], protocol.photos[b], int(s)) for a, b, s in zip(protocol.first, protocol.second,
            protocol.same, strict=True)]  # fmt: skip
    assert read == [(str(a), str(b), same) for a, b, same in pairs()]


def test_a_template_without_a_face_is_a_failure_to_enrol_that_keeps_its_pairs(root: Path, model: Path) -> None:
    for name, t, _ in listed():
        if t == 20 or name == "1.jpg":
            (root / "loose_crop" / name).write_bytes(b"no picture")
    lost = frozenset(name for name, t, _ in listed() if t == 20) | {"1.jpg"}
    result = run(ijb(root, "ijbc", True), load(model, threads=1), Aligned(), threads=1)
    wanted = public_scores(model, True, lost)
    np.testing.assert_array_equal(np.isneginf(result.scores), np.isneginf(wanted))
    np.testing.assert_array_equal(np.isneginf(wanted), [20 in pair[:2] for pair in pairs()])
    kept = np.isfinite(wanted)
    np.testing.assert_allclose(result.scores[kept], np.array(wanted)[kept], atol=2e-4)
    failures = result.as_json()["failures"]
    assert (failures["to_acquire"], failures["genuine_pairs"]) == (4, 2)
    assert result.as_json()["pairs"] == len(pairs())


def test_blocks_of_any_size_give_the_same_pairs(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ijb(root, "ijbc")
    write(root, "template_pair_label", "\r\n".join(f"{a}\t{b} {same}" for a, b, same in pairs()))  # no end of line
    for size in (1, 7, 64):
        monkeypatch.setattr(room, "_CHUNK", size)
        parts = ijb(root, "ijbc")
        for column in ("first", "second", "same", "folds"):
            np.testing.assert_array_equal(getattr(parts, column), getattr(whole, column))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("face_tid_mid", "1.jpg 3 7\n2.jpg 3\n", "line 2 is not: photo"),
        ("face_tid_mid", "1.jpg 3 x\n", "line 1 is not: photo"),
        ("face_tid_mid", "", "empty list"),
        ("face_tid_mid", "../secret.jpg 3 7\n", "no landmarks"),
        ("name_5pts_score", "1.jpg 1 2 3 4 5 6 7 8 9 10\n", "line 1 is not: photo"),
        ("name_5pts_score", "1.jpg 1 2 3 4 5 6 7 8 9 nan 0.5\n", "line 1 is not: photo"),
        ("name_5pts_score", "1.jpg 1 2 3 4 5 6 7 8 9 10 1.5\n", "line 1 is not: photo"),
        (
            "name_5pts_score",
            "1.jpg 1 2 3 4 5 6 7 8 9 10 0.5\n",
            f"of {PHOTOS} photos have no landmarks, first 2.jpg",
        ),
        ("template_pair_label", "3 7 1\n3 7 1 0\n", "line 2 is not: template"),
        ("template_pair_label", "3 7 1\n3\n7 1 11 0\n", "line 2 is not: template"),
        ("template_pair_label", "3 7 1\n3 7 2\n", "line 2 is not: template"),
        ("template_pair_label", "3 7 1\n3 -7 1\n", "line 2 is not: template"),
        ("template_pair_label", "3 7 1\n\n3 7 1\n", "line 2 is not: template"),
        ("template_pair_label", "3 99999999999999999999 1\n", "line 1 is not: template"),
        ("template_pair_label", "3 7 1\n7 99 0\n", "line 2: template 99 has no photo"),
        ("template_pair_label", "", "empty list"),
    ],
)
def test_a_malformed_line_is_refused_by_its_number(root: Path, name: str, text: str, said: str) -> None:
    write(root, name, text)
    with pytest.raises(DataError, match=said):
        ijb(root, "ijbc")


def test_the_line_of_a_later_block_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_CHUNK", 16)
    write(root, "template_pair_label", "3 7 1\n" * 20 + "3 7 1 0\n")
    with pytest.raises(DataError, match="line 21 is"):
        ijb(root, "ijbc")
    write(root, "template_pair_label", "3 7 1\n" * 20 + "3 8 1\n")
    with pytest.raises(DataError, match="line 21: template 8"):
        ijb(root, "ijbc")


def test_missing_photos_and_lists_are_errors(root: Path) -> None:
    (root / "loose_crop" / "2.jpg").unlink()
    with pytest.raises(DataError, match=f"1 of the {PHOTOS} photos of the list are missing, first 2"):
        ijb(root, "ijbc")
    with pytest.raises(DataError, match="no readable list"):
        ijb(root, "ijbb")


def evaluated(model: Path, root: Path, *more: str) -> tuple[int, Any]:
    arguments = ["evaluate", str(model), "--protocol", "ijbc", "--data", str(root), "--json", "--quiet", *more]
    done = CliRunner().invoke(app, arguments)
    return done.exit_code, json.loads(done.stdout)


def test_the_verb_judges_templates_without_a_detector(root: Path, model: Path) -> None:
    plain, weighted = (evaluated(model, root, "--quality", quality) for quality in ("none", "score"))
    assert (plain[0], weighted[0]) == (0, 0)
    assert (plain[1]["protocol"], plain[1]["folds"]) == ("ijbc", 10)
    assert plain[1]["threshold"] != weighted[1]["threshold"]
    status, document = evaluated(model, root, "--compatible-with", str(model))
    assert (status, document["error"]["code"]) == (2, "usage")


def test_two_models_are_compared_with_the_options_of_the_set(root: Path, model: Path) -> None:
    asked = ["compare", str(model), str(model), "--protocol", "ijbc", "--data", str(root), "--quality", "score"]
    done = CliRunner().invoke(app, [*asked, "--json", "--quiet"])
    assert done.exit_code == 0
    weighted = evaluated(model, root, "--quality", "score")[1]
    for one in json.loads(done.stdout)["models"]:
        assert (one["accuracy"], one["threshold"]) == (weighted["accuracy"], weighted["threshold"])


def test_a_report_shows_templates_by_their_photos_and_is_refused_for_millions_of_pairs(
    root: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = root / "page.html"
    assert evaluated(model, root, "--report", str(page))[0] == 0
    assert "data:image/jpeg" in page.read_text(encoding="utf-8")
    monkeypatch.setattr(protocols, "MOST_PAIRS", len(pairs()) - 1)
    status, document = evaluated(model, root, "--report", str(page))
    assert (status, document["error"]["code"]) == (2, "usage")


def public_searches(
    found: dict[int, NDArray[np.float64]], gallery: list[int]
) -> tuple[list[tuple[int, float]], list[float]]:
    """Rank and score of the mate for each probe whose subject is in the gallery, the best score for each other."""
    mated, others = [], []
    for probe in PROBES:
        ranked = sorted(((float(found[probe] @ found[t]), TEMPLATES[t]) for t in gallery), reverse=True)
        owners = [owner for _, owner in ranked]
        if TEMPLATES[probe] in owners:
            at = owners.index(TEMPLATES[probe])
            mated.append((at + 1, ranked[at][0]))
        else:
            others.append(ranked[0][0])
    return mated, others


def test_every_probe_searches_both_galleries_and_is_a_stranger_to_one(root: Path, model: Path) -> None:
    result = run_galleries(ijb_searches(root, "ijbc"), load(model, threads=1), Aligned(), threads=2)
    found = public_templates(model, weighted=False)
    document = result.as_json()
    assert [gallery["name"] for gallery in document["galleries"]] == ["G1", "G2"]
    for gallery, one, listing in zip(GALLERIES, result.searched, document["galleries"], strict=True):
        mated, others = public_searches(found, gallery)
        assert one.searches.ranks.tolist() == [rank for rank, _ in mated]
        np.testing.assert_allclose(one.searches.mates, [score for _, score in mated], atol=2e-4)
        np.testing.assert_allclose(one.searches.tops, others, atol=2e-4)
        rates = {rank["k"]: rank["rate"] for rank in listing["closed_set"]}
        assert rates[1] == np.mean([rank <= 1 for rank, _ in mated])
        assert rates[5] == np.mean([rank <= 5 for rank, _ in mated])
        assert rates[10] is None  # all are among ten of six
        assert listing["searches"] == {"mated": len(mated), "non_mated": len(others)}
        assert listing["tpir_at_fpir"][0]["fpir"] == 0.1
        allowed = sorted(others)[-1 - len(others) // 10]
        wanted = np.mean([score > allowed and rank == 1 for rank, score in mated])
        assert listing["tpir_at_fpir"][0]["tpir"] == pytest.approx(wanted)
    assert document["data"]["people"] == PEOPLE
    both = document["galleries"]
    assert [row["k"] for row in document["mean"]["closed_set"]] == [1, 2, 5]  # ten are refused
    for row in document["mean"]["closed_set"]:
        rates = [rank["rate"] for gallery in both for rank in gallery["closed_set"] if rank["k"] == row["k"]]
        assert row["rate"] == pytest.approx(sum(rates) / 2)
    (at,) = document["mean"]["tpir_at_fpir"]
    assert at == {"fpir": 0.1, "tpir": pytest.approx(sum(g["tpir_at_fpir"][0]["tpir"] for g in both) / 2)}


def test_templates_without_a_face_are_not_enrolled_or_return_nothing(root: Path, model: Path) -> None:
    for name, t, _ in listed():
        if t in (10, 21):
            (root / "loose_crop" / name).write_bytes(b"no picture")
    result = run_galleries(ijb_searches(root, "ijbc", True), load(model, threads=1), Aligned(), threads=1)
    first, second = result.as_json()["galleries"]
    assert (first["unenrolled"], second["unenrolled"]) == (["10"], [])
    assert result.as_json()["failures"]["searches"] == 1
    mated = [t for t in PROBES if TEMPLATES[t] in {TEMPLATES[g] for g in GALLERIES[0]}]
    lost = [TEMPLATES[t] == TEMPLATES[10] or t == 21 for t in mated]
    np.testing.assert_array_equal(np.isneginf(result.searched[0].searches.mates), lost)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1 has not the columns"),
        ("TEMPLATE_ID,SIGHTING_ID\n3,1\n", "line 1 has not the columns"),
        (HEADER + "\n", "empty list"),
        (HEADER + "\n3,1000,a.png,1\n10,x,a.png,1\n", "line 3 is not: template"),
        (HEADER + "\n3\n", "line 2 is not: template"),
        (HEADER + "\n3,1000,a.png,1\n999,1000,a.png,1\n", "line 3: template 999 has no photo"),
        (HEADER + "\n3,1000,a.png,1\n3,1001,a.png,1\n", "line 3: template 3 is subject 1001's, and was 1000's"),
    ],
)
def test_malformed_lists_of_galleries_are_refused_by_line(root: Path, text: str, said: str) -> None:
    (root / "meta" / "ijbc_1N_gallery_G2.csv").write_text(text)
    with pytest.raises(DataError, match=said):
        ijb_searches(root, "ijbc")


def test_the_verb_prints_both_galleries(root: Path, model: Path) -> None:
    asked = ["evaluate", str(model), "--protocol", "ijbc-1n", "--data", str(root), "--quiet"]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0
    for word in ("gallery G1 of 6", "gallery G2 of 6", "rank 1", "TPIR at FPIR 10 %", "mean of the galleries"):
        assert word in done.stdout
