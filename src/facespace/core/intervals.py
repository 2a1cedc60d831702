"""How sure a figure is: intervals for a share, the rules of 3 and of 30, Student's quantiles, McNemar's test.

Levels are two-sided. Written from the definitions, without scipy, which is no dependency.

The two rules are asked different things. A figure is shown, with its interval, where one error would not exceed the
rate asked for; where it would, it is refused, and the rule of 3 says what even no error would show. A threshold for an
error rate is a claim about people not met: it is refused where fewer than 30 errors are to be expected.
"""

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from facespace.errors import Refused

Interval = tuple[float, float]


def wilson(hits: int, trials: int, level: float = 0.95) -> Interval:
    """Wilson's score interval for a share of `hits` among `trials` > 0; close to its level on average.

    Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).
    """
    _check(hits, trials, level)
    return wilson_share(hits / trials, trials, level)


def wilson_share(share: float, trials: float, level: float = 0.95) -> Interval:
    """Wilson's interval for a `share` 0..1 of `trials` > 0, which need be no whole number: those that dependent trials
    are worth."""
    z2 = NormalDist().inv_cdf(0.5 + level / 2) ** 2
    middle = share + z2 / trials / 2
    half = math.sqrt(z2 / trials * (share * (1 - share) + z2 / trials / 4))
    low, high = (middle - half) / (1 + z2 / trials), (middle + half) / (1 + z2 / trials)
    return (0.0 if share == 0 else low, 1.0 if share == 1 else high)


def clopper_pearson_share(share: float, trials: float, level: float = 0.95) -> Interval:
    """The exact interval for a `share` 0..1 of `trials` > 0: covers at least its level, whatever the truth.

    The bounds are the shares under which as many hits, or as few, have a chance of (1 - level) / 2. `trials` need be no
    whole number, as in `wilson_share`.
    Clopper and Pearson, "The use of confidence or fiducial limits", Biometrika 26 (1934).
    """
    hits, misses, tail = share * trials, (1 - share) * trials, (1 - level) / 2
    low = 0.0 if share == 0 else _solve(lambda p: incomplete_beta(hits, misses + 1, p), tail)
    high = 1.0 if share == 1 else 1 - _solve(lambda q: incomplete_beta(misses, hits + 1, q), tail)
    return low, high


def rule_of_3(trials: int) -> float:
    """The error rate that `trials` > 0 without an error do not exclude at 95 %: 3 / trials, at most 1."""
    return min(1.0, 3 / trials)


def require_30(trials: int, rate: float) -> None:
    """Refuse a claim about an error `rate` from so many trials that could err: fewer than 30 errors are expected.

    With 30 errors the true rate is within 30 % of the one that was met, with 90 % confidence, if trials are
    independent. Doddington et al., "The NIST speaker recognition evaluation", Speech Communication 31 (2000).
    """
    if trials * rate < 30 * (1 - 1e-12):  # the product is rounded
        raise Refused(
            f"{trials:,} pairs are too few for a threshold at an error rate of {rate:g}: {trials * rate:.3g} errors "
            "are to be expected there, and 30 are needed to know it within 30 %",
            hint=f"calibrate on at least {math.ceil(30 / rate * (1 - 1e-12)):,} pairs, or ask for a higher rate",
        )


def mcnemar(only_first: int, only_second: int) -> float:
    """The chance, two-sided and exact, that two equally good models differ at least so much on the same trials.

    `only_first` trials were decided rightly by the first model alone, `only_second` by the second alone; with equally
    good models either is a coin toss. For independent trials. McNemar, Psychometrika 12 (1947).
    """
    fewer, discordant = min(only_first, only_second), only_first + only_second
    if fewer == max(only_first, only_second):
        return 1.0
    return min(1.0, 2 * incomplete_beta(discordant - fewer, fewer + 1, 0.5))


def standard_error(values: ArrayLike) -> float:
    """Standard error of the mean of at least two values: std(ddof = 1) / sqrt(count)."""
    sample = np.asarray(values, dtype=np.float64)
    return float(sample.std(ddof=1) / math.sqrt(sample.size))


def t_quantile(level: float, freedom: int) -> float:
    """The t with P(|T| <= t) = `level` for Student's T with `freedom` > 0 degrees: 2.262 at 0.95 and 9.

    From P(|T| > t) = I_x(freedom / 2, 1 / 2) with x = freedom / (freedom + t^2).
    """
    if freedom < 1 or not 0 < level < 1:
        raise ValueError(f"freedom {freedom} must be at least 1 and level {level} inside 0..1")
    x = _solve(lambda x: incomplete_beta(freedom / 2, 0.5, x), 1 - level)
    return math.sqrt(freedom * (1 - x) / x)


def incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b), 0..1, for a, b > 0 and x in 0..1.

    The continued fraction converges fast below x = (a + 1) / (a + b + 2); above it, I_x(a, b) = 1 - I_{1-x}(b, a).
    """
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - incomplete_beta(b, a, 1 - x)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(log_front) * _beta_fraction(a, b, x) / a


def _beta_fraction(a: float, b: float, x: float) -> float:
    """Continued fraction of I_x(a, b), DLMF 8.17.22, by the modified method of Lentz."""
    tiny = 1e-300
    d = 1 / ((1 - (a + b) * x / (a + 1)) or tiny)
    c, value = 1.0, d
    for m in range(1, 1_000_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d, c = 1 / ((1 + term * d) or tiny), (1 + term / c) or tiny
            value *= d * c
        if abs(d * c - 1) < 1e-16:
            break
    return value


def _solve(rising: Callable[[float], float], target: float) -> float:
    """The x in 0..1 where a rising function reaches `target`, by halving, to 1e-14 of itself."""
    low, high = 0.0, 1.0
    while high - low > 1e-14 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < target else (low, middle)
    return high


def _check(hits: int, trials: int, level: float) -> None:
    if trials < 1 or not 0 <= hits <= trials or not 0 < level < 1:
        raise ValueError(f"{hits} hits of {trials} trials at level {level} is no share")
