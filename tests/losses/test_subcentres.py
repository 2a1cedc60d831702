"""The drop step of sub-centre ArcFace against loops over photos and classes (U14)."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from facespace.errors import DataError, UsageError
from facespace.losses import subcentres
from facespace.losses.subcentres import DropSettings, drop_noise

CLASSES, CENTRES, DIM = 6, 3, 4


def drawn(seed: int, n: int = 60) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of any length, unit embeddings, labels; class 4 has no photo, class 5 one."""
    g = torch.Generator().manual_seed(seed)
    rows = torch.randn(CLASSES, CENTRES, DIM, generator=g, dtype=torch.float64)
    labels = torch.randint(0, 4, (n,), generator=g)
    labels[7] = 5
    faces = torch.nn.functional.normalize(torch.randn(n, DIM, generator=g, dtype=torch.float64))
    return rows, faces, labels


def by_loops(
    rows: Tensor, faces: Tensor, labels: Tensor, cut_deg: float, dominance: str
) -> tuple[list[int], list[int], list[float], list[bool], list[int]]:
    """Nearest, dominant, angles, who stays, emptied classes: one photo after the other."""
    W, f, y = rows.numpy(), faces.numpy(), labels.tolist()
    cosine = [[float(w @ f[i] / np.linalg.norm(w) / np.linalg.norm(f[i])) for w in W[y[i]]] for i in range(len(y))]
    nearest = [max(range(CENTRES), key=lambda k, c=c: c[k]) for c in cosine]
    dominant = []
    for j in range(CLASSES):
        own = [i for i in range(len(y)) if y[i] == j]
        if dominance == "count":
            score = [sum(nearest[i] == k for i in own) for k in range(CENTRES)]
        else:
            score = [float(np.mean([cosine[i][k] for i in own])) if own else 0 for k in range(CENTRES)]
        dominant.append(max(range(CENTRES), key=lambda k, s=score: s[k]) if own else -1)
    angles = [math.acos(max(-1, min(1, cosine[i][dominant[y[i]]]))) for i in range(len(y))]
    keep = [angle <= math.radians(cut_deg) for angle in angles]
    emptied = [j for j in set(y) if not any(k for i, k in enumerate(keep) if y[i] == j)]
    return nearest, dominant, angles, keep, sorted(emptied)


@pytest.mark.parametrize("dominance", ["count", "mean_cosine"])
@pytest.mark.parametrize("cut_deg", [75.0, 45.0, 130.0])
@pytest.mark.parametrize("seed", range(5))
def test_u14_drop_equals_the_loops(seed: int, cut_deg: float, dominance: str) -> None:
    rows, faces, labels = drawn(seed)
    settings = DropSettings(cut_deg, dominance)  # type: ignore[arg-type]
    found = drop_noise(rows, faces, labels, settings)
    nearest, dominant, angles, keep, emptied = by_loops(rows, faces, labels, cut_deg, dominance)
    assert found.nearest.tolist() == nearest
    assert found.dominant.tolist() == dominant
    assert found.dominant[4] == -1
    np.testing.assert_allclose(found.angle_rad.numpy(), angles, atol=1e-7)
    assert found.keep.tolist() == keep
    assert list(found.emptied) == emptied
    assert 0 < sum(keep) < len(keep)


def test_u14_drop_counts_photos_and_not_cosines_unless_asked() -> None:
    """Three photos a little nearer to sub-centre 0, two far nearer to 1: by count 0, by mean cosine 1."""
    rows = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    angles = torch.deg2rad(torch.tensor([44.0, 44.0, 44.0, 90.0, 90.0]))
    faces, labels = torch.stack([angles.cos(), angles.sin()], 1), torch.zeros(5, dtype=torch.int64)
    assert drop_noise(rows, faces, labels).dominant.tolist() == [0]
    assert drop_noise(rows, faces, labels, DropSettings(dominance="mean_cosine")).dominant.tolist() == [1]


def test_u14_drop_takes_the_first_of_equals() -> None:
    """Nearest and dominant alike; one photo each for sub-centres 1 and 2."""
    rows = torch.tensor([[[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]])
    faces = torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 1.0, 1.0], [-1.0, 0.0, 0.0]])
    found = drop_noise(rows, faces[:2], torch.zeros(2, dtype=torch.int64))
    assert found.dominant.tolist() == [1]
    found = drop_noise(rows, faces[2:3], torch.zeros(1, dtype=torch.int64))
    assert found.nearest.tolist() == [1]
    found = drop_noise(rows, faces[1:2] * 0, torch.zeros(1, dtype=torch.int64))  # no direction: equally far from all
    assert found.nearest.tolist() == [0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_u14_drop_keeps_the_boundary_unless_the_code_is_followed(dtype: torch.dtype) -> None:
    """cos 60° = 1/2 is exact in both types: at the cut the paper keeps, the code's cos > cut drops."""
    rows = torch.tensor([[[2.0, 0.0, 0.0, 0.0]]], dtype=dtype)
    faces = torch.tensor([[0.5, 0.5, 0.5, 0.5], [0.5, -0.5, -0.5, 0.5]], dtype=dtype)
    labels = torch.zeros(2, dtype=torch.int64)
    found = drop_noise(rows, faces, labels, DropSettings(cut_deg=60))
    assert found.keep.tolist() == [True, True]
    assert found.angle_rad.tolist() == pytest.approx([math.pi / 3] * 2)
    assert drop_noise(rows, faces, labels, DropSettings(60, boundary="dropped")).keep.tolist() == [False, False]


def test_u14_drop_cuts_at_75_degrees_by_default() -> None:
    degrees = torch.tensor([0.0, 74.999, 75.0, 75.001, 180.0], dtype=torch.float64)
    faces = torch.stack([degrees.deg2rad().cos(), degrees.deg2rad().sin()], 1)
    rows = torch.tensor([[[3.0, 0.0]]], dtype=torch.float64)
    found = drop_noise(rows, faces, torch.zeros(5, dtype=torch.int64))
    assert found.keep.tolist() == [True, True, True, False, False]
    np.testing.assert_allclose(found.angle_rad.rad2deg().numpy(), degrees.numpy(), atol=1e-6)


def test_u14_drop_reports_emptied_classes_and_not_those_without_photos() -> None:
    """Class 0 has two photos, both beyond the cut; class 1 has none and is not emptied."""
    rows = torch.tensor([[[1.0, 0.0]], [[1.0, 0.0]], [[1.0, 0.0]]])
    faces, labels = torch.tensor([[0.0, 1.0], [-1.0, 0.0], [1.0, 0.1]]), torch.tensor([0, 0, 2])
    found = drop_noise(rows, faces, labels)
    assert found.emptied == (0,)
    assert found.dominant.tolist() == [0, -1, 0]
    assert found.keep.tolist() == [False, False, True]


def test_u14_drop_is_the_same_in_blocks_and_for_raw_embeddings(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, faces, labels = drawn(1)
    whole = drop_noise(rows, faces, labels)
    monkeypatch.setattr(subcentres, "_CELLS", 7 * CENTRES * DIM)
    parts = drop_noise(rows, 20 * faces, labels)
    for name in ("nearest", "dominant", "keep"):
        assert torch.equal(getattr(whole, name), getattr(parts, name))
    torch.testing.assert_close(whole.angle_rad, parts.angle_rad)


def test_u14_drop_of_nobody() -> None:
    rows, faces, labels = drawn(0)
    found = drop_noise(rows, faces[:0], labels[:0])
    assert found.dominant.tolist() == [-1] * CLASSES
    assert (len(found.keep), found.emptied) == (0, ())


def test_settings_and_shapes_that_do_not_fit_are_refused() -> None:
    settings: list[dict[str, Any]] = [
        {"cut_deg": 0},
        {"cut_deg": 180},
        {"cut_deg": math.nan},
        {"dominance": "size"},
        {"boundary": "some"},
    ]
    for wrong in settings:
        with pytest.raises(UsageError) as refused:
            DropSettings(**wrong)
        assert refused.value.hint
    rows, faces, labels = drawn(0)
    for bad in (
        (rows[:, 0], faces, labels),
        (rows, faces[:, :2], labels),
        (rows, faces, labels[:5]),
        (rows, faces, labels + 1),
        (rows, faces, labels - 1),
        (rows, faces, labels.int()),
    ):
        with pytest.raises(DataError):
            drop_noise(*bad)
