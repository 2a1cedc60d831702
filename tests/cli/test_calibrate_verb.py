"""The verb calibrate, and what verify then says."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from facespace.cli import app
from facespace.cli.verify import likelihood
from facespace.data.drawn import write_people
from tiny_onnx import save_tiny

ALIGNED = ("--detector", "aligned", "--threads", "1")


def run(*args: object) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("facespace.judge.calibrate.DRAWS", 100)
    write_people(tmp_path / "people", people=22, photos=3)
    save_tiny(tmp_path / "tiny.onnx", card={}, dim=16)
    return tmp_path


@pytest.mark.usefixtures("folder")
def test_calibrated_once_the_model_says_what_scores_mean_and_checks_others() -> None:
    dry = run("calibrate", "tiny.onnx", "--data", "people", "--fmr", "0.05", *ALIGNED)
    assert dry.exit_code == 0, dry.output
    assert "FMR=0.05" in dry.stdout
    assert "Nothing is written" in dry.stderr
    wrote = run("calibrate", "tiny.onnx", "--data", "people", "--fmr", "0.05", "--write", "--json", *ALIGNED)
    document = json.loads(wrote.stdout)
    assert (wrote.exit_code, document["card"]) == (0, "tiny.card.json")
    card = json.loads(Path("tiny.card.json").read_text())
    assert card["operating_points"] == document["operating_points"]
    assert card["calibration"] == document["calibration"]
    same = ("people/drawn-0000/0001.jpg", "people/drawn-0000/0001.jpg", "--model", "tiny.onnx", "--detector", "aligned")
    said = run("verify", *same)
    assert (said.exit_code, said.stderr) == (0, "")
    assert "FMR=0.05, " in said.stdout
    assert "times likelier of one person)" in said.stdout
    assert json.loads(run("verify", *same, "--json").stdout)["log_likelihood_ratio"] > 0
    assert run("verify", *same, "--fmr", "0.001").exit_code == 7
    stale = json.loads(run("verify", *same, "--channels", "bgr", "--json").stdout)["error"]
    assert stale["code"] == "contract_mismatch"
    checked = run("calibrate", "tiny.onnx", "--check", "people", *ALIGNED)
    assert (checked.exit_code, checked.stdout[:16]) == (0, "The scores look ")
    write_people(Path("others"), people=22, photos=2, seed=9)
    answer = run("calibrate", "tiny.onnx", "--check", "others", "--json", *ALIGNED)
    found = json.loads(answer.stdout)
    assert answer.exit_code == (0 if found["alike"] else 1)
    assert found["alike"] == (found["statistic"] <= found["limit"])


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("args", "status"),
    [
        ((), 2),
        (("--data", "people", "--check", "people"), 2),
        (("--check", "people", "--write"), 2),
        (("--check", "people", "--fmr", "0.1"), 2),
        (("--check", "people"), 4),
        (("--data", "people"), 7),
        (("--data", "people", "--fmr", "0"), 2),
        (("--data", "people", "--fmr", "0.05", "--mean", "0", "--write"), 2),
        (("--data", "absent"), 5),
    ],
)
def test_what_cannot_be_done_says_so_and_writes_nothing(args: tuple[str, ...], status: int) -> None:
    before = Path("tiny.card.json").read_bytes()
    assert run("calibrate", "tiny.onnx", *args, *ALIGNED).exit_code == status
    assert Path("tiny.card.json").read_bytes() == before


def test_a_likelihood_ratio_in_words() -> None:
    assert likelihood(None) == ""
    assert likelihood(7.501) == ", 1,800 times likelier of one person"
    assert likelihood(-0.5) == ", 1.6 times likelier of two people"
