"""Margins that read more than the label's cosine: the length of the embedding, the other classes, or the past.

Each is a frozen dataclass on top of `Adaptive`, which says what may be read; the numbers a margin carries from step to
step (`memory`) are kept by the head, in its state. Angles are radians.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from facespace.errors import UsageError, check_choices
from facespace.losses.margins import PastPi, SphereFace, checked_fraction, full_precision, margined_cosine

Memory = dict[str, Tensor]
"""Scalars by name, without gradient."""


class Adaptive:
    """What a margin may read and change beside the label's cosine; each member overrides what it needs."""

    paper: ClassVar[str]
    normalised: ClassVar[bool] = True
    memory: ClassVar[dict[str, float]] = {}
    """Numbers carried from step to step, and where they start."""
    bends: ClassVar[bool] = False
    """Whether the other classes' cosines are changed (`others`)."""

    def updated(self, cos: Tensor, norms: Tensor, memory: Memory) -> Memory:
        """The memory after seeing a batch's label cosines and norms, both `(N,)`; taken before the batch is judged."""
        return memory

    def target_logit(self, cos: Tensor, norms: Tensor, memory: Memory) -> Tensor:
        """The label's logit before scaling, from its cosine and the length of the embedding, both `(N,)`."""
        raise NotImplementedError

    def others(self, cos: Tensor, target: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """What stands for the other classes' cosines `(N, B)`, given the label's `(N, 1)`, and its slope in them."""
        raise NotImplementedError

    def scales(self, scale: Tensor, norms: Tensor) -> Tensor:
        """The scale of each photo's logits `(N,)`."""
        return scale.expand_as(norms)

    def penalty(self, norms: Tensor) -> Tensor | None:
        """A term of the loss in the norms alone."""
        return None

    def grown(self, fraction: float) -> Self:
        """The same kind of margin at `fraction` of its strength."""
        raise NotImplementedError


@dataclass(frozen=True)
class AnnealedSphereFace(Adaptive):
    """SphereFace as published: logits ‖x‖·c_j, and ‖x‖·(λ·c + ψ(θ))/(1 + λ) for the label, with λ falling."""

    m1: float = 4.0
    """Factor on the angle, at least 1."""
    base: float = 1000.0
    """λ(it) = max(minimum, base / (1 + gamma·it)), it = 1 at the first step (official prototxt, power 1)."""
    gamma: float = 0.12
    minimum: float = 5.0
    gradient: Literal["exact", "rescaled"] = "exact"
    """`rescaled`: the gradient of ‖x‖·ψ in x divided by the length of its two coefficients, as the official Caffe layer
    does. There class rows get slope 1 in c; here they get that of x, which is close to it wherever ψ is not flat."""

    paper: ClassVar[str] = "Liu et al., SphereFace, CVPR 2017, eq. 7 and section 4.1"
    memory: ClassVar[dict[str, float]] = {"iteration": 0.0}

    def __post_init__(self) -> None:
        if not all(0 <= x < math.inf for x in (self.m1 - 1, self.base, self.gamma, self.minimum)):
            raise UsageError(f"no such margin: {self}", hint="m1 >= 1, nothing negative, nothing infinite")
        if self.gradient not in ("exact", "rescaled"):
            raise UsageError(f"gradient = {self.gradient!r} is unknown", hint="exact or rescaled")

    def updated(self, cos: Tensor, norms: Tensor, memory: Memory) -> Memory:
        """One step further."""
        return {"iteration": memory["iteration"] + 1}

    def annealing(self, memory: Memory) -> Tensor:
        """λ."""
        return (self.base / (1 + self.gamma * memory["iteration"])).clamp(min=self.minimum)

    def target_logit(self, cos: Tensor, norms: Tensor, memory: Memory) -> Tensor:
        """(λ·c + ψ)/(1 + λ)."""
        weight, cos = self.annealing(memory), full_precision(cos)
        psi = SphereFace(self.m1).target_logit(cos)
        if self.gradient == "rescaled":
            psi = self._rescaled(psi, cos, norms)
        return (weight * cos + psi) / (1 + weight)

    def _rescaled(self, psi: Tensor, cos: Tensor, norms: Tensor) -> Tensor:
        """ψ, whose gradient is divided by n = √(ψ'² + (ψ - c·ψ')²/‖x‖²): d(‖x‖·ψ)/dx = ψ'·w + (ψ - c·ψ')/‖x‖·x."""
        norms = norms.clamp(min=1e-12)
        with torch.enable_grad():
            c = cos.detach().requires_grad_()
            (slope,) = torch.autograd.grad(SphereFace(self.m1).target_logit(c).sum(), c)
        n = torch.hypot(slope, (psi.detach() - cos.detach() * slope) / norms.detach()).clamp(min=1e-12)
        shrunk = psi / n
        # The head multiplies by ‖x‖, which brings ψ·d‖x‖; what makes that ψ/n·d‖x‖ has value 0.
        surplus = (shrunk - psi).detach()
        return shrunk - surplus + surplus * (norms / norms.detach() - 1)

    def scales(self, scale: Tensor, norms: Tensor) -> Tensor:
        """‖x‖: the feature is not normalised."""
        return norms

    def grown(self, fraction: float) -> Self:
        """m1 moves from 1 to its full value; λ falls all the same."""
        return replace(self, m1=1 + (self.m1 - 1) * checked_fraction(fraction))


@dataclass(frozen=True)
class AdaFace(Adaptive):
    """T = cos(θ - m·z) - m - m·z with z the standing of ‖f‖ among recent norms: good photos get the larger margin."""

    m: float = 0.4
    """Strength of the margin, radians and cosine."""
    h: float = 0.333
    """How far norms spread z, which is held in -1..1."""
    momentum: float = 0.01
    """Weight of a new batch in the running mean and deviation of the norms."""
    guard: float = 0.0
    """How far cosine and angle of the label are held from their ends, without slope there; the public code has 1e-3."""

    paper: ClassVar[str] = "Kim et al., AdaFace, CVPR 2022, eq. 12-15, and its public code"
    memory: ClassVar[dict[str, float]] = {"mean": 20.0, "deviation": 100.0}

    def __post_init__(self) -> None:
        if not 0 <= self.m < math.pi / 2 or not 0 < self.h < math.inf or not 0 < self.momentum <= 1:
            raise UsageError(f"no such margin: {self}", hint="0 <= m < pi/2, h > 0, 0 < momentum <= 1")
        if not 0 <= self.guard < 1:
            raise UsageError(f"guard = {self.guard} leaves no cosine", hint="0 <= guard < 1, or better 0")

    def updated(self, cos: Tensor, norms: Tensor, memory: Memory) -> Memory:
        """Running mean and deviation of the norms; a batch of one has no deviation and leaves it as it was."""
        norms = norms.clamp(1e-3, 100)
        spread = norms.std() if len(norms) > 1 else memory["deviation"]
        seen = {"mean": norms.mean(), "deviation": spread}
        return {name: memory[name] + self.momentum * (seen[name] - memory[name]) for name in memory}

    def standing(self, norms: Tensor, memory: Memory) -> Tensor:
        """z in -1..1, without gradient."""
        norms = norms.detach().clamp(1e-3, 100)
        return ((norms - memory["mean"]) / (memory["deviation"] + 1e-3) * self.h).clamp(-1, 1)

    def target_logit(self, cos: Tensor, norms: Tensor, memory: Memory) -> Tensor:
        """cos(θ - m·z) - m - m·z, the angle held in 0..π."""
        shift = self.m * self.standing(norms, memory)
        cos = full_precision(cos)
        if not self.guard:
            return margined_cosine(cos, 1.0, -shift, "clamp") - self.m - shift
        turned = margined_cosine(cos.clamp(self.guard - 1, 1 - self.guard), 1.0, -shift, "clamp")
        most = math.cos(self.guard)  # cos of an angle in guard..π - guard
        return turned.clamp(-most, most) - self.m - shift

    def grown(self, fraction: float) -> Self:
        """m moves from 0 to its full value."""
        return replace(self, m=self.m * checked_fraction(fraction))


@dataclass(frozen=True)
class MagFace(Adaptive):
    """ArcFace whose margin grows with ‖f‖, and a pull of ‖f‖ towards `longest`: the length becomes a quality."""

    margins: tuple[float, float] = (0.45, 0.8)
    """Margin at the shortest and at the longest norm, radians."""
    norms: tuple[float, float] = (10.0, 110.0)
    """Shortest and longest norm; beyond them the margin stays."""
    pull: float = 35.0
    """Weight of g(a) = a/longest² + 1/a."""
    past_pi: PastPi = "th/mm"
    """Beyond θ + m = π; the public code uses easy_margin."""

    paper: ClassVar[str] = "Meng et al., MagFace, CVPR 2021, eq. 3-5, and its public code"

    def __post_init__(self) -> None:
        (low, high), (short, long) = self.margins, self.norms
        if not (0 <= low <= high < math.pi / 2 and 0 < short < long < math.inf and 0 <= self.pull < math.inf):
            raise UsageError(f"no such margin: {self}", hint="0 <= margins rising < pi/2, 0 < norms rising, pull >= 0")
        check_choices(self, {"past_pi": PastPi})

    def margin(self, norms: Tensor) -> Tensor:
        """m(‖f‖), with its slope."""
        (low, high), (short, long) = self.margins, self.norms
        return low + (high - low) * (norms.clamp(short, long) - short) / (long - short)

    def target_logit(self, cos: Tensor, norms: Tensor, memory: Memory) -> Tensor:
        """cos(θ + m(‖f‖))."""
        return margined_cosine(cos, 1.0, self.margin(norms), self.past_pi)

    def penalty(self, norms: Tensor) -> Tensor | None:
        """pull·mean g."""
        length = norms.clamp(*self.norms)
        return self.pull * (length / self.norms[1] ** 2 + 1 / length).mean()

    def grown(self, fraction: float) -> Self:
        """Both margins move from 0 to their full values; the pull stays."""
        part = checked_fraction(fraction)
        return replace(self, margins=(self.margins[0] * part, self.margins[1] * part))


@dataclass(frozen=True)
class CurricularFace(Adaptive):
    """ArcFace that weighs hard negatives (c_j > cos(θ_y + m)) by t + c_j, where t follows the mean label cosine."""

    m: float = 0.5
    """Added to the label's angle, radians."""
    momentum: float = 0.01
    """Weight of a new batch in t; 0.99 is the formula as printed, 0.01 the code."""

    paper: ClassVar[str] = "Huang et al., CurricularFace, CVPR 2020, eq. 5-7, and its public code"
    memory: ClassVar[dict[str, float]] = {"t": 0.0}
    bends: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.m < math.pi / 2 or not 0 < self.momentum <= 1:
            raise UsageError(f"no such margin: {self}", hint="0 <= m < pi/2 radians, 0 < momentum <= 1")

    def updated(self, cos: Tensor, norms: Tensor, memory: Memory) -> Memory:
        """t before it is used."""
        return {"t": memory["t"] + self.momentum * (cos.mean() - memory["t"])}

    def target_logit(self, cos: Tensor, norms: Tensor, memory: Memory) -> Tensor:
        """cos(θ + m), past π as th/mm."""
        return margined_cosine(cos, 1.0, self.m, "th/mm")

    def others(self, cos: Tensor, target: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """c·(t + c) where c > cos(θ_y + m), else c."""
        hard, t = cos > margined_cosine(target, 1.0, self.m, "none"), memory["t"]
        return torch.where(hard, cos * (t + cos), cos), torch.where(hard, t + 2 * cos, 1.0)

    def grown(self, fraction: float) -> Self:
        """m moves from 0 to its full value."""
        return replace(self, m=self.m * checked_fraction(fraction))


@dataclass(frozen=True)
class MVSoftmax(Adaptive):
    """CosFace or ArcFace that raises misclassified negatives, those with c_j > T(c_y)."""

    m: float = 0.35
    """Margin of the label: off the cosine (`cosine`), or on the angle in radians (`angle`)."""
    t: float = 0.12
    """How much a hard negative is raised."""
    kind: Literal["cosine", "angle"] = "cosine"
    weighting: Literal["fixed", "adaptive"] = "adaptive"
    """`fixed`: c + t; `adaptive`: (1 + t)·c + t."""

    paper: ClassVar[str] = "Wang et al., Mis-classified Vector Guided Softmax, AAAI 2020, eq. 6-8"
    bends: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.m < math.pi / 2 or not 0 <= self.t < math.inf:
            raise UsageError(f"no such margin: {self}", hint="0 <= m < pi/2, t >= 0")
        if self.kind not in ("cosine", "angle") or self.weighting not in ("fixed", "adaptive"):
            raise UsageError(f"no such margin: {self}", hint="kind cosine or angle, weighting fixed or adaptive")

    def target_logit(self, cos: Tensor, norms: Tensor, memory: Memory) -> Tensor:
        """T(c), as CosFace or ArcFace."""
        return full_precision(cos) - self.m if self.kind == "cosine" else margined_cosine(cos, 1.0, self.m, "th/mm")

    def others(self, cos: Tensor, target: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """Hard negatives raised, the others as they are."""
        hard = cos > self.target_logit(target, target, memory)
        steep = 1 + self.t if self.weighting == "adaptive" else 1.0
        return torch.where(hard, steep * cos + self.t, cos), torch.ones_like(cos).masked_fill_(hard, steep)

    def grown(self, fraction: float) -> Self:
        """m and t move from 0 to their full values."""
        part = checked_fraction(fraction)
        return replace(self, m=self.m * part, t=self.t * part)


ADAPTIVE: dict[str, type[AnnealedSphereFace | AdaFace | MagFace | CurricularFace | MVSoftmax]] = {
    "sphereface_annealed": AnnealedSphereFace,
    "adaface": AdaFace,
    "magface": MagFace,
    "curricularface": CurricularFace,
    "mv_softmax": MVSoftmax,
}
"""Choice by name; each class carries its `paper`."""
