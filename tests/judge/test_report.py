"""The report: one page that says what the evaluation says, alone."""

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facespace.core.contracts import AlignedFaces, Vectors
from facespace.core.scores import unit_vectors
from facespace.data.folder import PhotoRef
from facespace.faces.detect import Aligned
from facespace.judge.protocols import made_pairs
from facespace.judge.report import PICTURES, percent, render, span, write_report
from facespace.judge.run import Evaluation, run

VOID = {"meta", "br", "img", "link", "input", "hr"}


class Colours:
    """A person is a colour."""

    name, dim, contract = "colours <1>", 3, "c0105"

    def embed(self, faces: AlignedFaces) -> Vectors:
        return unit_vectors(faces.reshape(len(faces), -1, 3).mean(1) - 127.3)

    def similarity(self, a: Vectors, b: Vectors) -> np.ndarray:
        return a @ b.T


class Page(HTMLParser):
    """Checks that tags nest, and keeps tags and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


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
    page = Page(render(evaluation))
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
    """No script, no request: every address is data inside the page; light, dark and small screens are served."""
    text = render(evaluation)
    page = Page(text)
    assert "script" not in {tag for tag, _ in page.tags}
    assert not [a for tag, attrs in page.tags for a in attrs if a.startswith("on")]
    addresses = [
        value for _, attrs in page.tags for key, value in attrs.items() if key in ("src", "href", "xlink:href")
    ]
    assert addresses
    assert all(value and value.startswith("data:image/jpeg;base64,") for value in addresses)
    assert not re.search(r"url\(|@import|https?:", text)
    assert "prefers-color-scheme: dark" in text
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in page.tags


def test_the_worst_pairs_are_pictures_of_the_faces_they_name(evaluation: Evaluation) -> None:
    page = Page(render(evaluation))
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
    page = Page(render(replace(evaluation, crops={})))
    assert "img" not in {tag for tag, _ in page.tags}
    assert "holds no pictures of faces" in page.text


def test_card_and_training_stand_in_the_page(evaluation: Evaluation, tmp_path: Path) -> None:
    about = {"licence": "MIT & more", "input": {"size": 112}, "commercial": None}
    curves = [("loss", [0, 100, 200], [9.0, float("nan"), 3.0]), ("flat", [0, 1], [1.0, 1.0])]
    write_report(evaluation, tmp_path / "report.html", title="A <title>", about=about, curves=curves)
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "A <title>" in page.text
    assert "MIT & more" in page.text
    assert '{"size": 112}' in page.text
    assert [tag for tag, _ in page.tags].count("svg") == 5
    assert (tmp_path / "report.html").stat().st_size < 3_000_000
