"""What a score means: log-likelihood ratios fitted to scores, and how good they are.

A log-likelihood ratio is the natural logarithm of how much likelier a score is from a genuine than from an impostor
pair; with the log odds of the prior it adds up to those of the posterior. A score of -inf means that a photo gave no
face: that says nothing about who it is, so its ratio is 0, and it counts in every mean.

    calibration = Logistic.fit(scores, same)             # or Isotonic.fit; refused where scores tell nobody apart
    llr = calibration.log_likelihood_ratio(others)       # float64, of the shape of `others`
    cllr(llr, same), cllr_min(scores, same)              # bits; their difference is what the calibration loses
    expected_calibration_error(reliability(llr, same))

Thresholds for a named error rate are `threshold_at_fmr` in `core.dependence`.
Brümmer and du Preez, "Application-independent evaluation of speaker detection", Computer Speech and Language 20 (2006).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facespace.core.intervals import wilson
from facespace.core.verification import Roc, roc
from facespace.errors import DataError, Refused, UsageError

Floats = NDArray[np.float64]
_STEPS = 100  # of Newton; ten are usual
_ENOUGH = 1e-12  # a relative change of the loss that is none


@dataclass(frozen=True)
class Logistic:
    """A straight line: `slope * score + offset`."""

    slope: float
    """Per unit of score, above 0."""
    offset: float

    @classmethod
    def fit(cls, scores: ArrayLike, same: ArrayLike, prior: float = 0.5) -> "Logistic":
        """The line of the logistic regression that weighs genuine pairs `prior` in all, impostor pairs the rest.

        `scores` `(P,)`, `same` bool `(P,)`. The targets are those of Platt ("Probabilistic outputs for support vector
        machines", 1999), (n + 1) / (n + 2) instead of 1 for n pairs: where no pair errs, the line stays finite, and
        claims no more than n pairs can show. Raises `Refused` where genuine pairs do not score higher on average.
        """
        _check_prior(prior)
        genuine, impostors = _finite(scores, same)
        pooled = np.concatenate((genuine, impostors))
        centre, spread = float(pooled.mean()), float(pooled.std())
        if not genuine.mean() > impostors.mean():  # the sign of the slope; equal scores have no spread
            raise Refused(
                "genuine pairs do not score higher than impostor pairs: their scores mean nothing",
                hint="check the model, and the names of the people",
            )
        line = _newton((genuine - centre) / spread, (impostors - centre) / spread, prior)
        slope = float(line[0]) / spread
        return cls(slope, float(line[1]) - slope * centre)

    def log_likelihood_ratio(self, scores: ArrayLike) -> Floats:
        """Natural logarithms, of the shape of `scores`; 0 for a score of -inf."""
        given = np.asarray(scores, np.float64)
        return np.where(np.isneginf(given), 0.0, self.slope * np.where(np.isneginf(given), 0, given) + self.offset)


@dataclass(frozen=True)
class Isotonic:
    """Any rising function: level where pairs were pooled, straight between."""

    scores: Floats
    """`(K,)`, rising: both ends of each level."""
    ratios: Floats
    """`(K,)`, not falling: the log-likelihood ratio at each."""

    @classmethod
    def fit(cls, scores: ArrayLike, same: ArrayLike) -> "Isotonic":
        """The rising function under which the pairs are likeliest, by pooling adjacent violators.

        One genuine and one impostor pair are thought at either end (Laplace's rule of succession), so that both ends
        are finite. Raises `Refused` where genuine pairs do not score higher at any threshold.
        """
        genuine, impostors = _finite(scores, same)
        both = np.concatenate((genuine, impostors))
        if _hull(roc(both, np.arange(both.size) < genuine.size)).size == 2:
            raise Refused(
                "genuine pairs do not score higher than impostor pairs: their scores mean nothing",
                hint="check the model, and the names of the people",
            )
        ends = np.array([np.nextafter(both.min(), -np.inf), np.nextafter(both.max(), np.inf)])
        curve = roc(np.concatenate((genuine, ends, impostors, ends)), np.arange(both.size + 4) < genuine.size + 2)
        corners = _hull(curve)
        ratios = _ratios(curve, corners)[::-1]
        tops, bottoms = curve.thresholds[corners[:-1] + 1][::-1], curve.thresholds[corners[1:]][::-1]
        return cls(np.stack((bottoms, tops), axis=1).ravel(), np.repeat(ratios, 2))

    def log_likelihood_ratio(self, scores: ArrayLike) -> Floats:
        """Natural logarithms, of the shape of `scores`; 0 for a score of -inf."""
        given = np.asarray(scores, np.float64)
        return np.where(np.isneginf(given), 0.0, np.interp(given, self.scores, self.ratios))


def cllr(ratios: ArrayLike, same: ArrayLike) -> float:
    """What log-likelihood ratios `(P,)` cost in bits, averaged over priors: 0 is perfect, 1 is knowing nothing.

    Half the mean of log2(1 + exp(-ratio)) over genuine pairs, and half that of log2(1 + exp(ratio)) over impostors.
    """
    ratios, same = np.asarray(ratios, np.float64), np.asarray(same, dtype=bool)
    _require_both(int(same.sum()), int((~same).sum()))
    genuine, impostor = np.logaddexp(0, -ratios[same]).mean(), np.logaddexp(0, ratios[~same]).mean()
    return float(genuine + impostor) / 2 / math.log(2)


def cllr_min(scores: ArrayLike, same: ArrayLike) -> float:
    """The least `cllr` that any rising function of the scores `(P,)` reaches on these very pairs, in bits."""
    curve = roc(scores, same)
    corners = _hull(curve)
    ratios = _ratios(curve, corners)
    genuine, impostors = np.diff(curve.true_accepts[corners]), np.diff(curve.false_accepts[corners])
    failed = 2.0 - curve.true_accepts[-1] / curve.genuine - curve.false_accepts[-1] / curve.impostors  # a bit each
    cost = _product(genuine, np.logaddexp(0, -ratios)).sum() / curve.genuine
    cost += _product(impostors, np.logaddexp(0, ratios)).sum() / curve.impostors
    return float(cost / math.log(2) + failed) / 2


@dataclass(frozen=True)
class Reliability:
    """Pairs in bins of the probability that they are genuine, empty bins left out; all fields `(bins,)`."""

    predicted: Floats
    """The mean probability within the bin."""
    observed: Floats
    """The share that is genuine, at the prior asked for."""
    ci95: Floats
    """`(bins, 2)`: Wilson's interval of that share over pairs, not over people: too narrow where pairs share people."""
    genuine: NDArray[np.int64]
    impostors: NDArray[np.int64]
    weight: Floats
    """The share of all pairs, at the prior asked for; sums to 1."""


def reliability(ratios: ArrayLike, same: ArrayLike, bins: int = 10, prior: float | None = None) -> Reliability:
    """How often pairs of log-likelihood ratios `(P,)` are genuine, in `bins` equal parts of the probability 0..1.

    The probability is that at the `prior`, and pairs are weighed so that genuine ones have it; unless given it is the
    share of genuine pairs in the set.
    """
    ratios, same = np.asarray(ratios, np.float64), np.asarray(same, dtype=bool)
    genuine, impostors = int(same.sum()), int((~same).sum())
    _require_both(genuine, impostors)
    prior = genuine / same.size if prior is None else _check_prior(prior)
    probability = np.exp(-np.logaddexp(0, -(ratios + _log_odds(prior))))
    weights = np.where(same, prior / genuine, (1 - prior) / impostors)
    names = np.minimum((probability * bins).astype(np.int64), bins - 1)
    counts = np.stack([np.bincount(names[kind], minlength=bins) for kind in (same, ~same)], axis=1)
    weight: Floats = np.bincount(names, weights, minlength=bins).astype(np.float64)
    met = weight > 0
    predicted = np.bincount(names, weights * probability, minlength=bins)[met] / weight[met]
    observed = np.bincount(names, weights * same, minlength=bins)[met] / weight[met]
    shift = _log_odds(prior) - _log_odds(genuine / same.size)
    ci95 = np.array([[_shifted(bound, shift) for bound in wilson(int(g), int(g + i))] for g, i in counts[met]])
    return Reliability(predicted, observed, ci95, counts[met, 0], counts[met, 1], weight[met])


def expected_calibration_error(bins: Reliability) -> float:
    """The mean distance 0..1 between what is predicted and what is observed, each bin counting as its pairs do."""
    return float(bins.weight @ np.abs(bins.predicted - bins.observed))


def _newton(genuine: Floats, impostors: Floats, prior: float) -> Floats:
    """Slope and offset `(2,)` of the weighted regression, by Newton's method, each step halved until it helps."""
    scores = np.concatenate((genuine, impostors))
    target = np.repeat([1 - 1 / (genuine.size + 2), 1 / (impostors.size + 2)], [genuine.size, impostors.size])
    weight = np.repeat([prior / genuine.size, (1 - prior) / impostors.size], [genuine.size, impostors.size])
    shift = _log_odds(prior)
    line, loss = np.zeros(2), math.inf
    step = np.zeros(2)
    for _ in range(_STEPS):
        odds = (line + step)[0] * scores + (line + step)[1] + shift
        new = float(weight @ (np.logaddexp(0, odds) - target * odds))
        if new > loss:
            step = step / 2
            continue
        line, change, loss = line + step, loss - new, new
        if change <= _ENOUGH * loss:
            break
        chance = np.exp(-np.logaddexp(0, -odds))
        slope, bend = weight * (target - chance), weight * chance * (1 - chance)
        gradient = np.array([slope @ scores, slope.sum()])
        cross = bend @ scores
        step = np.linalg.solve([[bend @ scores**2, cross], [cross, bend.sum()]], gradient)
    return line


def _hull(curve: Roc) -> NDArray[np.int64]:
    """The corners of the upper hull of the ROC, as indices into its thresholds, from accepting none to accepting all.

    Pooling adjacent violators gives the same: between two corners the share of genuine pairs is level.
    """
    x, y = curve.false_accepts, curve.true_accepts
    risen, rises_on = np.diff(y, prepend=-1) > 0, np.diff(x, append=x[-1] + 1) > 0
    corners: list[int] = []
    for at in np.flatnonzero(risen & rises_on | (np.arange(x.size) == x.size - 1) | (np.arange(x.size) == 0)).tolist():
        while len(corners) > 1 and _bends_up(x, y, corners[-2], corners[-1], at):
            corners.pop()
        corners.append(at)
    return np.array(corners)


def _bends_up(x: NDArray[np.int64], y: NDArray[np.int64], a: int, b: int, c: int) -> bool:
    """Whether b lies on or below the line from a to c; whole numbers of Python, which do not overflow."""
    return int(y[b] - y[a]) * int(x[c] - x[b]) <= int(y[c] - y[b]) * int(x[b] - x[a])


def _ratios(curve: Roc, corners: NDArray[np.int64]) -> Floats:
    """The log-likelihood ratio between two corners `(corners - 1,)`: the logarithm of the slope, falling."""
    with np.errstate(divide="ignore"):  # where only one kind is met, the logarithm of 0 or of infinity is meant
        genuine = np.log(np.diff(curve.true_accepts[corners]) / curve.genuine)
        impostors = np.log(np.diff(curve.false_accepts[corners]) / curve.impostors)
    return np.asarray(genuine - impostors)


def _product(counts: NDArray[np.int64], costs: Floats) -> Floats:
    """Counts times costs, where no pair costs nothing even if the cost is infinite."""
    return np.asarray(counts * np.where(counts > 0, costs, 0.0), np.float64)


def _finite(scores: ArrayLike, same: ArrayLike) -> tuple[Floats, Floats]:
    """The scores of genuine and of impostor pairs that gave faces, float64."""
    scores, same = np.asarray(scores, np.float64), np.asarray(same, dtype=bool)
    if np.isnan(scores).any() or np.isposinf(scores).any():
        raise DataError("a score is not a number", hint="check the vectors of the model")
    finite = np.isfinite(scores)
    genuine, impostors = scores[same & finite], scores[~same & finite]
    _require_both(genuine.size, impostors.size)
    return genuine, impostors


def _require_both(genuine: int, impostors: int) -> None:
    if not (genuine and impostors):
        raise DataError(f"{genuine} genuine and {impostors} impostor pairs: both kinds are needed")


def _check_prior(prior: float) -> float:
    if not 0 < prior < 1:
        raise UsageError(f"prior = {prior} is no probability", hint="give the share of genuine pairs, inside 0..1")
    return prior


def _log_odds(share: float) -> float:
    return math.log(share) - math.log1p(-share)


def _shifted(share: float, shift: float) -> float:
    """A share whose log odds are shifted."""
    odds = math.exp(shift)
    return share * odds / (share * odds + 1 - share)
