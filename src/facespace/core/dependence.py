"""How sure a share is whose trials share people: pairs of photos, or searches of a gallery.

Trials with a person in common rise and fall together. The variance of a figure is therefore the sum, over all trials
and all couples of trials that share a person, of the products of what each adds to it (its influence): for pairs the
dyadic-robust variance of Fafchamps and Gubert, "The formation of risk sharing networks", Journal of Development
Economics 83 (2007). It is what a bootstrap over people aims at, without the draws; that bootstrap, which multiplies how
often both people of an impostor pair were drawn, counts the pair's own noise three times over (Owen, "The pigeonhole
bootstrap", Annals of Applied Statistics 1 (2007)), which matters where people come in few pairs.

A share is worth as many independent trials as would have its variance. Its interval is the exact one of so many trials:
Korn and Graubard, "Confidence intervals for proportions with small expected number of positive counts estimated from
survey data", Survey Methodology 24 (1998). Wilson's of the same number was tried, and covers less (docs/notes.md).
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facespace.core.intervals import Interval, clopper_pearson_share, require_30, t_quantile
from facespace.core.verification import Roc, accepts, at_far, roc
from facespace.errors import DataError

Ids = NDArray[np.int64]
Numbers = NDArray[np.int32]
Floats = NDArray[np.float64]
Z = 1.959963984540054
"""95 % of a normal law lie within."""
_BLOCK = 1 << 20  # trials at a time, so that a sum over 15 million pairs needs no copies of them


@dataclass(frozen=True, eq=False)
class Trials:
    """Whose trials: people numbered from 0, two for each trial, or one twice."""

    first: Numbers
    """`(P,)`."""
    second: Numbers
    """`(P,)`."""
    people: int
    repeats: int = 1
    """How often each trial stands among them."""

    @classmethod
    def of(cls, a: ArrayLike, b: ArrayLike | None = None, repeats: int = 1) -> "Trials":
        """Trials of the people `a` `(P,)`, or `a` and `b`, named by numbers or strings."""
        one = np.asarray(a)
        two = one if b is None else np.asarray(b)
        if not _counted_from_0(one, two):
            numbers = np.unique(np.concatenate((one, two)), return_inverse=True)[1]
            one, two = numbers[: one.size], numbers[one.size :]
        places = np.cumsum(_met(one, two), dtype=np.int32) - np.int32(1)
        first = places[one]
        return cls(first, first if b is None else places[two], int(places[-1]) + 1 if places.size else 0, repeats)

    def only(self, kept: NDArray[np.bool_]) -> "Trials":
        """Those trials, and their people."""
        return Trials.of(self.first[kept], self.second[kept], self.repeats)

    def people_among(self, kept: NDArray[np.bool_]) -> int:
        """How many people are in some of the trials, bool `(P,)`."""
        return int(_met(self.first[kept], self.second[kept]).sum())

    def variance(self, influence: ArrayLike) -> float:
        """The variance of a sum of `influence` `(P,)` over the trials.

        No less than if trials were independent: a smaller sum is chance. Raises DataError for one person.
        """
        each = np.asarray(influence, np.float64)
        if self.people < 2:
            raise DataError("all trials are of one person: they do not show how people differ")
        squares, sums = float(each @ each), self._sums(each)
        shared = float(sums @ sums) - self._twice(each, squares)
        return max(shared * self.people / (self.people - 1), self.repeats * squares)

    def _sums(self, each: Floats) -> Floats:
        """What all trials of a person add up to `(people,)`."""
        sums = np.zeros(self.people)
        for block in _blocks(each.size):
            first, second, part = self.first[block], self.second[block], each[block]
            two = first != second
            sums += np.bincount(first, part, self.people)
            sums += np.bincount(second[two], part[two], self.people)
        return sums

    def _twice(self, each: Floats, squares: float) -> float:
        """Squares of what all trials of the same two people add up to: these are in the sums of both."""
        one, several, starts = self._couples
        total = squares - float(each[one] @ each[one])  # as if no two had several
        for block in _blocks(starts.size - 1):
            begin, end = starts[block.start], starts[block.stop]
            part = each[several[begin:end]]
            together = np.add.reduceat(part, starts[block] - begin)
            total += float(together @ together - part @ part)
        return total

    @cached_property
    def _couples(self) -> tuple[Numbers, Numbers, Numbers]:
        """Trials of one person; those of two people who have several, sorted by who they are; where each two begin."""
        apart = self.first != self.second
        first, second = self.first[apart], self.second[apart]
        couple = np.minimum(first, second).astype(np.int64)
        couple *= self.people
        couple += np.maximum(first, second)
        del first, second
        order = np.argsort(couple)
        couple = couple[order]
        after, many = np.zeros(order.size, np.bool_), np.zeros(order.size, np.bool_)
        after[1:] = couple[1:] == couple[:-1]
        many[:-1] = after[1:]
        many |= after
        order = order[many]
        del couple
        several = np.flatnonzero(apart)[order].astype(np.int32)
        begins = np.flatnonzero(~after[many])
        return np.flatnonzero(~apart).astype(np.int32), several, np.append(begins, several.size).astype(np.int32)


def _blocks(size: int) -> list[slice]:
    return [slice(start, min(start + _BLOCK, size)) for start in range(0, size, _BLOCK)]


def _counted_from_0(one: NDArray[Any], two: NDArray[Any]) -> bool:
    """Whether names are whole numbers from 0 that need no sorting."""
    return all(
        np.issubdtype(names.dtype, np.integer) and names.size and names.min() >= 0 and names.max() < 4 * names.size
        for names in (one, two)
    )


def _met(one: NDArray[Any], two: NDArray[Any]) -> NDArray[np.bool_]:
    """Which numbers from 0 are among these, as far as the greatest."""
    met = np.zeros(max(one.max(initial=-1), two.max(initial=-1)) + 1, np.bool_)
    met[one] = met[two] = True
    return met


@dataclass(frozen=True)
class Share:
    """A share of trials, and its 95 % interval for other people.

    `effective` is how many independent trials would be as sure.
    """

    rate: float
    trials: int
    people: int
    effective: float
    ci95: Interval

    def as_json(self) -> dict[str, Any]:
        """`{"rate", "ci95", "trials", "people"}`."""
        return {"rate": self.rate, "ci95": self.ci95, "trials": self.trials, "people": self.people}


def share_over_people(hits: ArrayLike, first: ArrayLike, second: ArrayLike | None = None) -> Share:
    """The share of `hits` bool `(T,)` among trials of the persons `first` `(T,)`, and `second` where there are two.

    Where all trials end alike the people show no spread, and each counts as one trial. Raises DataError for no trials.
    """
    return share_of_trials(hits, Trials.of(first, second))


def share_of_trials(hits: ArrayLike, trials: Trials) -> Share:
    """As `share_over_people`."""
    hit = np.asarray(hits, np.float64)
    if not hit.size:
        raise DataError("no trials: a share of nothing has no value")
    rate = float(hit.mean())
    variance = trials.variance((hit - rate) / hit.size) if trials.people > 1 else 0.0
    return share_of(rate, hit.size // trials.repeats, trials.people, variance)


def share_of(rate: float, trials: int, people: int, variance: float, most: float | None = None) -> Share:
    """The share whose estimate has this variance over people; it is worth at most `most` trials, or all of them."""
    effective = rate * (1 - rate) / variance if variance > 0 else people
    effective = max(1.0, min(most or trials, effective))
    return Share(rate, trials, people, effective, interval_of(rate, effective, people))


def interval_of(rate: float, effective: float, people: int) -> Interval:
    """Clopper and Pearson's 95 % interval for a rate of so many independent trials, not a whole number.

    With few people their number of trials is itself in doubt, and Student's quantile takes the normal one's place. One
    person says nothing of others: 0 to 1.
    """
    if people < 2:
        return 0.0, 1.0
    return clopper_pearson_share(rate, known_trials(effective, people))


def known_trials(effective: float, people: int) -> float:
    """Fewer trials than `effective`: their number, told by so many people, is in doubt."""
    return effective * (Z / t_quantile(0.95, people - 1)) ** 2


@dataclass(frozen=True)
class Threshold:
    """A threshold for an asked FMR, what it was measured to do, and how sure that is: 95 % intervals over people."""

    asked_fmr: float
    threshold: float
    threshold_ci95: Interval
    """Where the threshold with exactly the asked FMR lies."""
    fmr: float
    """Achieved on these pairs, never above the asked one."""
    fmr_ci95: Interval
    """Of all people like these."""
    fnmr: float
    fnmr_ci95: Interval
    """Of 1 - TAR at the asked FMR: how unsure the threshold is counts too."""
    genuine: int
    impostors: int
    people: int


def threshold_at_fmr(scores: ArrayLike, a: ArrayLike, b: ArrayLike, fmr: float) -> Threshold:
    """The lowest threshold whose FMR is at most `fmr` on pairs `(P,)` of the people `a` and `b` `(P,)`.

    Raises `Refused` for fewer than 30 / fmr impostor pairs (rule of 30): a threshold is a claim about people not met.
    """
    pairs = Trials.of(a, b)
    same = pairs.first == pairs.second
    require_30(int((~same).sum()), fmr)
    curve = roc(scores, same)
    point = at_far(curve, fmr)
    accepted = accepts(np.asarray(scores), point.threshold)
    tar, far = (share_of_trials(accepted[kind], pairs.only(kind)) for kind in (same, ~same))
    (low, high), ends = around(curve, fmr, tar, reach(fmr, far))
    return Threshold(
        asked_fmr=fmr,
        threshold=point.threshold,
        threshold_ci95=ends,
        fmr=point.far,
        fmr_ci95=far.ci95,
        fnmr=1 - point.tar,
        fnmr_ci95=(1 - high, 1 - low),
        genuine=curve.genuine,
        impostors=curve.impostors,
        people=pairs.people,
    )


def reach(far: float, achieved: Share) -> float:
    """How far from an asked FAR other people's may be, at 95 %, where the threshold was chosen on these."""
    return t_quantile(0.95, max(1, achieved.people - 1)) * math.sqrt(far * (1 - far) / achieved.effective)


def around(curve: Roc, far: float, tar: Share, spread: float, alike: float = 0.0) -> tuple[Interval, Interval]:
    """Intervals of a TAR at the threshold with exactly the FAR, and of that threshold.

    At that threshold the share of false accepts met here is within `spread` of the FAR; so the threshold lies between
    those of the two ends (Woodruff, "Confidence intervals for medians", JASA 47 (1952)). Where that leaves no false
    accept, TAR goes on falling as it did. How far TAR moves between the ends, and how unsure `tar` is at a given
    threshold, add up as squares, for each side of its own, and with the correlation `alike` (Zou and Donner,
    "Construction of confidence limits", Statistics in Medicine 27 (2008)).
    """
    strict, loose = curve.last_within(max(0.0, far - spread)), curve.last_within(far + spread)
    fewest = curve.false_accepts[strict] / curve.impostors
    beyond = max(1.0, spread / (far - fewest))
    fall = max(0.0, tar.rate - curve.true_accepts[strict] / curve.genuine) * beyond
    rise = max(0.0, curve.true_accepts[loose] / curve.genuine - tar.rate)
    low, high = tar.ci95
    ends = (
        max(0.0, tar.rate - _both(tar.rate - low, fall, alike)),
        min(1.0, tar.rate + _both(high - tar.rate, rise, alike)),
    )
    return ends, (float(curve.thresholds[max(1, loose)]), float(curve.thresholds[max(1, strict)]))


def _both(one: float, other: float, alike: float) -> float:
    return math.sqrt(max(0.0, one**2 + other**2 + 2 * alike * one * other))
