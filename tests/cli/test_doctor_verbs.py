"""`facespace doctor` and `facespace audit` from the command line, with a small network made on the spot."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from facespace.cli import app
from facespace.data.drawn import write_people
from tiny_onnx import save_tiny


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three people, too few to doubt a name, and one file that is no photo."""
    root = tmp_path_factory.mktemp("doctor") / "people"
    write_people(root, people=3, photos=2)
    (root / "drawn-0001/broken.jpg").write_bytes(b"no photo")
    return root


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("model") / "tiny.onnx", card={})


def call(verb: str, *arguments: object) -> tuple[int, str, str]:
    options = ("--detector", "aligned", "--threads", "1")
    result = CliRunner().invoke(app, [verb, *map(str, arguments), *options])
    return result.exit_code, result.stdout, result.stderr


def test_doctor_names_what_it_finds_and_leaves_a_list_and_a_sheet(data: Path, model: Path, tmp_path: Path) -> None:
    listing, sheet = tmp_path / "defects.csv", tmp_path / "defects.html"
    status, out, _ = call("doctor", data, "--model", model, "--json", "--list", listing, "--sheet", sheet)
    document = json.loads(out)
    assert status == 1
    assert document["healthy"] is False
    assert document["counts"]["corrupt"] == 1
    assert document["findings"][0]["photos"] == ["drawn-0001/broken.jpg"]
    assert document["photos_per_person"] == {"2": 2, "3": 1}
    assert listing.read_text().splitlines()[1].startswith("corrupt,1.000,replace or remove,drawn-0001/broken.jpg")
    assert sheet.read_text().count("<section>") == len(document["findings"])


def test_a_list_and_a_sheet_of_one_name_are_refused_before_any_work(data: Path, model: Path, tmp_path: Path) -> None:
    twice = ("--list", tmp_path / "d.html", "--sheet", tmp_path / "there" / ".." / "d.html")
    status, out, _ = call("doctor", data, "--model", model, "--json", *twice)
    assert (status, json.loads(out)["error"]["code"]) == (2, "usage")
    assert list(tmp_path.iterdir()) == []


def test_doctor_shows_tables_and_says_what_it_refused(data: Path, model: Path) -> None:
    status, out, err = call("doctor", data, "--model", model)
    assert status == 1
    for word in ("corrupt", "drawn-0001/broken.jpg", "replace or remove", "photos per person"):
        assert word in out
    assert "Refused: 0 people have four photos" in err


def test_audit_of_one_folder_with_itself_and_with_others(data: Path, model: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "leaks.html"
    status, out, _ = call("audit", data, data, "--model", model, "--json", "--sheet", sheet)
    document = json.loads(out)
    assert (status, document["clean"], document["people_of_test_in_train"]) == (1, False, 3)
    assert {(leak["train"] == leak["test"], leak["by_name"]) for leak in document["leaks"]} == {(True, True)}
    assert sheet.is_file()
    write_people(tmp_path / "others", people=2, photos=1, seed=4)
    for name in ("drawn-0000", "drawn-0001"):
        (tmp_path / "others" / name).rename(tmp_path / "others" / f"other-{name}")
    status, out, err = call("audit", data, tmp_path / "others", "--model", model)
    assert status == 0
    assert "0 people of the test may be in the training set" in out
    assert "names and files" not in out
    assert "faces are compared from 10" in err
