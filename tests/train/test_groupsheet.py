"""Sheets of groups: the right photos in the right places, and nothing of damaged ones."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from facespace.data.folder import open_people
from facespace.errors import DataError, ModelError, UsageError
from facespace.models.nets.groupface import GroupFace, Groups
from facespace.models.nets.trunks import TrunkSpec, build, save_trunk
from facespace.train.groupsheet import load_groups, write_group_sheets

SIDE = 16


class Brightness(nn.Module):
    """A trunk that sees the mean of the pixels, as two numbers."""

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((1, 2, 3))
        return torch.stack([mean, torch.ones_like(mean)], 1)


def dark_and_light() -> GroupFace:
    """Two groups: 0 for dark faces, 1 for light ones; p of group 1 is the sigmoid of 4 times the mean pixel."""
    net = GroupFace(Brightness(), Groups(2, shared=2, hidden=2, norm="none"), 2)
    identity = torch.eye(2)
    for layer in (net.instance, net.decision.first, net.decision.second):
        layer.linear.weight.data, layer.linear.bias.data = identity.clone(), torch.zeros(2)
        if isinstance(layer.act, nn.PReLU):
            layer.act.weight.data.fill_(1)
    net.decision.last.weight.data = torch.tensor([[-2.0, 0], [2, 0]])
    net.decision.last.bias.data.zero_()
    return net


def grey_people(folder: Path, people: int = 8, photos: int = 3) -> dict[str, int]:
    """One grey per photo; names and greys."""
    greys = {f"p{i}/{j}.png": 10 + 10 * (photos * i + j) for i in range(people) for j in range(photos)}
    for name, grey in greys.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(folder / name), np.full((SIDE, SIDE, 3), grey, np.uint8))
    return greys


def tiles(path: Path, columns: int) -> list[int]:
    """The grey of each tile of a sheet, row by row."""
    picture = cv2.imread(str(path))
    assert picture is not None
    assert picture.shape[1] == columns * SIDE
    return [int(picture[y, x, 0]) for y in range(5, picture.shape[0], SIDE) for x in range(5, picture.shape[1], SIDE)]


def test_a_sheet_shows_the_most_probable_photos_in_their_order(tmp_path: Path) -> None:
    greys = grey_people(tmp_path / "people")
    net = dark_and_light().train()
    heard: list[tuple[int, int]] = []
    sheets = write_group_sheets(
        net, open_people(tmp_path / "people"), tmp_path / "groups", 5, size=SIDE, per_person=3,
        told=lambda done, total: heard.append((done, total)),
    )  # fmt: skip
    order = sorted(greys, key=lambda name: greys[name])
    assert [sheet.photos for sheet in sheets] == [tuple(order[:5]), tuple(order[::-1][:5])]
    assert tiles(sheets[0].path, 3) == [10, 20, 30, 40, 50, 255]
    assert tiles(sheets[1].path, 3) == [240, 230, 220, 210, 200, 255]
    light = [1 / (1 + np.exp(-4 * (grey - 127.5) / 127.5)) for grey in greys.values()]
    assert sheets[1].share == pytest.approx(np.mean(np.array(light) > 0.5))
    assert sheets[1].probability == pytest.approx(np.mean(light), abs=1e-6)
    assert sheets[0].share + sheets[1].share == 1
    assert heard == [(24, 24)]
    assert net.training
    written = json.loads((tmp_path / "groups" / "groups.json").read_text())
    assert [row["path"] for row in written] == ["group-00.png", "group-01.png"]
    assert written[1]["photos"] == list(sheets[1].photos)


def test_one_person_is_on_a_sheet_once_unless_asked_otherwise(tmp_path: Path) -> None:
    grey_people(tmp_path / "people")
    people = open_people(tmp_path / "people")
    for per_person in (1, 2):
        sheets = write_group_sheets(dark_and_light(), people, tmp_path, 36, size=SIDE, per_person=per_person)
        for sheet in sheets:
            names = [photo.split("/")[0] for photo in sheet.photos]
            assert len(names) == 8 * per_person
            assert max(names.count(name) for name in names) == per_person


def test_damaged_photos_are_left_out_and_nothing_but_them_is_an_error(tmp_path: Path) -> None:
    greys = grey_people(tmp_path / "people", people=2)
    (tmp_path / "people/p0/0.png").write_bytes(b"no photo")
    sheets = write_group_sheets(
        dark_and_light(), open_people(tmp_path / "people"), tmp_path, 9, size=SIDE, per_person=9
    )
    assert set(sheets[0].photos) == greys.keys() - {"p0/0.png"}
    for name in greys:
        (tmp_path / "people" / name).write_bytes(b"no photo")
    with pytest.raises(DataError):
        write_group_sheets(dark_and_light(), open_people(tmp_path / "people"), tmp_path, 9, size=SIDE)


def test_a_sheet_of_no_photos_is_refused(tmp_path: Path) -> None:
    grey_people(tmp_path / "people", people=1)
    for wrong in ({"per_group": 0}, {"per_person": 0}):
        with pytest.raises(UsageError):
            write_group_sheets(dark_and_light(), open_people(tmp_path / "people"), tmp_path, **wrong)


def test_networks_without_groups_are_refused(tmp_path: Path) -> None:
    for groups in (None, Groups(0, 8, 4), Groups(2, 8, 4)):
        spec = TrunkSpec("iresnet10-tiny", 32, 4, groups)
        save_trunk(tmp_path / "trunk.safetensors", build(spec), spec)
        if groups is not None and groups.count:
            net, size = load_groups(tmp_path / "trunk.safetensors")
            assert (net.groups, size) == (groups, 32)
        else:
            with pytest.raises(ModelError, match="no groups"):
                load_groups(tmp_path / "trunk.safetensors")
