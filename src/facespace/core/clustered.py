"""Shares of trials that share people, such as searches of one person's many photos: how sure is such a share?

As `dependence` has it, a share is worth as many independent trials as would have its variance over people. The interval
is the exact one of so many trials, which holds for rare errors too: Korn and Graubard, "Confidence intervals for
proportions with small expected number of positive counts estimated from survey data", Survey Methodology 24 (1998).
"""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from facespace.core.dependence import people_variance
from facespace.core.intervals import Interval, incomplete_beta, t_quantile
from facespace.errors import DataError


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

    @property
    def log_variance(self) -> float:
        """Variance of the logarithm of a rate above 0."""
        return (1 - self.rate) / (self.rate * self.effective)

    def as_json(self) -> dict[str, Any]:
        """`{"rate", "ci95", "trials", "people"}`."""
        return {"rate": self.rate, "ci95": self.ci95, "trials": self.trials, "people": self.people}


def share_over_people(hits: ArrayLike, first: ArrayLike, second: ArrayLike | None = None) -> Share:
    """The share of `hits` bool `(T,)` among trials of the persons `first` int `(T,)`, and `second` where there are two.

    Where all trials end alike the people show no spread, and each counts as one trial. Raises DataError for no trials.
    """
    hit, one = np.asarray(hits, np.bool_), np.asarray(first)
    if not hit.size:
        raise DataError("no trials: a share of nothing has no value")
    people = np.unique(one if second is None else np.concatenate([one, np.asarray(second)])).size
    rate = float(hit.mean())
    variance = people_variance((hit - rate) / hit.size, one, second) if people > 1 else 0.0
    return share_of(rate, hit.size, people, variance)


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
    trials = effective * (NormalDist().inv_cdf(0.975) / t_quantile(0.95, people - 1)) ** 2
    hits = rate * trials
    low = 0.0 if rate == 0 else _passes(lambda p: incomplete_beta(hits, trials - hits + 1, p))
    high = 1.0 if rate == 1 else 1 - _passes(lambda q: incomplete_beta(trials - hits, hits + 1, q))
    return low, high


def _passes(rising: Callable[[float], float]) -> float:
    """Where in 0..1 a rising function passes 0.025, to 1e-12."""
    low, high = 0.0, 1.0
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < 0.025 else (low, middle)
    return high
