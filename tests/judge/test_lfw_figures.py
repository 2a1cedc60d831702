"""LFW by two public models: every figure of real scores against slow float64 code, and the usual 400 distances.

The scores in lfw_scores.npz are made by benchmarks/lfw_scores.py; a nightly test makes some of them again.
"""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from facespace.faces.detect import Aligned, YuNet
from facespace.judge.figures import FARS, Figures, figures_of
from facespace.judge.people import PairPeople
from facespace.judge.protocols import lfw
from facespace.judge.run import run
from facespace.models.embedder import load

SAVED = Path(__file__).with_name("lfw_scores.npz")
LISTS = ["mobilefacenet_crops", "face512_crops", "mobilefacenet_photos", "face512_photos"]

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Ids = NDArray[np.int64]


def saved(name: str) -> tuple[NDArray[np.float32], Flags, Ids, PairPeople]:
    """Scores, truth, folds and people: all ten folds of crops, the first three of whole photos."""
    with np.load(SAVED) as file:
        scores = file[name]
        a, b = (file[side][: scores.size].astype(np.int64) for side in ("first", "second"))
    return scores, a == b, np.arange(scores.size) // 600 + 1, PairPeople(a, b, named=True)


def judged(name: str) -> Figures:
    scores, same, folds, people = saved(name)
    return figures_of(scores, same, folds, people=people)


def counted(scores: Floats, same: Flags) -> tuple[Floats, Ids, Ids]:
    """Thresholds from the strictest, and the genuine and impostor pairs at or above each, compared one by one."""
    tried = np.array([np.inf, *sorted(set(scores.tolist()), reverse=True)])
    genuine, impostors = scores[same], scores[~same]
    met = [(int((genuine >= t).sum()), int((impostors >= t).sum())) for t in tried.tolist()]
    return tried, *np.array(met, dtype=np.int64).T


def loosest(tried: Floats, false: Ids, impostors: int, far: float) -> float:
    return max((k, t) for k, t in enumerate(tried.tolist()) if false[k] <= far * impostors * (1 + 1e-12))[1]


@pytest.mark.parametrize("name", LISTS)
def test_every_figure_of_real_scores_is_that_of_slow_code(name: str) -> None:
    scores, same, folds, _ = saved(name)
    scores, found = scores.astype(np.float64), judged(name)
    thresholds, accuracy = [], []
    rates: dict[float, list[tuple[float, float]]] = {far: [] for far in FARS}
    for fold in np.unique(folds):
        held = folds == fold
        tried, true, false = counted(scores[~held], same[~held])
        others = int((~same[~held]).sum())
        right = (true + others - false).tolist()
        thresholds.append(max(t for t, count in zip(tried.tolist(), right, strict=True) if count == max(right)))
        accuracy.append(float(((scores[held] >= thresholds[-1]) == same[held]).mean()))
        for far in FARS:
            t = loosest(tried, false, others, far)
            accepted = scores[held] >= t
            rates[far].append((float(accepted[same[held]].mean()), float(accepted[~same[held]].mean())))
            assert (1 / others > far) == (found.val_at_far[FARS.index(far)].refused is not None)
    np.testing.assert_allclose(found.folds.thresholds, thresholds, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.folds.accuracy, accuracy, rtol=0, atol=1e-12)
    assert found.accuracy == pytest.approx(np.mean(accuracy), abs=1e-12)
    for far, shown in zip(FARS, found.val_at_far, strict=True):
        if shown.refused is None:
            assert (shown.rate, shown.achieved_far) == pytest.approx(tuple(np.mean(rates[far], axis=0)), abs=1e-12)


@pytest.mark.parametrize("name", LISTS)
def test_the_figures_of_the_whole_curve_are_those_of_slow_code(name: str) -> None:
    scores, same, _, _ = saved(name)
    scores, found = scores.astype(np.float64), judged(name)
    tried, true, false = counted(scores, same)
    genuine, impostors = int(same.sum()), int((~same).sum())
    for far, shown in zip(FARS, found.tar_at_far, strict=True):
        assert (shown.refused is not None) == (1 / impostors > far)
        if shown.refused is None:
            t = loosest(tried, false, impostors, far)
            expected = float((scores[same] >= t).mean()), float((scores[~same] >= t).mean())
            assert (shown.rate, shown.achieved_far) == pytest.approx(expected, abs=1e-12)
    far, fnmr = false / impostors, 1 - true / genuine
    at = next(k for k in range(len(tried)) if far[k] >= fnmr[k])
    share = (fnmr[at - 1] - far[at - 1]) / (fnmr[at - 1] - far[at - 1] - fnmr[at] + far[at])
    assert found.eer == pytest.approx(far[at - 1] + share * (far[at] - far[at - 1]), abs=1e-12)
    assert found.eer_threshold == tried[at]
    wins = sum(float(np.sign(score - scores[~same]).sum()) for score in scores[same].tolist())
    assert found.auc == pytest.approx((wins / genuine / impostors + 1) / 2, abs=1e-12)


def usual(distances: Floats, same: Flags, folds: Ids, grid: Floats) -> tuple[Floats, Floats]:
    """Accuracy and distance of each fold as widely copied code has them: the first best of the grid on the others."""
    accuracy, chosen = [], []
    for fold in np.unique(folds):
        held = folds == fold
        right = [int((np.less(distances[~held], t) == same[~held]).sum()) for t in grid.tolist()]
        chosen.append(grid[int(np.argmax(right))])
        accuracy.append(float((np.less(distances[held], chosen[-1]) == same[held]).mean()))
    return np.array(accuracy), np.array(chosen)


@pytest.mark.parametrize(
    ("name", "pairs_more"),
    [("mobilefacenet_crops", 1), ("face512_crops", 3), ("mobilefacenet_photos", 0), ("face512_photos", 0)],
)
def test_the_usual_400_distances_lose_what_lies_between_them(name: str, pairs_more: int) -> None:
    """docs/notes.md: the grid is all that differs; midpoints, strictness and which of equal ones is taken are not."""
    scores, same, folds, _ = saved(name)
    distances, found = 2 - 2 * scores.astype(np.float64), judged(name).folds
    accuracy, chosen = usual(distances, same, folds, np.arange(0, 4, 0.01))
    assert round(float((found.accuracy - accuracy).sum()) * 600) == pairs_more
    ours = 2 - 2 * found.thresholds
    differs = (distances < chosen[folds - 1]) != (distances <= ours[folds - 1])
    low, high = np.minimum(chosen, ours), np.maximum(chosen, ours)
    assert ((distances[differs] >= low[folds - 1][differs]) & (distances[differs] <= high[folds - 1][differs])).all()
    every = np.unique(distances)
    for grid in (np.append(every, 4.0), np.concatenate(([0.0], (every[1:] + every[:-1]) / 2, [4.0]))):
        np.testing.assert_array_equal(usual(distances, same, folds, grid)[0], found.accuracy)


@pytest.mark.shared
@pytest.mark.nightly
@pytest.mark.parametrize("name", LISTS)
def test_the_saved_scores_come_back(name: str, shared: Path) -> None:
    """Folds 1 to 3, from aligned crops and from whole photos."""
    model, kind = name.split("_")
    data = {"crops": "lfw-crops.tar", "photos": "lfw-photos-folds1-3.tar"}[kind]
    protocol = lfw(shared / "data/lfw/pairs.txt", shared / "data/lfw" / data, "1-3")
    detector = Aligned() if kind == "crops" else YuNet(shared / "models/face_detection_yunet_2023mar.onnx")
    found = run(protocol, load(shared / f"models/{model}.onnx"), detector)
    scores, same, _, people = saved(name)
    np.testing.assert_array_equal(protocol.same, same[:1800])
    assert protocol.labels is not None
    np.testing.assert_allclose(found.scores, scores[:1800], rtol=0, atol=1e-4)
    assert (protocol.people or 0) == len(np.unique(np.concatenate((people.a[:1800], people.b[:1800]))))
