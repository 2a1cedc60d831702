"""`facespace train`: from a folder to a model that verifies; what it prints, and how it fails."""

import dataclasses
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import facespace
from facespace.cli import app, processes, train
from facespace.cli.train import progress
from facespace.data.augment import Augment
from facespace.data.drawn import write_people
from facespace.data.sampler import Shuffled
from facespace.losses.margins import NormFace
from facespace.models.nets.trunks import TrunkSpec
from facespace.train import outcome, recipes
from facespace.train.recipe import Labels, Recipe, Teacher

TINY = Recipe(
    "tiny",
    TrunkSpec("iresnet10-tiny", 32, 16),
    epochs=1,
    labels=Labels(NormFace(), scale=16.0),
    sampler=Shuffled(8),
    augment=Augment(),
    held_out=0,
)


@pytest.fixture(autouse=True)
def shelf(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(recipes.RECIPES, "tiny", TINY)
    taught = dataclasses.replace(TINY, name="taught", teacher=Teacher())
    monkeypatch.setitem(recipes.RECIPES, "taught", taught)
    monkeypatch.setenv("FACESPACE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("people")
    write_people(folder, people=8, photos=4)
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["train", *map(str, arguments)])


def failed(result: Result, status: int) -> dict[str, Any]:
    assert result.exit_code == status, result.output
    error: dict[str, Any] = json.loads(result.stdout)["error"]
    return error


def test_from_a_folder_to_a_model_and_from_that_to_its_pupil(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model is written with its card, loads as any other, and teaches the next; run again, nothing changes."""
    first = run(people, "--recipe", "tiny", "--json", "--quiet")
    assert first.exit_code == 0, first.output
    assert first.stderr == ""
    document = json.loads(first.stdout)
    assert document == {
        "run": "runs/tiny",
        "model": "runs/tiny/model.onnx",
        "weights": "runs/tiny/trunk.safetensors",
        "step": 4,
        "held_out": {},
        "left_out": {},
        "device": "cpu",
        "threads": 1,
    }
    for name in ("model.onnx", "model.card.json", "trunk.safetensors", "trunk.card.json", "log.jsonl", "run.json"):
        assert (tmp_path / "runs" / "tiny" / name).is_file(), name
    card = json.loads((tmp_path / "runs" / "tiny" / "model.card.json").read_text())
    assert (card["name"], card["dim"], card["input"]["channels"]) == ("tiny", 16, "rgb")
    assert "8 people" in card["trained_on"]

    for others, said in ((people, "Note: tiny has learnt from these photos"), (tmp_path / "others", "")):
        if not others.exists():
            write_people(others, people=8, photos=4, seed=1)
        judged = CliRunner().invoke(app, ["evaluate", "runs/tiny", "--data", str(others), "--detector", "aligned"])
        assert judged.exit_code == 0, judged.output
        assert judged.stderr.startswith(said)
        assert ("has learnt" in judged.stderr) == bool(said)

    monkeypatch.setattr(outcome, "export_onnx", lambda trunk, spec, path: path.write_bytes(b"quickly") * 0.0)
    pupil = run(people, "--recipe", "taught", "--teacher", "runs/tiny/model.onnx", "--run", "pupil")
    assert pupil.exit_code == 0, pupil.output
    assert pupil.stdout == "pupil/model.onnx: the weights of step 4.\n"
    assert json.loads((tmp_path / "pupil" / "run.json").read_text())["teacher"]["name"] == "tiny"

    before = (tmp_path / "runs" / "tiny" / "trunk.safetensors").read_bytes()
    assert json.loads(run(people, "--recipe", "tiny", "--json").stdout) == document
    assert (tmp_path / "runs" / "tiny" / "trunk.safetensors").read_bytes() == before


def test_what_contradicts_itself_is_wrong_usage(people: Path) -> None:
    unknown = failed(run(people, "--recipe", "?", "--json"), 2)
    assert "arcface_small" in unknown["hint"]
    assert "--teacher" in failed(run(people, "--recipe", "taught", "--json"), 2)["hint"]
    for epochs in ("0", "-1", "nan", "inf"):
        assert (
            f"--epochs {epochs} " in failed(run(people, "--recipe", "tiny", "--epochs", epochs, "--json"), 2)["message"]
        )
    assert "--held-out" in failed(run(people, "--recipe", "tiny", "--held-out", "-2", "--json"), 2)["message"]


def test_data_weights_and_devices_that_cannot_be_used_have_their_statuses(people: Path, tmp_path: Path) -> None:
    assert failed(run(tmp_path / "nowhere", "--recipe", "tiny", "--json"), 5)["code"] == "bad_data"
    assert failed(run(people, "--recipe", "tiny", "--held-out", "7", "--json"), 5)["code"] == "bad_data"
    assert failed(run(people, "--recipe", "tiny", "--device", "tpu", "--json"), 4)["code"] == "device_unavailable"
    missing = failed(run(people, "--recipe", "taught", "--teacher", "nobody.onnx", "--json"), 4)
    assert missing["code"] == "model_not_found"
    assert not (tmp_path / "runs").exists()


def test_a_run_folder_of_another_training_is_refused(people: Path, tmp_path: Path) -> None:
    (tmp_path / "runs" / "tiny").mkdir(parents=True)
    (tmp_path / "runs" / "tiny" / "run.json").write_text('{"recipe": {}, "data": {}, "teacher": null}')
    error = failed(run(people, "--recipe", "tiny", "--json"), 5)
    assert error["code"] == "training"
    assert "recipe and data" in error["message"]


def test_too_many_processes_are_refused_before_any_starts(people: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than cores, nor than parts of two photos in a batch (of 8 here); what is left is started once."""
    started: list[list[str]] = []
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr(processes, "_start", lambda *_: pytest.fail("a process was started"))
    monkeypatch.setattr(train, "launch", lambda count, _: started.append(count) or 0)
    asked = ("--recipe", "tiny", "--json", "--processes")
    for cores, count, most in ((2, 500, 2), (2, 3, 2), (64, 5, 4), (1, 2, 1)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)), raising=False)
        error = failed(run(people, *asked, count), 2)
        assert error["message"] == f"{count} processes, but {cores} core{'s'[cores == 1 :]} and a batch of 8"
        assert error["hint"] == (f"--processes {most}, or fewer" if most > 1 else "leave out --processes")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    assert "batch of 8 does not give 3 processes" in failed(run(people, *asked, 3), 2)["message"]
    assert started == []
    assert run(people, *asked, 4).exit_code == 0
    assert started == [4]


@pytest.mark.parametrize("option", ["--threads", "--workers"])
def test_more_threads_than_cores_can_share_are_refused(
    people: Path, option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    error = failed(run(people, "--recipe", "tiny", option, 9, "--json"), 2)
    assert error["message"] == "9 threads, but 2 cores"
    assert error["hint"] == "8 at most, 4 for each core"


def test_without_torch_it_says_what_to_install(people: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The parent's attribute too: importing afresh replaces it, and the next test would find the half-made package.
    monkeypatch.setattr(facespace, "train", importlib.import_module("facespace.train"), raising=False)
    for name in [name for name in sys.modules if name.startswith("facespace.train")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    error = failed(run(people, "--recipe", "tiny", "--json"), 2)
    assert error["code"] == "missing_extra"
    assert "facespace[train]" in error["hint"]


def test_progress_goes_to_stderr_and_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    rows: list[dict[str, Any]] = [
        {"kind": "teacher", "done": 5, "total": 10},
        {"kind": "step", "step": 3, "total": 9, "epoch": 0.5, "loss": 2.5, "images_per_s": 77.0},
        {"kind": "held_out", "step": 3, "tar_at_far_1e-2": 0.5},
        {"kind": "warning", "step": 3, "message": "step-0000003.ckpt: damaged [sic]"},
        {"kind": "end", "step": 9},
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
            for word in ("TAR 50.0%", "damaged [sic]"):
                assert word in told.err
