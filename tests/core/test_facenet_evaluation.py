"""FaceNet's figures by hand: VAL and FAR at a distance, a target between steps, ten folds, standard error (U12)."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from facespace.core import intervals, scores
from facespace.core import verification as v

SAME = {0.2: True, 0.9: True, 1.1: True, 1.6: True, 1.0: False, 1.242: False, 1.5: False, 2.0: False, 2.5: False}
"""Squared distances of nine pairs; whether they show one person."""


def curve() -> v.Roc:
    return v.roc(scores.cosine(list(SAME)), list(SAME.values()))


def rates_at(distance: float) -> tuple[float, float]:
    """TA / |P_same| and FA / |P_diff| with same meaning D <= d."""
    accepted = [same for D, same in SAME.items() if distance >= D]
    return accepted.count(True) / 4, accepted.count(False) / 5


def test_u12_val_and_far_by_hand() -> None:
    """At every distance that occurs, that one accepted: the paper's <=."""
    found = {round(float(scores.squared_distance(t)), 9): i for i, t in enumerate(curve().thresholds) if t < math.inf}
    assert set(found) == set(SAME)
    for distance, i in found.items():
        assert (curve().tar[i], curve().far[i]) == pytest.approx(rates_at(distance), abs=1e-15)
    assert rates_at(1.1) == (0.75, 0.2)
    assert rates_at(1.242) == (0.75, 0.4)


def test_u12_a_far_target_between_steps_takes_the_step_below() -> None:
    """FAR goes 0, 0.2, 0.4, ...; asked for 0.39 it is 0.2, and VAL is the most that 0.2 allows."""
    for target, far, val, distance in (
        (0.2, 0.2, 0.75, 1.1),
        (0.39, 0.2, 0.75, 1.1),
        (0.59, 0.4, 0.75, 1.242),
        (0.79, 0.6, 1.0, 1.6),
    ):
        point = v.at_far(curve(), target)
        assert (point.far, point.tar) == (far, val)
        assert float(scores.squared_distance(point.threshold)) == pytest.approx(distance, abs=1e-12)


def ten_folds(seed: int) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64]]:
    """Squared distances of 10 x (30 + 30) pairs in the manner of LFW."""
    rng = np.random.default_rng(seed)
    same = np.tile(np.repeat([True, False], 30), 10)
    return np.where(same, rng.normal(0.9, 0.3, 600), rng.normal(1.7, 0.3, 600)), same, np.repeat(np.arange(10), 60)


def test_u12_a_ten_fold_threshold_never_sees_its_test_fold() -> None:
    """Whatever stands in a fold, right or absurd, its threshold stays; the thresholds of the nine others do not."""
    D, same, folds = ten_folds(0)
    before = v.over_folds(scores.cosine(D), same, folds, v.best_threshold)
    for fold in range(10):
        changed = D.copy()
        changed[folds == fold] = np.where(same[folds == fold], 3.9, 0.1)
        after = v.over_folds(scores.cosine(changed), same, folds, v.best_threshold)
        assert after.thresholds[fold] == before.thresholds[fold]
        assert after.accuracy[fold] == 0
        assert (np.delete(after.accuracy, fold) <= np.delete(before.accuracy, fold)).any()


def test_u12_trap_2_a_threshold_from_the_tested_pairs_flatters() -> None:
    """Public code picks the best threshold on the pairs that it scores: never below the held-out accuracy."""
    for seed in range(5):
        D, same, folds = ten_folds(seed)
        held_out = v.over_folds(scores.cosine(D), same, folds, v.best_threshold).accuracy.mean()
        best = max(float(((d >= D) == same).mean()) for d in D)
        assert best > held_out


def test_u12_the_error_of_a_mean_over_ten_folds() -> None:
    """std(ddof = 1) / sqrt(10), written out; not the standard deviation, and not that with ddof = 0."""
    D, same, folds = ten_folds(1)
    accuracy = v.over_folds(scores.cosine(D), same, folds, v.best_threshold).accuracy.tolist()
    mean = sum(accuracy) / 10
    deviation = math.sqrt(sum((a - mean) ** 2 for a in accuracy) / 9)
    assert intervals.standard_error(accuracy) == pytest.approx(deviation / math.sqrt(10), rel=1e-12)
    assert intervals.standard_error(accuracy) != pytest.approx(float(np.std(accuracy)) / math.sqrt(10), rel=1e-3)
