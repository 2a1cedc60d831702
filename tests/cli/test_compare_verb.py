"""`facespace compare`: which model a stated preprocessing speaks of, and what is refused in words."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from facespace.cli import app
from facespace.data.drawn import write_people
from facespace.judge.page import percent, span
from tiny_onnx import save_tiny

STATED = ("--channels", "bgr", "--mean", "100", "--std", "60")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn people, two models with a card and two without."""
    root = tmp_path_factory.mktemp("made")
    write_people(root / "people", people=6, photos=3)
    for seed, name in enumerate(("carded", "other", "bare", "naked")):
        save_tiny(root / f"{name}.onnx", card={"commercial": False} if seed < 2 else None, dim=8, seed=seed)
    return root


def call(made: Path, verb: str, *words: str) -> tuple[int, dict]:
    names = [str(made / word) if word.endswith((".onnx", ".json", ".html")) else word for word in words]
    given = [] if "--no-data" in names else ["--data", str(made / "people"), "--detector", "aligned"]
    done = CliRunner().invoke(app, [verb, *(n for n in names if n != "--no-data"), *given, "--quiet", "--json"])
    return done.exit_code, json.loads(done.stdout)


def test_what_is_stated_speaks_of_the_model_without_a_card(made: Path) -> None:
    """Each figure is that of the model judged alone."""
    status, both = call(made, "compare", "carded.onnx", "bare.onnx", *STATED)
    assert status == 0
    alone = [call(made, "evaluate", "carded.onnx")[1], call(made, "evaluate", "bare.onnx", *STATED)[1]]
    assert [model["contract"] for model in both["models"]] == [one["model"]["contract"] for one in alone]
    assert [model["accuracy"]["mean"] for model in both["models"]] == [one["accuracy"]["mean"] for one in alone]
    assert call(made, "compare", "bare.onnx", "naked.onnx", *STATED)[0] == 0


def test_mirror_images_and_ties_are_as_asked_for_both_models(made: Path) -> None:
    asked = ("--flip", "sum", "--ties", "reject")
    status, both = call(made, "compare", "carded.onnx", "other.onnx", *asked)
    assert status == 0
    for model, name in zip(both["models"], ("carded", "other"), strict=True):
        alone = call(made, "evaluate", f"{name}.onnx", *asked)[1]
        assert (model["name"], model["contract"]) == (f"{name}+flip", alone["model"]["contract"])
        assert {key: model[key] for key in ("accuracy", "eer", "ties")} == {
            key: alone[key] for key in ("accuracy", "eer", "ties")
        }


def test_the_page_has_every_figure_of_both_models_with_its_interval(made: Path, tmp_path: Path) -> None:
    page = tmp_path / "compare.html"
    status, both = call(made, "compare", "carded.onnx", "other.onnx", "--report", str(page))
    assert status == 0
    side_by_side = re.sub(r"<[^>]*>", "|", page.read_text(encoding="utf-8").partition("Side by side")[2])
    rows = [[cell for cell in line.split("|") if cell] for line in side_by_side.splitlines()]
    shown = {row[0]: row[1:] for row in rows if len(row) == 3}
    for model, at in zip(both["models"], range(2), strict=True):
        accuracy, eer = model["accuracy"], model["eer"]
        expected = {"accuracy": (accuracy["mean"], accuracy["ci95"]), "EER": (eer["rate"], eer["ci95"])}
        for name, key in (("TAR", "tar_at_far"), ("VAL", "val_at_far")):
            expected |= {f"{name} at FAR {100 * rate['far']:g} %": (rate["val"], rate["ci95"]) for rate in model[key]}
        for figure, (value, interval) in expected.items():
            assert shown[figure][at] == ("refused" if value is None else f"{percent(value)} ({span(interval)})")


def test_a_model_compared_with_itself_is_said_to_be_the_same(made: Path) -> None:
    where = ("--data", str(made / "people"), "--detector", "aligned", "--quiet")
    said = "Both gave the same scores to all pairs: intervals are what 6 people leave open."
    for other, expected in (("carded", True), ("other", False)):
        words = ["compare", *(str(made / f"{name}.onnx") for name in ("carded", other)), *where]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0
        assert (said in done.stdout) == expected
        assert re.search(r"Refused: TAR at FAR 0\.01 %: \d+ impostor pairs cannot show", done.stderr)


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (("carded.onnx", "other.onnx", *STATED), 2, "both models have a card"),
        (("carded.onnx", "bare.onnx"), 4, "card"),
        (("a.json", "b.json", "--no-data", *STATED), 2, "with no photos or models"),
        (("a.json", "b.json", "--no-data", "--flip", "sum"), 2, "with no photos or models"),
        (("carded.onnx", "other.onnx", "--no-data"), 2, "need photos"),
        (("a.html", "b.json", "--no-data"), 2, "its document lies beside it"),
        (("carded.onnx", "other.onnx", "--frames", "10"), 2, "--frames belongs to ytf"),
        (("carded.onnx", "other.onnx", "--protocol", "clustering"), 2, "clustering has none"),
        (("carded.onnx", "other.onnx", "--protocol", "lfw"), 2, "needs --pairs"),
        (("carded.onnx", "absent.onnx"), 4, "no .onnx"),
        (("carded.onnx", "other.onnx", "--report", "absent/c.html"), 2, "no report can be written"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(made: Path, words: tuple[str, ...], status: int, says: str) -> None:
    got, document = call(made, "compare", *words)
    assert says in document["error"]["message"]
    assert document["error"]["hint"]
    assert got == status


def test_a_seed_below_nought_is_wrong_usage(made: Path) -> None:
    status, document = call(made, "compare", "carded.onnx", "other.onnx", "--seed", "-1")
    assert (status, document["error"]["code"]) == (2, "usage")
    assert "--seed" in document["error"]["message"]
