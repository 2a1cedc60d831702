"""Checkpoints: what is saved comes back; the newest sound one counts; nothing in a file is run."""

import hashlib
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from facespace.errors import TrainingError
from facespace.train import checkpoint


def state(step: int) -> dict[str, Any]:
    return {"step": step, "weights": {"a": torch.arange(5.0) + step}, "best": {}, "bf16": None, "bad": {"x": "y"}}


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path / "new", 7, state(7))
    assert path.name == "step-0000007.ckpt"
    loaded = checkpoint.load(path)
    assert torch.equal(loaded.pop("weights")["a"], torch.arange(5.0) + 7)
    assert loaded == {"step": 7, "best": {}, "bf16": None, "bad": {"x": "y"}}


def test_the_newest_few_stay_and_the_newest_counts(tmp_path: Path) -> None:
    for step in (2, 900, 11, 10000001):
        checkpoint.save(tmp_path, step, state(step))
    assert len(list(tmp_path.iterdir())) == checkpoint.KEEP
    found, passed = checkpoint.newest(tmp_path)
    assert found is not None
    assert found["step"] == 10000001
    assert passed == []


def test_without_any_there_is_nothing_to_say(tmp_path: Path) -> None:
    assert checkpoint.newest(tmp_path / "absent") == (None, [])


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_changed_byte_anywhere_or_a_missing_end_is_noticed(share: float, tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 1, state(1))
    whole = path.read_bytes()
    at = int(share * len(whole))
    for damaged in (whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :], whole[:at], whole + b"x"):
        path.write_bytes(damaged)
        with pytest.raises(TrainingError, match="damaged"):
            checkpoint.load(path)


def test_random_content_is_passed_over(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 1, state(1))
    (tmp_path / "step-0000002.ckpt").write_bytes(np.random.default_rng(0).bytes(3000))
    (tmp_path / "step-0000003.ckpt").mkdir()
    found, passed = checkpoint.newest(tmp_path)
    assert found is not None
    assert found["step"] == 1
    assert ["0000003" in passed[0], "0000002" in passed[1]] == [True, True]


class Canary:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_program_in_a_checkpoint_of_right_digest_is_refused_unrun(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"step": Canary(tmp_path / "canary")}, buffer)
    path = tmp_path / "step-0000001.ckpt"
    path.write_bytes(hashlib.sha256(buffer.getvalue()).digest() + buffer.getvalue())
    with pytest.raises(TrainingError):
        checkpoint.load(path)
    assert not (tmp_path / "canary").exists()


def test_bytes_reach_the_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is synced, then renamed, then its folder synced."""
    order: list[str] = []
    sync, replace = os.fsync, Path.replace

    def synced(number: int) -> None:
        order.append("folder" if os.path.isdir(f"/proc/self/fd/{number}") else "file")  # noqa: PTH112
        sync(number)

    def renamed(self: Path, target: Path) -> Path:
        order.append("rename")
        return replace(self, target)

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc to tell a folder from a file")
    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    checkpoint.save(tmp_path, 1, state(1))
    assert order == ["file", "rename", "folder"]
