"""`facespace model groups`: pictures, figures and exit statuses."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from facespace.cli import app
from facespace.models.nets.groupface import Groups
from facespace.models.nets.trunks import TrunkSpec, build, save_trunk


def run(*args: object) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


def save_run(folder: Path, groups: Groups | None) -> Path:
    torch.manual_seed(0)
    spec = TrunkSpec("iresnet10-tiny", 32, 4, groups)
    save_trunk(folder / "trunk.safetensors", build(spec), spec)
    return folder


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """Five people with two photos each, of noise."""
    rng = np.random.default_rng(0)
    for name in (f"p{i}/{j}.png" for i in range(5) for j in range(2)):
        (tmp_path / "people" / name).parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(tmp_path / "people" / name), rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))
    return tmp_path / "people"


def test_a_picture_for_each_group_and_a_table_of_their_shares(people: Path, tmp_path: Path) -> None:
    folder = save_run(tmp_path / "run", Groups(3, 8, 4))
    result = run("model", "groups", folder, "--data", people, "-o", tmp_path / "groups", "--per-group", 4)
    assert (result.exit_code, result.stderr) == (0, "")
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["group", "0", "1", "2"]
    for group in range(3):
        picture = cv2.imread(str(tmp_path / "groups" / f"group-{group:02}.png"))
        assert picture is not None
        assert picture.shape == (64, 64, 3)


def test_json_is_one_document_whose_shares_make_a_whole(people: Path, tmp_path: Path) -> None:
    weights = save_run(tmp_path / "run", Groups(3, 8, 4)) / "trunk.safetensors"
    result = run("model", "groups", weights, "--data", people, "--output", tmp_path / "groups", "--json")
    document = json.loads(result.stdout)
    assert [row["group"] for row in document["groups"]] == [0, 1, 2]
    for key in ("share", "probability"):
        assert sum(row[key] for row in document["groups"]) == pytest.approx(1)
    assert all(Path(row["file"]).is_file() for row in document["groups"])


def test_what_has_no_groups_is_refused(people: Path, tmp_path: Path) -> None:
    for folder in (save_run(tmp_path / "run", None), tmp_path / "nowhere"):
        result = run("model", "groups", folder, "--data", people, "-o", tmp_path / "groups")
        assert result.exit_code == 4
        assert not (tmp_path / "groups").exists()
