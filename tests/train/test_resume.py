"""A training that is killed and run again ends with the same weights, bit for bit; so it does with other workers."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_training import STEPS, TINY, Projection, quick_export, write_people

from facespace.train import checkpoint, outcome
from facespace.train.loop import Where, train
from facespace.train.recipe import AdamW, Teacher
from facespace.train.runlog import read_log

EVERY = 4
"""Steps between two checkpoints: after 4, 8, 12, and the last, 15."""
OFTEN = Where(save_every=EVERY, log_every=1)
KILLS = (
    ("before the first step", 0),
    ("after step", 2),  # nothing is saved yet
    ("checkpoint half written", 4),
    ("before the rename", 4),
    ("after step", 6),
    ("after the rename", 8),  # older ones not yet dropped
    ("in the log", 10),  # an epoch's end: judged on held-out people, the best state changed
    ("after step", 11),
    ("before the rename", 12),
    ("after the rename", 15),  # all is learnt, nothing written
    ("in the export", 15),
)


class Stop(Exception):
    """Raised in place of a kill where a process of its own would only take time."""


@pytest.fixture(autouse=True)
def no_export(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(outcome, "export_onnx", quick_export)
    monkeypatch.setenv("FACESPACE_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_people(tmp_path_factory.mktemp("people"))


@pytest.fixture(scope="module")
def undisturbed(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a training that nothing interrupted."""
    run = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outcome, "export_onnx", quick_export)
        train(TINY, people, run, where=OFTEN)
    return run


def stopping_after(step: int) -> Callable[[dict[str, Any]], None]:
    def listen(row: dict[str, Any]) -> None:
        if row["kind"] == "step" and row["step"] == step:
            raise Stop

    return listen


def final(run: Path) -> dict[str, Any]:
    return checkpoint.load(run / "checkpoints" / f"step-{STEPS:07d}.ckpt")


def assert_same(a: Any, b: Any, where: str = "state") -> None:
    """Equal through and through: types, keys, and every bit of every tensor."""
    assert type(a) is type(b), where
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}[{i}]")
    elif isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype, where
        assert a.numpy().tobytes() == b.numpy().tobytes(), where
    else:
        assert a == b, where


def assert_same_end(run: Path, undisturbed: Path) -> None:
    assert_same(final(run), final(undisturbed))
    for name in ("trunk.safetensors", "trunk.card.json", "run.json"):
        assert (run / name).read_bytes() == (undisturbed / name).read_bytes(), name


def told(run: Path) -> list[dict[str, Any]]:
    """The log without the clock."""
    rows = [row for row in read_log(run / "log.jsonl") if row["kind"] != "warning"]
    return [{key: value for key, value in row.items() if key != "images_per_s"} for row in rows]


def test_killed_at_any_moment_and_run_again_the_weights_are_the_same_bit_for_bit(
    people: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """Eleven kills by signal, in the midst of writing a checkpoint and of the log among them; then the end."""
    run = tmp_path / "run"
    arguments = ["train", str(people), "--recipe", "tiny", "--run", str(run), "--save-every", str(EVERY), "--json"]
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, str(here / "killed_command.py")],
        input=json.dumps({"arguments": arguments, "kills": KILLS}),
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    outcome_document, ends = done.stdout[: done.stdout.rindex("[")], done.stdout[done.stdout.rindex("[") :]
    assert json.loads(ends) == [-9] * len(KILLS) + [0], done.stderr
    assert json.loads(outcome_document)["run"] == str(run)
    assert_same_end(run, undisturbed)
    assert [row for row in told(run) if row["kind"] != "step"] == [r for r in told(undisturbed) if r["kind"] != "step"]
    left = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert left == [
        f"step-{step:07d}.ckpt" for step in (4, 8, 12, 15)
    ]  # 4: the last save was killed before dropping it
    assert not list(run.rglob("*.part"))


def test_workers_change_nothing(people: Path, undisturbed: Path, tmp_path: Path) -> None:
    for workers in (1, 3):
        run = tmp_path / str(workers)
        train(TINY, people, run, where=dataclasses.replace(OFTEN, workers=workers))
        assert_same_end(run, undisturbed)
        assert told(run) == told(undisturbed)


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [flip_a_bit, truncate, empty], ids=lambda damage: damage.__name__)
def test_a_damaged_newest_checkpoint_is_passed_over_aloud(
    damage: Callable[[Path], None], people: Path, undisturbed: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with pytest.raises(Stop):
        train(TINY, people, run, where=OFTEN, listen=stopping_after(9))
    damage(run / "checkpoints" / "step-0000008.ckpt")
    heard: list[dict[str, Any]] = []
    train(TINY, people, run, where=OFTEN, listen=heard.append)
    assert_same_end(run, undisturbed)
    assert told(run) == told(undisturbed), "what is done again is told once"
    (warning,) = (row for row in heard if row["kind"] == "warning")
    assert warning["step"] == 4
    assert "step-0000008.ckpt" in warning["message"]
    assert "damaged" in warning["message"]


def test_where_every_checkpoint_is_damaged_the_training_begins_anew_and_says_so(
    people: Path, undisturbed: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with pytest.raises(Stop):
        train(TINY, people, run, where=OFTEN, listen=stopping_after(9))
    for path in (run / "checkpoints").iterdir():
        truncate(path)
    heard: list[dict[str, Any]] = []
    train(TINY, people, run, where=OFTEN, listen=heard.append)
    messages = [row["message"] for row in heard if row["kind"] == "warning"]
    assert len(messages) == 3
    assert "anew" in messages[-1]
    assert_same_end(run, undisturbed)


def test_a_finished_training_run_again_changes_nothing(people: Path, undisturbed: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    train(TINY, people, run, where=OFTEN)
    assert_same_end(run, undisturbed)
    assert told(run) == told(undisturbed)


def test_with_a_teacher_and_gathered_gradients_it_holds_too(people: Path, tmp_path: Path) -> None:
    recipe = dataclasses.replace(TINY, teacher=Teacher(), accumulate=2, optimiser=AdamW(), held_out=0)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(recipe, people, whole, teacher=Projection())
    with pytest.raises(Stop):
        train(
            recipe,
            people,
            parts,
            teacher=Projection(),
            where=Where(save_every=3, log_every=1),
            listen=stopping_after(5),
        )
    train(recipe, people, parts, teacher=Projection(), where=Where(save_every=3))
    ends = [checkpoint.newest(run / "checkpoints")[0] for run in (whole, parts)]
    assert ends[0] is not None
    assert_same(ends[0], ends[1])
    assert np.isfinite([row["loss"] for row in read_log(parts / "log.jsonl") if row["kind"] == "step"]).all()
