"""Which threshold keeps strangers out of a gallery of N people? FPIR as a function of N, exact over all galleries.

A stranger is a false positive where the best of N scores reaches the threshold. Were these scores independent with one
FMR, FPIR(N) would be 1 - (1 - FMR)^N; but some faces are like many others, and then it is less. Here it is taken from
the searches themselves: every photo of a person searches the templates of all m others, and FPIR(N) is its mean over
all galleries of N of these m. None is drawn: where c of the m scores reach the threshold, a share of
C(m - c, N) / C(m, N) of the galleries holds none of them. A larger N than the people give is refused, not extrapolated.

People are searchers and enrolled at once, so the interval takes out each in turn (the jackknife of a U-statistic;
Arvesen, "Jackknifing U-statistics", Annals of Mathematical Statistics 40 (1969)); what a pair adds is then taken out
twice, and counts once (as in `dependence`). That of a threshold is where the FPIR
passes the ends of its own (Woodruff, "Confidence intervals for medians and other position measures", JASA 47 (1952)).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facespace.core.dependence import Share, interval_of, share_of
from facespace.core.identification import require_searches
from facespace.core.intervals import Interval
from facespace.errors import DataError, Refused

Floats = NDArray[np.float64]
SPLITS = 20


@dataclass(frozen=True)
class GalleryPoint:
    """The lowest threshold whose FPIR in galleries of `people` is at most the asked one."""

    people: int
    asked: float
    threshold: float
    ci95: Interval
    """Where, for other people, the threshold for the asked FPIR lies; +inf where these searches set no upper end."""
    fpir: Share
    """The achieved one; its interval is for other people at this threshold."""
    if_independent: float
    """What N independent comparisons of the FMR at this threshold would give: 1 - (1 - FMR)^N."""


@dataclass(frozen=True)
class HeldOut:
    """A threshold from half of the people, met by the other half: both ways in each of many random halvings."""

    fpir: float
    """Mean FPIR of those who had no part in the threshold."""
    inside: int
    """Trials whose 95 % interval, which knows the doubts of both halves, held the asked FPIR."""
    trials: int


@dataclass(frozen=True, eq=False)
class Strangers:
    """Scores of searches against the templates of others; `own` int `(P,)` is the searcher's own column, left out.

    `scores` float32 `(P, m + 1)`; -inf where a photo or a template gave no face: it counts, and reaches no threshold.
    """

    scores: NDArray[np.float32]
    own: NDArray[np.int64]

    @property
    def others(self) -> int:
        """m: so many people a searcher can meet."""
        return int(self.scores.shape[1]) - 1

    @property
    def largest(self) -> int:
        """The largest gallery that leaves somebody to take out."""
        return self.others - 1

    @cached_property
    def _falling(self) -> "_Falling":
        """All comparisons by falling score."""
        if np.isnan(self.scores).any() or np.isposinf(self.scores).any():
            raise DataError("a score is not a number", hint="check the vectors of the model")
        mine = np.arange(self.others + 1) == self.own[:, None]
        scores = self.scores[~mine].reshape(len(self.own), self.others)
        columns = np.argsort(-scores, axis=1)
        scores = np.take_along_axis(scores, columns, 1).ravel()
        columns += columns >= self.own[:, None]
        order = np.argsort(-scores, kind="stable")
        return _Falling(scores[order], order // self.others, columns.ravel()[order], order % self.others)

    def threshold(self, people: int, fpir: float) -> float:
        """The lowest score with an FPIR of at most `fpir` in galleries of `people`; +inf where there is none."""
        scores = self._falling.scores
        adds = np.diff(met_in_gallery(self.others, people))  # what the next score of a search adds to its chance
        last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))
        last = last[np.isfinite(scores[last])]
        rates = adds[self._falling.above].cumsum()[last] / len(self.own)
        at = int(np.searchsorted(rates, fpir * (1 + 1e-12), side="right")) - 1  # sums of shares are rounded
        return float(scores[last[at]]) if at >= 0 else math.inf

    def fpir(self, people: int, threshold: float) -> Share:
        """FPIR in galleries of `people` at a threshold, and its interval for other people.

        Raises Refused where the people give no such gallery once one of them is taken out.
        """
        if not 1 <= people <= self.largest:
            raise Refused(
                f"{self.others + 1:,} people cannot show the FPIR of a gallery of {people:,}",
                hint=f"judge on more people, add distractors, or ask for at most {max(0, self.largest):,}",
            )
        reached = np.bincount(self._falling.searches[: self._stop(threshold)], minlength=len(self.own))
        rate = float(met_in_gallery(self.others, people)[reached].mean())
        galleries = self.others / people  # that many without a common template: a search can meet each
        variance, searchers = self._variance(people, threshold, reached), len(np.unique(self.own))
        return share_of(rate, len(self.own), searchers, variance, most=len(self.own) * galleries)

    def _variance(self, people: int, threshold: float, reached: NDArray[np.int64]) -> float:
        """Of the FPIR over people: each is taken out in turn, as searcher and from the galleries."""
        met, size = met_in_gallery(self.others - 1, people), self.others + 1
        spared, hit = met[np.minimum(reached, self.others - 1)], met[np.maximum(reached - 1, 0)]
        falling, stop = self._falling, self._stop(threshold)
        drops = (spared - hit)[falling.searches[:stop]]
        lost = np.bincount(falling.columns[:stop], drops, size)
        searches = len(self.own) - np.bincount(self.own, minlength=size)
        sums = spared.sum() - np.bincount(self.own, spared, size) - lost
        pairs = _pair_sums(falling.columns[:stop], self.own[falling.searches[:stop]], drops / len(self.own))
        return _jackknife(sums[searches > 0] / searches[searches > 0], pairs)

    def _stop(self, threshold: float) -> int:
        """How many comparisons reach the threshold."""
        return int(np.searchsorted(-self._falling.scores, -np.float32(threshold), side="right"))

    def at(self, people: int, fpir: float) -> GalleryPoint:
        """The threshold for galleries of `people` and an FPIR; Refused where the searches or people are too few."""
        require_searches(fpir, len(self.own))
        threshold = self.threshold(people, fpir)
        if math.isinf(threshold):
            raise Refused(
                f"searches that share the highest score are more than an FPIR of {fpir:g}: no score seen will do",
                hint="judge on more people, or ask for a higher FPIR",
            )
        achieved = self.fpir(people, threshold)
        low, high = achieved.ci95
        ends = (self.threshold(people, high), self.threshold(people, low))
        fmr = self._stop(threshold) / (len(self.own) * self.others)
        return GalleryPoint(people, fpir, threshold, ends, achieved, if_independent(fmr, people))

    def halves(self, rng: np.random.Generator) -> tuple["Strangers", "Strangers"]:
        """Two that share no person, neither among searchers nor templates."""
        sides = rng.permutation(self.others + 1) % 2 == 0
        return self.only(sides), self.only(~sides)

    def only(self, people: ArrayLike) -> "Strangers":
        """The people for whom `people` bool `(m + 1,)` is true among themselves."""
        kept = np.asarray(people, np.bool_)
        rows, columns = np.flatnonzero(kept[self.own]), np.flatnonzero(kept)
        return Strangers(self.scores[np.ix_(rows, columns)], np.searchsorted(columns, self.own[rows]))


@dataclass(frozen=True, eq=False)
class _Falling:
    """Comparisons by falling score, each `(P m,)`."""

    scores: NDArray[np.float32]
    searches: NDArray[np.int64]
    columns: NDArray[np.int64]
    above: NDArray[np.int64]
    """How many of the same search come before it."""


Wish = tuple[int, float]
"""People in the gallery, and FPIR."""


def held_out(
    strangers: Strangers, wishes: Sequence[Wish], splits: int = SPLITS, seed: int = 0
) -> dict[Wish, HeldOut | Refused]:
    """How well thresholds from half of the people hold for the other half; why not, where a half is too small."""
    rng = np.random.default_rng(seed)
    met: dict[Wish, list[tuple[float, bool]]] = {wish: [] for wish in wishes}
    refused: dict[Wish, Refused] = {}
    for _ in range(splits):
        a, b = strangers.halves(rng)
        for one, other in ((a, b), (b, a)):
            for people, fpir in met.keys() - refused.keys():
                try:
                    rate, (low, high) = measured_on(other, one.at(people, fpir))
                except Refused as refusal:
                    refused[people, fpir] = refusal
                else:
                    met[people, fpir].append((rate, low <= fpir <= high))
    return {wish: refused[wish] if wish in refused else _summed(found) for wish, found in met.items()}


def _summed(met: list[tuple[float, bool]]) -> HeldOut:
    return HeldOut(float(np.mean([rate for rate, _ in met])), sum(inside for _, inside in met), len(met))


def measured_on(others: Strangers, point: GalleryPoint) -> tuple[float, Interval]:
    """The FPIR of other people at a point's threshold, and the 95 % interval that should hold the asked FPIR.

    It is as wide as the doubts about the threshold and about these people are together.
    """
    met = others.fpir(point.people, point.threshold)
    effective = 1 / (1 / point.fpir.effective + 1 / met.effective)
    return met.rate, interval_of(met.rate, effective, min(met.people, point.fpir.people))


def met_in_gallery(others: int, people: int) -> Floats:
    """Share `(m + 1,)` of the galleries of `people` of m others that hold at least one of c given ones, c = 0..m."""
    c = np.arange(others)
    missed = np.clip(others - people - c, 0, None) / (others - c)
    return 1 - np.append(1.0, np.cumprod(missed))


def if_independent(fmr: float, people: int) -> float:
    """1 - (1 - FMR)^N."""
    return float(-np.expm1(people * np.log1p(-fmr))) if fmr < 1 else 1.0


def _pair_sums(a: NDArray[np.int64], b: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums of the values `(T,)` of each pair of persons `a` and `b` `(T,)`, whichever comes first."""
    low, high = np.minimum(a, b), np.maximum(a, b)
    _, pair = np.unique(low * (1 + high.max(initial=0)) + high, return_inverse=True)
    return np.bincount(pair, values).astype(np.float64)


def _jackknife(without: Floats, pairs: Floats) -> float:
    """Variance of a figure from its values `(n,)` without each of n people.

    `pairs` is what each pair of people adds to the figure, less its mean: taken out with both, its square counts once.
    At least half of the plain jackknife is kept.
    """
    n = len(without)
    plain = (n - 1) / n * np.square(without - without.mean()).sum()
    return float(max(plain - np.square(pairs).sum(), plain / 2))
