"""Do scores look alike? Recomputed pair by pair; false alarms and misses on simulated people."""

import numpy as np
import pytest
from numpy.typing import NDArray

from facespace.core.drift import LEVELS, drift, impostor_scores, shares_below
from facespace.core.resampling import RankedPairs, draw_people, ranked_pairs
from facespace.core.scores import unit_vectors
from facespace.errors import Refused

DRAWS = 300


def people_of(count: int, photos: int, seed: int, shift: float = 0.0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Unit vectors of people about a common middle that `shift` moves away from zero; the more, the more alike."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(count, 24))
    centres[:, 0] += 1 + shift
    labels = np.repeat(np.arange(count), photos)
    return unit_vectors(centres[labels] + rng.normal(size=(len(labels), 24)) / 2), labels


def ranked(count: int, photos: int, seed: int, shift: float = 0.0) -> tuple[RankedPairs, NDArray[np.float64]]:
    pairs = ranked_pairs(*people_of(count, photos, seed, shift))
    return pairs, draw_people(pairs.photos, DRAWS, np.random.default_rng(seed))


def test_shares_are_those_of_every_pair_counted_by_itself() -> None:
    vectors, labels = people_of(7, 3, 1)
    pairs = ranked_pairs(vectors, labels)
    weights = draw_people(pairs.photos, 5, np.random.default_rng(2))
    scores = [-0.3, float(pairs.scores[40]), 0.2, 2.0, -2.0]
    found = shares_below(pairs, weights, scores)
    for row, times in enumerate(weights):
        for column, score in enumerate(scores):
            below = total = 0.0
            for i in range(len(labels)):
                for j in range(i):
                    if labels[i] != labels[j]:
                        count = times[labels[i]] * times[labels[j]]
                        total += count
                        below += count * (np.float32(vectors[max(i, j)] @ vectors[min(i, j)]) < np.float32(score))
            assert found[row, column] == pytest.approx(below / total, abs=2e-3)


def test_what_is_kept_are_the_quantiles_of_the_impostor_scores_alone() -> None:
    vectors, labels = people_of(40, 3, 3)
    pairs, weights = ranked(40, 3, 3)
    kept = impostor_scores(pairs, weights)
    first, second = np.triu_indices(len(labels), 1)
    impostors = (vectors[first] * vectors[second]).sum(1)[labels[first] != labels[second]]
    assert kept.levels == LEVELS
    assert kept.scores == pytest.approx(np.quantile(impostors, LEVELS), abs=5e-3)
    assert kept.stderr == pytest.approx(shares_below(pairs, weights, kept.scores).std(0, ddof=1), rel=1e-12)
    assert kept.people == 40


def test_people_of_the_same_kind_raise_few_alarms_and_others_are_noticed() -> None:
    """Twenty sets of each; the chance of a false alarm is meant to be 1 %, so two among twenty have one of 2 %."""
    known = impostor_scores(*ranked(100, 3, 1000))
    alarms = [
        not drift(known, *ranked(30 + 10 * (seed % 4), 1 + seed % 4 + (seed % 4 == 0), seed)).alike
        for seed in range(20)
    ]
    noticed = [not drift(known, *ranked(60, 3, 50 + seed, shift=1.2)).alike for seed in range(20)]
    assert sum(alarms) <= 1
    assert sum(noticed) >= 19


def test_the_set_itself_is_alike_and_too_few_people_are_refused() -> None:
    pairs, weights = ranked(30, 3, 7)
    itself = drift(impostor_scores(pairs, weights), pairs, weights)
    assert itself.alike
    assert itself.shares == pytest.approx(LEVELS, abs=2e-3)
    with pytest.raises(Refused, match="19 people"):
        drift(impostor_scores(pairs, weights), *ranked(19, 3, 8))
