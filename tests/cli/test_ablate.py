"""`facespace ablate`: a plan of one's own in processes of their own, killed and gone on with; what is printed where."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from facespace.cli import app
from facespace.cli.ablate import progress
from facespace.data.drawn import write_people

PLAN = '''
import os, signal
from dataclasses import dataclass
from pathlib import Path

from facespace.data.augment import Augment
from facespace.data.sampler import Shuffled
from facespace.losses.margins import NormFace
from facespace.models.nets.trunks import TrunkSpec
from facespace.train.plan import Plan, Variant
from facespace.train.recipe import Labels, Recipe

@dataclass(frozen=True)
class Fragile(NormFace):
    """Kills its process, once."""

    def target_logit(self, cos):
        if not Path("killed").exists():
            Path("killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().target_logit(cos)

def recipe(margin):
    return Recipe("tiny", TrunkSpec("iresnet10-tiny", 32, 16), epochs=1, labels=Labels(margin, scale=16.0),
                  sampler=Shuffled(8), augment=Augment(), held_out=0)

PLAN = Plan("mine", (Variant("sound", recipe(NormFace())), Variant("fragile", recipe(Fragile()))),
            seeds=1, comparisons=(("fragile", "sound"),), judged_fars=(0.1,))
'''


@pytest.fixture
def people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)  # however few there are
    monkeypatch.chdir(tmp_path)
    write_people(tmp_path / "people", people=6, photos=4)
    write_people(tmp_path / "others", people=5, photos=4, seed=3)
    (tmp_path / "mine.py").write_text(PLAN)
    return tmp_path / "people"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["ablate", *map(str, arguments)])


def test_a_plan_of_ones_own_is_killed_and_gone_on_with(people: Path, tmp_path: Path) -> None:
    asked = ("mine.py", "--data", people, "--judge", tmp_path / "others", "--jobs", 2)
    listed = run("mine.py", "--list")
    assert listed.exit_code == 0
    assert "0 of 2 done." in listed.stdout

    killed = run(*asked)
    assert killed.exit_code == 5, killed.output
    assert killed.stdout == ""
    assert "1 of 2 trainings failed, first fragile-seed0: its process ended with status -9." in killed.stderr
    assert "sound-seed0 finished" in killed.stderr
    standings = json.loads(run("mine.py", "--list", "--json").stdout)
    assert [(row["run"], row["status"]) for row in standings] == [
        ("sound-seed0", "finished"),
        ("fragile-seed0", "failed"),
    ]

    again = run(*asked, "--markdown", "section.md")
    assert again.exit_code == 0, again.output
    assert "mine: 1 of 2 trainings are done" in again.stderr
    assert "fragile-seed0 finished" in again.stderr
    table = (tmp_path / "runs" / "ablations" / "mine" / "table.md").read_text()
    assert again.stdout == table == (tmp_path / "section.md").read_text()
    assert "| `fragile` | `sound` | 1 |" in table

    quiet = run(*asked, "--json", "--quiet")
    assert quiet.stderr == ""
    assert [row["variant"] for row in json.loads(quiet.stdout)["variants"]] == ["sound", "fragile"]


def test_what_is_missing_or_unknown_is_wrong_usage(people: Path, tmp_path: Path) -> None:
    def failed(*arguments: object) -> dict[str, Any]:
        result = run(*arguments, "--json")
        assert result.exit_code == 2, result.output
        error: dict[str, Any] = json.loads(result.stdout)["error"]
        return error

    assert "--judge" in failed("mine.py", "--data", people)["hint"]
    assert "--judge" in failed("mine.py")["hint"]
    assert "--pairs" in failed("mine.py", "--data", people, "--judge", people, "--lfw", people)["hint"]
    assert "demo" in failed("nothing", "--list")["hint"]
    assert "fragile" in failed("mine.py", "--list", "--only", "x*")["hint"]
    assert failed("absent.py", "--list")["file"] == "absent.py"
    assert not (tmp_path / "runs").exists()


def test_more_trainings_at_once_than_cores_are_refused(people: Path, tmp_path: Path) -> None:
    """A list only divides by them."""
    refused = run("mine.py", "--data", people, "--judge", tmp_path / "others", "--jobs", 3)
    assert refused.exit_code == 2
    assert "3 trainings side by side, but 2 cores" in refused.stderr
    assert "--jobs 2" in refused.stderr
    assert not (tmp_path / "runs").exists()
    assert run("mine.py", "--list", "--jobs", 3).exit_code == 0


def test_what_is_left_is_added_up(people: Path, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "ablations" / "mine" / "sound-seed0"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text('{"status": "finished", "minutes": 8.0}')
    listed = run("mine.py", "--list", "--seeds", 2, "--jobs", 2).stdout
    assert "about 8.0" in listed
    assert "1 of 4 done, about 12 minutes left with --jobs 2." in listed


def test_progress_goes_to_stderr_and_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    rows: list[dict[str, Any]] = [
        {"kind": "plan", "plan": "mine", "runs": 5, "waiting": 3},
        {"kind": "begun", "run": "a-seed0"},
        {"kind": "step", "run": "a-seed0", "step": 3, "total": 9, "loss": 2.5, "images_per_s": 77.0},
        {"kind": "warning", "run": "a-seed0", "message": "a checkpoint is damaged [sic]"},
        {"kind": "finished", "run": "a-seed0", "message": "", "minutes": 1.5},
        {"kind": "failed", "run": "b-seed0", "message": "a-seed0, which it builds on", "minutes": 0.0},
    ]
    for quiet in (True, False):
        with progress(quiet) as listen:
            for row in rows:
                listen(row)
        told = capsys.readouterr()
        assert told.out == ""
        if quiet:
            assert told.err == ""
        else:
            for line in (
                "mine: 2 of 5 trainings are done",
                "a-seed0: a checkpoint is damaged [sic]",
                "a-seed0 finished after 1.5 minutes, 2 to go",
                "b-seed0 failed after 0.0 minutes, 1 to go: a-seed0, which it builds on",
            ):
                assert line in told.err
