"""Thresholds set on some people, tried on others: real faces divided many times, and simulated people without end.

What a split can show. A threshold from half of the people is in doubt, and so is the rate that the other half shows at
it. T51 asks whether the *asked* rate lies within the interval of the measured one; that interval must know both
doubts, so it is as wide as their variances are together (`core.galleries.measured_on` does the same for FPIR).

The shipped `fmr_others95` knows the first half alone, and doubles its variance. For people who have nothing to do with
the first ones that is right, as the simulation shows. Halves of one set are not such people: whoever resembles many
strangers stands in one half and is missing in the other, so a first half that varies too little meets a second that
shows too much (measured: correlation of the two halves' variances -0.4 to -0.7). A split is the harder trial there, and
no evidence about other people; how often `fmr_others95` holds in splits is printed, and stands in docs/calibration.md.

The splits are of one set of people, so 500 of them are not 500 trials: they tell how the interval does for these
people, and more splits would only tell that more exactly. At least 93 % of them must hold (TRUST.md, T51).
"""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from facespace.core.contracts import Vectors
from facespace.core.dependence import Share, interval_of, share_over_people
from facespace.core.galleries import Strangers, measured_on
from facespace.core.intervals import Interval, clopper_pearson_share
from facespace.core.scores import unit_vectors
from facespace.data.batches import read_crop
from facespace.data.folder import open_people
from facespace.errors import Refused
from facespace.judge.calibrate import operating_point
from facespace.models.embedder import load

MODELS = ["mobilefacenet", "face512"]
SPLITS = [20, pytest.param(500, marks=pytest.mark.nightly)]
Pairs = tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]


@cache
def embedded(shared: Path, name: str) -> tuple[Vectors, NDArray[np.int64]]:
    """Three photos each of 400 people."""
    embedder = load(shared / f"models/{name}.onnx", threads=1)
    source = open_people(shared / "data/devtest.tar")
    places = np.concatenate([np.flatnonzero(source.labels == label)[:3] for label in range(len(source.names))])
    return embedder.embed(np.stack([read_crop(source, int(place)) for place in places])), source.labels[places]


def pairs(vectors: Vectors, labels: NDArray[np.int64]) -> Pairs:
    """All pairs: score, and whose photos they are."""
    first, second = np.triu_indices(len(labels), 1)
    return (vectors @ vectors.T)[first, second], labels[first], labels[second]


def false_matches(trial: Pairs, threshold: float) -> Share:
    scores, a, b = trial
    return share_over_people(scores[a != b] >= threshold, a[a != b], b[a != b])


def held_out_fmr(mine: Pairs, others: Pairs, fmr: float) -> tuple[bool, bool]:
    """Whether the asked rate is in the interval of the measured one, and whether that is in `fmr_others95`."""
    point = operating_point(*mine, fmr)
    known, met = (false_matches(trial, point.threshold) for trial in (mine, others))
    both = interval_of(met.rate, 1 / (1 / known.effective + 1 / met.effective), min(known.people, met.people))
    assert point.fmr_others95 is not None
    return holds(both, fmr), holds(point.fmr_others95, met.rate)


def holds(interval: Interval, value: float) -> bool:
    return interval[0] <= value <= interval[1]


def require_93(inside: int, trials: int) -> None:
    """In 93 % of all: 500 splits must show it; 20 cannot tell 93 % from 95 %, and fail only where they exclude it."""
    enough = inside >= 0.93 * trials if trials >= 500 else clopper_pearson_share(inside / trials, trials)[1] >= 0.93
    assert enough, f"{inside} of {trials}"


@pytest.mark.shared
@pytest.mark.parametrize("splits", SPLITS)
@pytest.mark.parametrize("name", MODELS)
def test_t51_the_asked_fmr_lies_inside_the_interval_of_other_people_s(shared: Path, name: str, splits: int) -> None:
    vectors, labels = embedded(shared, name)
    found: dict[float, list[tuple[bool, bool]]] = {1e-2: [], 1e-3: []}
    for split in range(splits):
        order = np.random.default_rng(split).permutation(400)
        first = np.isin(labels, order[:200])
        mine, others = (pairs(vectors[half], labels[half]) for half in (first, ~first))
        for fmr, held in found.items():
            held.append(held_out_fmr(mine, others, fmr))
    for fmr, held in found.items():
        inside, shipped = np.sum(held, axis=0).tolist()
        print(f"{name}, FMR {fmr:g}: {inside} of {splits}; fmr_others95 holds in {shipped}")  # noqa: T201
        require_93(inside, splits)
        require_93(shipped, splits)


@cache
def strangers(shared: Path, name: str) -> Strangers:
    """Two photos of each of 400 people, searching templates of one photo of everybody."""
    vectors, labels = embedded(shared, name)
    enrolled = np.arange(len(labels)) % 3 == 0
    return Strangers(vectors[~enrolled] @ vectors[enrolled].T, labels[~enrolled])


@pytest.mark.shared
@pytest.mark.parametrize("splits", SPLITS)
@pytest.mark.parametrize("name", MODELS)
def test_t51_the_asked_fpir_lies_inside_the_interval_of_other_people_s(shared: Path, name: str, splits: int) -> None:
    """Galleries of 50, of 100, and of 198, the most that half of the people give; FPIR 10 %."""
    found: dict[int, list[bool]] = {50: [], 100: [], 198: []}
    everybody = strangers(shared, name)
    for split in range(splits):
        mine, others = everybody.halves(np.random.default_rng(split))
        for people, held in found.items():
            held.append(holds(measured_on(others, mine.at(people, 0.1))[1], 0.1))
    for people, held in found.items():
        print(f"{name}, FPIR 0.1 among {people}: {sum(held)} of {splits}")  # noqa: T201
        require_93(sum(held), splits)


@pytest.mark.shared
@pytest.mark.parametrize("galleries", [20, pytest.param(200, marks=pytest.mark.nightly)])
def test_t52_no_threshold_is_given_for_a_gallery_ten_times_as_large(shared: Path, galleries: int) -> None:
    """Nor for any larger one than the people give: the reason names both numbers. Kept, the old threshold would not do:
    ten times as many people let in far more strangers.
    """
    everybody, rng = strangers(shared, "face512"), np.random.default_rng(0)
    for _ in range(galleries):
        part = everybody.only(np.isin(np.arange(400), rng.choice(400, 40, replace=False)))
        with pytest.raises(Refused, match="40 people cannot show the FPIR of a gallery of 380"):
            part.at(10 * part.largest, 0.1)
    small = everybody.at(39, 0.1)
    assert everybody.fpir(390, small.threshold).ci95[0] > 0.3


def crowd(rng: np.random.Generator, people: int, common: float) -> Pairs:
    """Two photos of each; the more some have of what is `common`, the more strangers they resemble."""
    centres = rng.normal(size=(people, 24))
    centres[:, 0] += common * rng.exponential(size=people)
    photos = np.repeat(centres, 2, axis=0) + 0.5 * rng.normal(size=(2 * people, 24))
    return pairs(unit_vectors(photos), np.repeat(np.arange(people), 2))


@pytest.mark.parametrize("common", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("sets", [100, pytest.param(2000, marks=pytest.mark.nightly)])
def test_the_rate_that_quite_other_people_show_lies_within_what_the_card_says(sets: int, common: float) -> None:
    """Each time 100 people to calibrate on and 100 others, FMR 1 %: the asked rate within the measured one's interval,
    and the shown rate within `fmr_others95`, in 93 % or more.
    """
    rng = np.random.default_rng(21)
    held = [held_out_fmr(crowd(rng, 100, common), crowd(rng, 100, common), 0.01) for _ in range(sets)]
    for inside in np.sum(held, axis=0).tolist():
        print(f"common {common:g}: {inside} of {sets}")  # noqa: T201
        require_93(inside, sets)
