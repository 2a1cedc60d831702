"""What a figure was made with."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from facespace.judge.environment import describe_environment, git_state, peak_memory_bytes


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main")
    return subprocess.run(("git", *who, *arguments), cwd=folder, check=True, capture_output=True, text=True).stdout


def test_the_commit_of_the_working_folder_and_whether_it_was_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state(tmp_path) is None
    git(tmp_path, "init", "-q")
    assert git_state(tmp_path) is None  # nothing committed yet
    (tmp_path / "a.txt").write_text("one")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    commit = git(tmp_path, "rev-parse", "HEAD").strip()
    (tmp_path / "inner").mkdir()
    (tmp_path / "untracked.txt").write_text("not part of it")
    assert git_state(tmp_path / "inner") == {"commit": commit, "changed": False}
    (tmp_path / "a.txt").write_text("two")
    assert git_state(tmp_path) == {"commit": commit, "changed": True}


def test_without_git_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(Path()) is None


def test_the_peak_of_memory_is_in_bytes() -> None:
    held = np.ones(20_000_000)
    assert 1e12 > (peak_memory_bytes() or 0) > held.nbytes


def test_the_environment_is_json() -> None:
    assert json.loads(json.dumps(describe_environment(2, "cpu", "aligned", "central")))["threads"] == 2
