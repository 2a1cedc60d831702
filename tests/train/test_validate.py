"""Choosing by people held out: their photos, their vectors and their figures, from the definitions."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import write_people
from torch import Tensor, nn

from facespace.data.batches import read_crop
from facespace.data.folder import open_people
from facespace.errors import DataError, TrainingError
from facespace.train import validate
from facespace.train.runlog import read_log


class Pixels(nn.Module):
    """Coarse pixels as an embedding, with a dropout that must not act."""

    def __init__(self) -> None:
        super().__init__()
        self.pool, self.dropout, self.scale = nn.AdaptiveAvgPool2d(4), nn.Dropout(0.5), nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.dropout(self.pool(x)).flatten(1) * self.scale
        return out


def test_figures_are_those_over_all_pairs(tmp_path: Path) -> None:
    people = open_people(write_people(tmp_path, people=7, photos=3))
    held_out = validate.read_held_out(people, 48)
    trunk = Pixels().train()
    figures = validate.score(trunk, held_out, 48)
    assert trunk.training, "the mode is as before"

    crops = np.stack([read_crop(people, i, 48) for i in range(21)]).astype(np.float64)
    flat = ((crops - 127.5) / 127.5).reshape(21, 4, 12, 4, 12, 3).mean((2, 4)).transpose(0, 3, 1, 2).reshape(21, -1)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    genuine = [flat[i] @ flat[j] for i in range(21) for j in range(i) if i // 3 == j // 3]
    impostor = [flat[i] @ flat[j] for i in range(21) for j in range(i) if i // 3 != j // 3]
    wins = np.mean([(g > s) + 0.5 * (g == s) for g in genuine for s in impostor])
    assert figures["auc"] == pytest.approx(wins, abs=1e-4)
    allowed = int(0.01 * len(impostor))
    threshold = sorted(impostor, reverse=True)[allowed]  # one more false accept would be too many
    assert figures["tar_at_far_1e-2"] == pytest.approx(np.mean([g > threshold for g in genuine]), abs=0.05)
    assert 0 <= figures["eer"] <= 0.5
    assert all(type(value) is float for value in figures.values()), "a checkpoint holds plain numbers only"


def test_blocks_change_nothing_and_vectors_are_of_unit_length(monkeypatch: pytest.MonkeyPatch) -> None:
    faces = np.random.default_rng(0).integers(0, 256, (11, 32, 32, 3), np.uint8)
    whole = validate.embed(Pixels(), faces)
    monkeypatch.setattr(validate, "BLOCK", 4)
    np.testing.assert_allclose(validate.embed(Pixels(), faces), whole, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-6)
    assert whole.dtype == np.float32


def test_at_another_side_the_faces_are_resized(tmp_path: Path) -> None:
    held_out = validate.read_held_out(open_people(write_people(tmp_path, people=7, photos=3)), 48)
    sides: list[int] = []

    class Watching(Pixels):
        def forward(self, x: Tensor) -> Tensor:
            sides.append(x.shape[-1])
            return super().forward(x)

    validate.score(Watching(), held_out, 32)
    validate.score(Watching(), held_out, 48)
    assert sides == [32, 48]
    assert held_out.faces.shape == (21, 48, 48, 3)


def test_damaged_photos_and_those_beyond_the_most_of_a_person_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validate, "PER_PERSON", 3)
    people = open_people(write_people(tmp_path, people=8, photos=5))
    (tmp_path / "p01" / "0.jpg").write_bytes(b"torn")
    (tmp_path / "p02" / "4.jpg").write_bytes(b"torn")
    held_out = validate.read_held_out(people, 48)
    assert np.bincount(held_out.labels).tolist() == [3] * 8
    np.testing.assert_array_equal(held_out.faces[3], read_crop(people, 6, 48))  # the second photo of p01


@pytest.mark.parametrize(("people", "photos"), [(1, 9), (14, 1), (15, 1), (2, 7), (50, 0)])
def test_people_without_pairs_enough_are_refused(people: int, photos: int, tmp_path: Path) -> None:
    write_people(tmp_path, people, max(photos, 1))
    if photos == 0:
        for path in tmp_path.rglob("*.jpg"):
            path.write_bytes(b"torn")
    with pytest.raises(DataError, match="too few to choose by"):
        validate.read_held_out(open_people(tmp_path), 48)


def test_a_torn_last_line_of_the_log_is_left_out_and_a_damaged_log_named(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    assert read_log(path) == []
    path.write_text('{"kind": "step", "step": 1}\n{"kind": "st')
    assert read_log(path) == [{"kind": "step", "step": 1}]
    path.write_text('{"kind": "step"\n{"kind": "step", "step": 2}\n')
    with pytest.raises(TrainingError, match=r"log\.jsonl"):
        read_log(path)
