"""Identification, one photo against a gallery: closed set (rank-k, CMC) and open set (FPIR, FNIR), exact, in blocks.

By ISO/IEC 19795-1. A mated search asks for a person who is enrolled, its mate; a non-mated one for somebody who is not.

- Rank-k (closed set): the share of mated searches whose mate is among the k best candidates; over k, the CMC.
- FPIR at a threshold T: the share of non-mated searches with any candidate at or above T.
- FNIR at T and R: the share of mated searches whose mate is not returned at or above T within the first R candidates;
  TPIR is 1 - FNIR.

Failures count in every denominator: a photo without a face returns nothing, a person who could not be enrolled is never
returned. Of candidates with the mate's score all come before it, so a model that tells nobody apart finds nobody.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facespace.core.contracts import Vectors
from facespace.core.dependence import Share, share_over_people
from facespace.core.intervals import rule_of_3
from facespace.core.resampling import percentile_interval
from facespace.core.retrieval import NEVER, Compare
from facespace.core.verification import Roc, accepts, roc
from facespace.errors import DataError, Refused, UsageError

NOBODY = -1
"""The mate of a non-mated search."""
REPLICATES = 2000
_CELLS = 1 << 24  # 64 MB of float32 scores at a time
_DET_POINTS = 200

Floats = NDArray[np.float64]
Scores = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Searches:
    """What M mated and K non-mated searches returned; `people` and `strangers` say who searched."""

    mates: Scores
    """Score of the mate `(M,)`; -inf where it cannot be returned."""
    ranks: NDArray[np.int64]
    """Rank of the mate `(M,)`, from 1; NEVER where it cannot be returned."""
    people: NDArray[np.int64]
    """`(M,)`."""
    tops: Scores
    """Score of the best candidate of each non-mated search `(K,)`; -inf where there is none."""
    strangers: NDArray[np.int64]
    """`(K,)`."""

    def within(self, rank: int) -> Scores:
        """Score `(M,)` of the mate where it is among the first `rank` candidates, otherwise -inf."""
        return np.where((self.ranks != NEVER) & (self.ranks <= rank), self.mates, np.float32(-np.inf))


@dataclass(frozen=True)
class Identified:
    """TPIR at an asked FPIR: the threshold with the highest TPIR whose FPIR is at most the asked one."""

    threshold: float
    tpir: Share
    """Its interval draws anew the people who search, and with them the threshold; the gallery stays.

    It is no narrower than at a given threshold: where hardly a mate is missed, hardly a draw shows a miss.
    """
    fpir: Share
    """The achieved one."""


def search(
    gallery: Vectors,
    probes: Vectors,
    mates: ArrayLike,
    people: ArrayLike,
    *,
    enrolled: ArrayLike | None = None,
    acquired: ArrayLike | None = None,
    compare: Compare | None = None,
) -> Searches:
    """Let every row of `probes` `(P, D)`, a photo of `people` int `(P,)`, search the rows of `gallery` `(N, D)`.

    `mates` int `(P,)` are rows of the gallery, or NOBODY. Rows of the gallery where `enrolled` bool `(N,)` is false are
    never returned, probes where `acquired` bool `(P,)` is false return nothing. Scores are cosines of unit rows, or
    those of `compare`. Raises DataError where a score is no number.
    """
    mate, person = np.asarray(mates, np.int64), np.asarray(people, np.int64)
    absent = np.zeros(len(gallery), np.bool_) if enrolled is None else ~np.asarray(enrolled, np.bool_)
    silent = np.zeros(len(probes), np.bool_) if acquired is None else ~np.asarray(acquired, np.bool_)
    own, best = np.full(len(probes), -np.inf, np.float32), np.full(len(probes), -np.inf, np.float32)
    ranks = np.full(len(probes), NEVER, np.int64)
    block = max(1, _CELLS // max(1, len(gallery)))
    for start in range(0, len(probes), block):
        part = np.arange(start, min(start + block, len(probes)))
        scores = np.array(probes[part] @ gallery.T if compare is None else compare(probes[part], gallery), np.float32)
        scores[:, absent] = scores[silent[part]] = -np.inf
        if np.isnan(scores).any() or np.isposinf(scores).any():
            raise DataError("a score is not a number", hint="check the vectors of the model")
        best[part] = scores.max(1, initial=-np.inf)
        mated = part[mate[part] != NOBODY]
        own[mated] = scores[mated - start, mate[mated]]
        ranks[mated] = (scores[mated - start] >= own[mated, None]).sum(1)
    ranks[np.isneginf(own)] = NEVER
    known = mate != NOBODY
    return Searches(own[known], ranks[known], person[known], best[~known], person[~known])


def cmc(searches: Searches, ranks: ArrayLike) -> list[Share]:
    """The share of mated searches whose mate is among the first k candidates, for each k of `ranks`."""
    found = searches.ranks != NEVER
    return [share_over_people(found & (searches.ranks <= k), searches.people) for k in np.asarray(ranks).tolist()]


def open_set(searches: Searches, rank: int = 1) -> Roc:
    """FPIR (as `far`) and TPIR within the first `rank` candidates (as `tar`) at every threshold.

    Raises DataError unless there are mated and non-mated searches.
    """
    if rank < 1:
        raise UsageError(f"rank {rank} returns no candidate", hint="rank >= 1")
    if not (searches.mates.size and searches.tops.size):
        raise DataError(
            f"{searches.mates.size} mated and {searches.tops.size} non-mated searches: the open set needs both kinds"
        )
    kind = np.arange(searches.mates.size + searches.tops.size) < searches.mates.size
    return roc(np.concatenate([searches.within(rank), searches.tops]), kind)


def require_searches(fpir: float, searches: int) -> None:
    """Raise Refused where one false positive among so many non-mated searches is already more than `fpir`."""
    if not 0 < fpir < 1:
        raise UsageError(f"an FPIR of {fpir:g} cannot be asked for", hint="a share between 0 and 1")
    if not searches or 1 / searches > fpir:
        raise Refused(
            f"{searches:,} non-mated searches cannot show an FPIR of {fpir:g}: even without one false positive "
            f"they would only show that it is below {rule_of_3(searches) if searches else 1:.2g}",
            hint=f"search for at least {1 / fpir:,.0f} photos of people who are not enrolled, or ask for a higher FPIR",
        )


def at_fpir(searches: Searches, fpir: float, rank: int = 1, seed: int = 0) -> Identified:
    """TPIR at the threshold whose FPIR over these searches is at most `fpir`; see `require_searches` for refusals."""
    require_searches(fpir, searches.tops.size)
    curve = open_set(searches, rank)
    at = int(np.searchsorted(curve.far, fpir, side="right")) - 1
    threshold, mates = float(curve.thresholds[at]), searches.within(rank)
    plain = share_over_people(accepts(mates, threshold), searches.people)
    drawn = _Drawn.of(mates, searches).tpir(fpir, np.random.default_rng(seed))
    (low, high), (least, most) = plain.ci95, percentile_interval(drawn)
    interval = min(low, least), max(high, most)
    tpir = Share(plain.rate, plain.trials, plain.people, plain.effective, interval)
    return Identified(threshold, tpir, share_over_people(accepts(searches.tops, threshold), searches.strangers))


def det(searches: Searches, rank: int = 1) -> tuple[Floats, Floats, Floats]:
    """Thresholds that fall, with their FPIR and FNIR: about 200 points of the DET curve, spread over log FPIR.

    Each is the one with the lowest FNIR among those of its FPIR.
    """
    curve = open_set(searches, rank)
    last = np.flatnonzero(np.append(np.diff(curve.false_accepts) > 0, True))  # threshold of each FPIR
    cells = np.floor(_DET_POINTS * np.log1p(curve.false_accepts[last]) / np.log1p(curve.impostors))
    kept = last[np.append(np.diff(cells) > 0, True)]
    return curve.thresholds[kept], curve.far[kept], 1 - curve.tar[kept]


@dataclass(frozen=True, eq=False)
class _Drawn:
    """Searches by falling score, for thresholds chosen anew where the people who search are drawn anew."""

    mates: Scores
    """Falling `(M,)`."""
    people: NDArray[np.int64]
    """0..n-1 `(M,)`."""
    tops: Scores
    """Falling `(K,)`."""
    strangers: NDArray[np.int64]
    """0..n-1 `(K,)`."""

    @classmethod
    def of(cls, mates: Scores, searches: Searches) -> "_Drawn":
        by_mate, by_top = np.argsort(-mates, kind="stable"), np.argsort(-searches.tops, kind="stable")
        people = np.unique(searches.people, return_inverse=True)[1]
        strangers = np.unique(searches.strangers, return_inverse=True)[1]
        return cls(mates[by_mate], people[by_mate], searches.tops[by_top], strangers[by_top])

    @cached_property
    def _above(self) -> NDArray[np.int64]:
        """How many mates score above each top score, and in all `(K + 1,)`: a threshold just above it accepts them."""
        return np.searchsorted(-self.mates, np.append(-self.tops, np.inf), side="left")

    def tpir(self, fpir: float, rng: np.random.Generator) -> Floats:
        """The TPIR `(B,)` of each replicate at its own threshold for `fpir`."""
        return np.array([self._once(fpir, rng) for _ in range(REPLICATES)])

    def _once(self, fpir: float, rng: np.random.Generator) -> float:
        alarms = _counts(self.strangers, rng).cumsum()
        hits = np.append(0, _counts(self.people, rng).cumsum())
        first = int(np.searchsorted(alarms / alarms[-1], fpir, side="right"))  # the alarm that is one too many
        return float(hits[self._above[first]] / hits[-1])


def _counts(people: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """How often each search `(T,)` of persons 0..n-1 counts when n people are drawn with replacement."""
    n = int(people.max()) + 1
    return np.bincount(rng.integers(0, n, n), minlength=n)[people]
