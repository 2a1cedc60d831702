"""How often 95 % intervals hold the truth, on simulated scores of people who differ: 200 sets, nightly 2,000."""

from statistics import NormalDist

import numpy as np
import pytest
from numpy.typing import NDArray

from facespace.core.dependence import share_ci95, tar_at_far_ci95
from facespace.core.intervals import Interval, clopper_pearson
from facespace.core.pair_lists import PairList, accuracy, spread

SETS = [200, pytest.param(2000, marks=pytest.mark.nightly)]
FOLDS, PEOPLE, KIND = 5, 20, 60  # of each fold: people, and pairs of each kind
SPREAD = 0.6  # how much people differ, where photos of one differ by 1
WIDTH = float(np.sqrt(1 + 2 * SPREAD**2))  # of the scores of either kind
APART = 3 * WIDTH  # their means

Pairs = tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def pairs(rng: np.random.Generator) -> Pairs:
    """Scores, people and folds, folds having no person in common: some are easily known, some easily mistaken."""
    people = rng.integers(0, PEOPLE, (FOLDS, 2 * KIND, 2)) + PEOPLE * np.arange(FOLDS)[:, None, None]
    people[:, :KIND, 1] = people[:, :KIND, 0]
    twins = people[:, KIND:, 0] == people[:, KIND:, 1]
    people[:, KIND:, 1] -= twins * np.where(people[:, KIND:, 1] % PEOPLE, 1, -1)
    a, b = people.reshape(-1, 2).T
    known, mistaken = rng.normal(size=(2, FOLDS * PEOPLE)) * SPREAD
    scores = np.where(a == b, APART + np.sqrt(2) * known[a], mistaken[a] + mistaken[b]) + rng.normal(size=a.size)
    return scores, a, b, np.repeat(np.arange(FOLDS), 2 * KIND)


def check(intervals: list[Interval], truth: float) -> None:
    """Of 2,000 sets 93 to 97 % hold the truth; of 200, what chance gives in 998 of 1,000 cases where that is so."""
    share = np.mean([low <= truth <= high for low, high in intervals])
    held, sets = round(share * len(intervals)), len(intervals)
    least, most = (share, share) if sets >= 2000 else clopper_pearson(held, sets, 0.998)
    assert least <= 0.97, f"{held} of {sets} intervals hold {truth}"
    assert most >= 0.93, f"{held} of {sets} intervals hold {truth}"


@pytest.mark.parametrize("sets", SETS)
def test_the_interval_of_accuracy_over_folds_covers_what_such_folds_give_on_average(sets: int) -> None:
    rng, found = np.random.default_rng(11), []
    for seed in range(sets):
        scores, a, b, folds = pairs(rng)
        listed = PairList.of(scores, a, b)
        found.append(spread(listed, lambda pairs, weights, folds=folds: accuracy(pairs, weights, folds), 150, seed))
    truth = float(np.mean([figure.value for figure in found]))
    check([figure.share_ci95(2 * FOLDS * KIND) for figure in found], truth)


@pytest.mark.parametrize("sets", SETS)
def test_the_interval_of_tar_at_far_covers_that_of_the_law(sets: int) -> None:
    rng, far, normal = np.random.default_rng(12), 0.03, NormalDist()
    intervals = []
    for _ in range(sets):
        scores, a, b, _ = pairs(rng)
        intervals.append(tar_at_far_ci95(scores, a, b, far))
    check(intervals, 1 - normal.cdf(normal.inv_cdf(1 - far) - APART / WIDTH))


@pytest.mark.parametrize("sets", SETS)
def test_the_interval_of_fpir_covers_that_of_the_law(sets: int) -> None:
    """Strangers with 1 to 8 photos each, searched in one gallery: the best score of a search is normal."""
    rng, intervals = np.random.default_rng(13), []
    threshold = 2.0 * float(np.sqrt(1 + SPREAD**2))
    for _ in range(sets):
        searches = np.repeat(np.arange(300), rng.integers(1, 9, 300))
        best = SPREAD * rng.normal(size=300)[searches] + rng.normal(size=searches.size)
        intervals.append(share_ci95(best >= threshold, searches))
    check(intervals, 1 - NormalDist().cdf(2.0))
