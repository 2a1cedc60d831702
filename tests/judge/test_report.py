"""The report: one page that says what the evaluation says, alone."""

import base64
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pages import Page, assert_alone
from PIL import Image

from facespace.core.calibration import Logistic
from facespace.core.contracts import AlignedFaces, Vectors
from facespace.core.dependence import Share
from facespace.core.scores import unit_vectors
from facespace.data.folder import PhotoRef
from facespace.errors import UsageError
from facespace.faces.detect import Aligned
from facespace.judge.groups import Differential, GroupRate, Ratio
from facespace.judge.measures import calibrated, discarded, people_map, recipe_of
from facespace.judge.page import chance, check_report, percent, span
from facespace.judge.paired import PICTURES
from facespace.judge.protocols import made_pairs
from facespace.judge.report import Report
from facespace.judge.run import Evaluation, run
from facespace.judge.scored import Scored, read_scored


class Colours:
    """A person is a colour."""

    name, dim, contract = "colours <1>", 3, "c0105"

    def embed(self, faces: AlignedFaces) -> Vectors:
        return unit_vectors(faces.reshape(len(faces), -1, 3).mean(1) - 127.3)

    def similarity(self, a: Vectors, b: Vectors) -> np.ndarray:
        return a @ b.T


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    content, photos = {}, []
    rng = np.random.default_rng(0)
    for person in range(30):
        colour = rng.integers(30, 225, 3)
        for i in range(3):
            stream = io.BytesIO()
            Image.new("RGB", (112, 112), tuple((colour + rng.integers(-25, 25, 3)).tolist())).save(stream, "PNG")
            photos.append(PhotoRef(f"p{person:02d}", f"p{person:02d}/{i}.png"))
            content[photos[-1].name] = stream.getvalue()
    content["p04/1.png"] = b"<script>not an image</script>"
    return run(made_pairs(photos, content.__getitem__), Colours(), Aligned(), threads=2, pictures=PICTURES)


def test_the_page_nests_and_says_the_figures(evaluation: Evaluation) -> None:
    page = Page(Report(evaluation).html())
    assert page.open == []
    figures = evaluation.figures
    for expected in (
        percent(figures.accuracy),
        span(figures.accuracy_ci95),
        percent(figures.eer),
        f"{figures.auc:.5f}",
        "not shown: 90 impostor pairs cannot show a FAR of 0.001",
        "p04/1.png",
        "bad_image",
        evaluation.digest,
        "colours <1>",
    ):
        assert expected in page.text, expected


def test_the_page_needs_nothing_but_itself(evaluation: Evaluation) -> None:
    text = Report(evaluation).html()
    assert_alone(Page(text), text)
    assert "data:image/jpeg;base64," in text


def test_the_worst_pairs_are_pictures_of_the_faces_they_name(evaluation: Evaluation) -> None:
    page = Page(Report(evaluation).html())
    images = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(images) == 2 * 2 * PICTURES
    for attrs in images:
        content = base64.b64decode((attrs["src"] or "").partition(",")[2])
        picture = np.asarray(Image.open(io.BytesIO(content)), dtype=float)
        face = evaluation.crops[str(attrs["alt"])]
        assert picture.shape == (112, 112, 3)
        assert np.abs(picture.mean((0, 1)) - face.mean((0, 1))).max() < 3
    assert "holds pictures of faces" in page.text


def test_a_report_without_pictures_says_so(evaluation: Evaluation) -> None:
    page = Page(Report(replace(evaluation, crops={})).html())
    assert "img" not in {tag for tag, _ in page.tags}
    assert "holds no pictures of faces" in page.text


def test_card_and_training_stand_in_the_page(evaluation: Evaluation, tmp_path: Path) -> None:
    about = {"licence": "MIT & more", "input": {"size": 112}, "commercial": None}
    curves = [("loss", [0, 100, 200], [9.0, float("nan"), 3.0]), ("flat", [0, 1], [1.0, 1.0])]
    Report(evaluation, title="A <title>", about=about, curves=curves).write(tmp_path / "report.html")
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "A <title>" in page.text
    assert "MIT & more" in page.text
    assert '{"size": 112}' in page.text
    assert [tag for tag, _ in page.tags].count("svg") == 7
    assert (tmp_path / "report.html").stat().st_size < 3_000_000


def test_the_document_beside_the_page_has_every_pair_and_reads_back(evaluation: Evaluation, tmp_path: Path) -> None:
    Report(evaluation, recipe={"name": "arcface_demo"}).write(tmp_path / "report.html")
    document = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert document["accuracy"]["mean"] == evaluation.figures.accuracy
    assert (document["recipe"], document["groups"]) == ({"name": "arcface_demo"}, "not measured")
    assert document["error_versus_discard"] is None  # every face is as good to this detector
    read = read_scored(tmp_path / "report.json")
    for name in ("first", "second", "same", "folds", "scores"):
        np.testing.assert_array_equal(getattr(read, name), getattr(Scored.of(evaluation), name))
    assert (read.photos, read.digest) == (evaluation.protocol.photos, evaluation.digest)
    with pytest.raises(UsageError, match="page of HTML"):
        Report(evaluation).write(tmp_path / "report.json")


def test_the_calibration_is_that_of_lines_fitted_on_the_other_folds(evaluation: Evaluation) -> None:
    found, folds, same = calibrated(evaluation), evaluation.protocol.folds, evaluation.protocol.same
    costs: dict[bool, list[float]] = {True: [], False: []}
    for fold in sorted(set(folds.tolist())):
        line = Logistic.fit(evaluation.scores[folds != fold], same[folds != fold])
        for score, genuine in zip(evaluation.scores[folds == fold], same[folds == fold], strict=True):
            ratio = 0.0 if np.isneginf(score) else line.slope * float(score) + line.offset
            costs[bool(genuine)].append(float(np.log2(1 + np.exp(-ratio if genuine else ratio))))
    assert found.cllr == pytest.approx((np.mean(costs[True]) + np.mean(costs[False])) / 2, abs=1e-12)
    assert found.cllr_min <= found.cllr
    assert f"{found.cllr:.4f} bits" in Page(Report(evaluation).html()).text


def test_error_versus_discard_follows_the_detectors_scores(
    evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slow way: leave out the worst pairs, whole runs of equal quality only."""
    monkeypatch.setattr("facespace.judge.measures.DISCARD_FMR", 0.05)
    scores = np.random.default_rng(0).choice([0.5, 0.7, 0.9], len(evaluation.protocol.photos)).astype(np.float32)
    judged = replace(evaluation, compared=replace(evaluation.compared, detector_scores=scores))
    found, protocol = discarded(judged), evaluation.protocol
    pairs = [
        (min(scores[a], scores[b]), score < found.threshold)
        for a, b, same, score in zip(protocol.first, protocol.second, protocol.same, judged.scores, strict=True)
        if same
    ]
    for share, fnmr in zip(found.left_out, found.fnmr, strict=True):
        cut = sorted(q for q, _ in pairs)[int(share * len(pairs) + 1e-9)]
        left = [missed for q, missed in pairs if q >= cut]
        assert fnmr == pytest.approx(sum(left) / len(left), abs=1e-12)
    assert 'aria-label="error versus discard"' in Report(judged).html()


def test_the_map_colours_the_people_with_most_photos(evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch) -> None:
    protocol, embedded = evaluation.protocol, evaluation.compared
    found = people_map(protocol.people_of_photos, embedded)
    assert (len(found.points), found.left_out) == (embedded.acquired.sum(), 0)
    assert len(found.names) == 8
    assert "p04" not in found.names  # one of its photos gave no face
    assert np.bincount(found.colours + 1).tolist() == [len(found.points) - 24, *[3] * 8]
    monkeypatch.setattr("facespace.judge.measures.MOST_OF_ONE", 2)
    monkeypatch.setattr("facespace.judge.measures.MOST_POINTS", 20)
    fewer = people_map(protocol.people_of_photos, embedded)
    assert (len(fewer.points), fewer.left_out) == (20, embedded.acquired.sum() - 20)
    assert (fewer.names, np.bincount(fewer.colours + 1).tolist()) == (found.names, [4, *[2] * 8])


def test_without_names_there_is_no_map(evaluation: Evaluation) -> None:
    nameless = replace(evaluation, protocol=replace(evaluation.protocol, labels=None))
    text = Page(Report(nameless).html()).text
    assert "Map of people: not measured (the data do not name the people)" in text
    assert f"{len(nameless.protocol.photos)} photos; model contract" in " ".join(text.split())


def test_groups_stand_in_the_page_or_the_words_not_measured(evaluation: Evaluation) -> None:
    assert "not measured" in Page(Report(evaluation).html()).text
    share = Share(0.02, 900, 30, 800.0, (0.01, 0.04))
    rows = (GroupRate("<older>", 900, share), GroupRate("few", 3, refused="3 trials"))
    one = Differential("age", "FNMR", 0.4, share, rows, Ratio(2.5, (1.5, 4.0)), Ratio(refused="too few"))
    report = Report(evaluation, groups=[one])
    text = Page(report.html()).text
    for expected in ("<older>", "2.000 %", "not shown: 3 trials", "2.50 (1.50 to 4.00)", "not shown, too few"):
        assert expected in text
    assert report.document()["groups"][0]["groups"][0]["rate"] == 0.02


def test_a_chance_is_never_shown_as_none() -> None:
    assert [chance(p) for p in (1, 0.0421, 0.001, 0.00099, 0)] == ["1.000", "0.042", "0.001", "< 0.001", "< 0.001"]


def test_the_recipe_is_read_from_the_folder_of_the_run(tmp_path: Path) -> None:
    assert recipe_of(tmp_path / "model.onnx") is None
    (tmp_path / "run.json").write_text('{"recipe": {"name": "small"}}')
    assert recipe_of(tmp_path / "model.onnx") == {"name": "small"}
    (tmp_path / "run.json").write_text("[]")
    assert recipe_of(tmp_path / "model.onnx") is None


def test_a_page_that_cannot_be_written_is_refused_first(tmp_path: Path) -> None:
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "r.json").mkdir()
    for path, says in (
        ("r.JSON", "page of HTML"),
        ("out.pdf", "page of HTML"),
        ("out", "page of HTML"),
        ("folder.html", "is a folder"),
        ("r.html", "is a folder"),
        ("absent/r.html", "no report can be written"),
        (".", "is a folder"),
    ):
        with pytest.raises(UsageError, match=says) as refused:
            check_report(tmp_path / path)
        assert refused.value.hint
    with pytest.raises(UsageError, match="is a folder"):
        check_report(Path())
    (tmp_path / "kept.html").write_text("an older report")
    check_report(tmp_path / "kept.html")
    check_report(tmp_path / "good.html")
    check_report(tmp_path / "good.HTM")
    assert (tmp_path / "kept.html").read_text() == "an older report"
    assert {path.name for path in tmp_path.iterdir()} == {"folder.html", "r.json", "kept.html"}
