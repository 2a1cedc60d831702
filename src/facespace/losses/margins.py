"""Margins: each makes the label's cosine look worse than it is, so that training must earn a gap between people.

A margin is a frozen dataclass whose `target_logit` maps the cosine c of the angle θ between an embedding and its own
class to T(c), the label's logit before scaling; the other classes keep s·c_j. Scale, softmax and class rows belong to
the head. Angles are radians.

A new margin is a dataclass and a row of `MARGINS`.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Protocol, Self, get_args

import torch
from torch import Tensor

from facespace.errors import UsageError

COSINE_LIMIT = 1 - 1e-7
"""Where an angle is taken |c| is held below this: rounding gives c > 1, and the slope of the angle is infinite at 1."""

PastPi = Literal["th/mm", "none", "easy_margin", "continuous", "clamp"]
"""What T does where φ = m1·θ + m2 exceeds π and cos φ would rise again (no paper says).

- `th/mm`: c - μ·sin μ with μ = π - (π - m2)/m1 (μ = m2 where m1 = 1); decreasing in θ, with a jump down at the switch
  (MXNet insightface, 2018).
- `none`: cos φ, which rises again (arcface_torch).
- `easy_margin`: the margin only where c > 0, else c; jumps up at θ = π/2 (MXNet insightface, 2018).
- `continuous`: (-1)^k cos φ - 2k, k = ⌊φ/π⌋; continuous and decreasing (the ψ of SphereFace, eq. 7).
- `clamp`: cos φ stays at -1, without slope (AdaFace).
"""

GradientRule = Literal["exact", "straight_through"]
"""`exact`: dT/dc; `straight_through`: 1 whatever the margin (arcface_torch; its public checkpoints were trained so)."""


class Margin(Protocol):
    """What every margin offers to the head."""

    paper: ClassVar[str]
    """Where the formula comes from."""
    normalised: ClassVar[bool]
    """Whether the head feeds cosines (True) or the plain W·f + b (False)."""

    def target_logit(self, cos: Tensor) -> Tensor:
        """T(c) of cosines of any shape, at least float32; value and slope are finite also at |c| = 1 and past it."""
        ...

    def grown(self, fraction: float) -> Self:
        """The same kind of margin at `fraction` of its strength, 0 (none) to 1; UsageError outside. For warming up."""
        ...


@dataclass(frozen=True)
class Softmax:
    """Plain softmax on W·f + b: nothing normalised, no margin, no scale."""

    paper: ClassVar[str] = "the usual classifier; the baseline of Liu et al. 2017 and Deng et al. 2019"
    normalised: ClassVar[bool] = False

    def target_logit(self, cos: Tensor) -> Tensor:
        """The logit itself."""
        return full_precision(cos)

    def grown(self, fraction: float) -> Self:
        """Itself: there is nothing to grow."""
        return self


@dataclass(frozen=True)
class NormFace:
    """T = c: softmax on scaled cosines without a margin."""

    paper: ClassVar[str] = "Wang et al., NormFace, ACM MM 2017, eq. 5"
    normalised: ClassVar[bool] = True

    def target_logit(self, cos: Tensor) -> Tensor:
        """c."""
        return full_precision(cos)

    def grown(self, fraction: float) -> Self:
        """Itself: there is nothing to grow."""
        return self


@dataclass(frozen=True)
class SphereFace:
    """T = cos(m1·θ) made monotone, on scaled cosines: as the ArcFace paper compares with it, without annealing."""

    m1: float = 1.35
    """Factor on the angle, at least 1."""
    past_pi: PastPi = "continuous"
    """Beyond φ = π; `continuous` is the paper's ψ, `none` the plain cosine of the ArcFace paper."""
    gradient: GradientRule = "exact"
    """Slope used in training."""

    paper: ClassVar[str] = "Liu et al., SphereFace, CVPR 2017, eq. 7; s-normalised as in Deng et al. 2019, section 2.3"
    normalised: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check(self.m1, 0.0, 0.0, self.past_pi, self.gradient)
        if self.m1 < 1:
            raise UsageError(f"SphereFace with m1 = {self.m1} has a negative margin", hint="choose m1 >= 1")

    def target_logit(self, cos: Tensor) -> Tensor:
        """ψ(θ)."""
        return _combined(cos, self.m1, 0.0, 0.0, self.past_pi, self.gradient)

    def grown(self, fraction: float) -> Self:
        """m1 moves from 1 to its full value."""
        return replace(self, m1=1 + (self.m1 - 1) * checked_fraction(fraction))


@dataclass(frozen=True)
class CosFace:
    """T = c - m3: the large-margin cosine loss, also known as AM-Softmax."""

    m3: float = 0.35
    """Taken off the cosine, at least 0."""

    paper: ClassVar[str] = "Wang et al., CosFace, CVPR 2018, eq. 4"
    normalised: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check(1.0, 0.0, self.m3, "none", "exact")

    def target_logit(self, cos: Tensor) -> Tensor:
        """c - m3."""
        return full_precision(cos) - self.m3

    def grown(self, fraction: float) -> Self:
        """m3 moves from 0 to its full value."""
        return replace(self, m3=self.m3 * checked_fraction(fraction))


@dataclass(frozen=True)
class ArcFace:
    """T = cos(θ + m): the additive angular margin."""

    m: float = 0.5
    """Added to the angle, radians."""
    past_pi: PastPi = "th/mm"
    """Beyond θ + m = π."""
    gradient: GradientRule = "exact"
    """Slope used in training."""

    paper: ClassVar[str] = "Deng et al., ArcFace, CVPR 2019, eq. 3"
    normalised: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check(1.0, self.m, 0.0, self.past_pi, self.gradient)

    def target_logit(self, cos: Tensor) -> Tensor:
        """cos(θ + m)."""
        return _combined(cos, 1.0, self.m, 0.0, self.past_pi, self.gradient)

    def grown(self, fraction: float) -> Self:
        """m moves from 0 to its full value."""
        return replace(self, m=self.m * checked_fraction(fraction))


@dataclass(frozen=True)
class Combined:
    """T = cos(m1·θ + m2) - m3: the united margin; (1, 0.3, 0.2) and (0.9, 0.4, 0.15) are the paper's CM1 and CM2."""

    m1: float = 1.0
    """Factor on the angle."""
    m2: float = 0.3
    """Added to the angle, radians."""
    m3: float = 0.2
    """Taken off the cosine."""
    past_pi: PastPi = "th/mm"
    """Beyond m1·θ + m2 = π."""
    gradient: GradientRule = "exact"
    """Slope used in training."""

    paper: ClassVar[str] = "Deng et al., ArcFace, CVPR 2019, eq. 4"
    normalised: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check(self.m1, self.m2, self.m3, self.past_pi, self.gradient)

    def target_logit(self, cos: Tensor) -> Tensor:
        """cos(m1·θ + m2) - m3."""
        return _combined(cos, self.m1, self.m2, self.m3, self.past_pi, self.gradient)

    def grown(self, fraction: float) -> Self:
        """m1 moves from 1, m2 and m3 from 0 to their full values."""
        part = checked_fraction(fraction)
        return replace(self, m1=1 + (self.m1 - 1) * part, m2=self.m2 * part, m3=self.m3 * part)


MARGINS: dict[str, type[Softmax | NormFace | SphereFace | CosFace | ArcFace | Combined]] = {
    "softmax": Softmax,
    "normface": NormFace,
    "sphereface": SphereFace,
    "cosface": CosFace,
    "arcface": ArcFace,
    "combined": Combined,
}
"""Choice by name; each class carries its `paper`."""


def full_precision(x: Tensor) -> Tensor:
    """float16 and bfloat16 as float32; float32 and float64 as they are."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _combined(cos: Tensor, m1: float, m2: float, m3: float, past_pi: PastPi, gradient: GradientRule) -> Tensor:
    cos = full_precision(cos)
    target = margined_cosine(cos, m1, m2, past_pi) - m3
    return target if gradient == "exact" else cos + (target - cos).detach()


def margined_cosine(cos: Tensor, m1: float, m2: float | Tensor, past_pi: PastPi) -> Tensor:
    """cos(m1·θ + m2) of cosines of any shape, with the rule `past_pi`; a tensor m2 belongs to m1 = 1."""
    cos = full_precision(cos)
    phi = m1 * angle(cos) + m2
    match past_pi:
        case "none":
            return phi.cos()
        case "clamp":
            return phi.clamp(0, math.pi).cos()
        case "easy_margin":
            return torch.where(cos > 0, phi.cos(), cos)
        case "continuous":
            k = (phi.detach() / math.pi).floor()
            return (1 - 2 * (k % 2)) * phi.cos() - 2 * k
        case "th/mm":
            if isinstance(m2, Tensor):
                return torch.where(phi < math.pi, phi.cos(), cos - m2 * m2.sin())
            mu = _gap_at_switch(m1, m2)
            return torch.where(phi < math.pi, phi.cos(), cos - mu * math.sin(mu))


def angle(cos: Tensor) -> Tensor:
    """Radians of cosines of any shape; at |c| = 1 and past it, where rounding leads, the slope is large but finite."""
    # The value is clamped, the slope is not cut: beyond the limit it is the (finite) slope at the limit.
    c = cos + (cos.clamp(-COSINE_LIMIT, COSINE_LIMIT) - cos).detach()
    # arccos(c) through its sine: (1-c)(1+c) keeps its digits near |c| = 1, the 1-c² in arccos' own slope does not.
    return torch.atan2(((1 - c) * (1 + c)).sqrt(), c)


def _gap_at_switch(m1: float, m2: float) -> float:
    """μ = π - θ where m1·θ + m2 = π; 0 where no angle of a cosine reaches π."""
    return max(0.0, math.pi - (math.pi - m2) / m1)


def _check(m1: float, m2: float, m3: float, past_pi: str, gradient: str) -> None:
    if not (0 < m1 < math.inf and 0 <= m2 < math.pi and 0 <= m3 < math.inf):
        raise UsageError(
            f"no such margin: m1 = {m1}, m2 = {m2}, m3 = {m3}", hint="m1 > 0, 0 <= m2 < pi radians, m3 >= 0"
        )
    if past_pi not in get_args(PastPi):
        raise UsageError(f"past_pi = {past_pi!r} is unknown", hint=f"one of {', '.join(get_args(PastPi))}")
    if gradient not in get_args(GradientRule):
        raise UsageError(f"gradient = {gradient!r} is unknown", hint=f"one of {', '.join(get_args(GradientRule))}")
    mu = _gap_at_switch(m1, m2)
    if past_pi == "th/mm" and mu * math.sin(mu) < 1 - math.cos(mu) - 1e-12:
        raise UsageError(f"th/mm would rise at the switch for m1 = {m1}, m2 = {m2}", hint="use past_pi='continuous'")
    if past_pi == "easy_margin" and m1 * math.pi / 2 + m2 > math.pi:
        raise UsageError(f"easy_margin passes pi before c = 0 for m1 = {m1}, m2 = {m2}", hint="use 'continuous'")


def checked_fraction(fraction: float) -> float:
    """The fraction itself, 0..1; UsageError outside."""
    if not 0 <= fraction <= 1:
        raise UsageError(f"a margin cannot grow to {fraction} of its strength", hint="give a fraction from 0 to 1")
    return fraction
