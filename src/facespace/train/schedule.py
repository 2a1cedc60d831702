"""Learning rate, resolution and margin as pure functions of the progress of a training."""

import math
from dataclasses import dataclass

from facespace.errors import UsageError


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from 1 to `end` (a share of the base rate)."""

    end: float = 0.0

    def factor(self, progress: float) -> float:
        """Share of the base rate at a progress in 0..1."""
        return self.end + (1 - self.end) * 0.5 * (1 + math.cos(math.pi * progress))


@dataclass(frozen=True)
class Steps:
    """Multiply by `gamma` at each milestone (a progress in 0..1)."""

    milestones: tuple[float, ...] = (0.625, 0.875)
    gamma: float = 0.1

    def factor(self, progress: float) -> float:
        """Share of the base rate at a progress in 0..1."""
        return float(self.gamma ** sum(progress >= milestone for milestone in self.milestones))


@dataclass(frozen=True)
class Polynomial:
    """(1 - progress)^power: from 1 to 0 (arcface_torch)."""

    power: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.power < math.inf:
            raise UsageError(f"a rate cannot fall with the power {self.power}", hint="power > 0")

    def factor(self, progress: float) -> float:
        """Share of the base rate at a progress in 0..1."""
        return float((1 - progress) ** self.power)


Schedule = Cosine | Steps | Polynomial


def rate(base: float, schedule: Schedule, warmup_steps: int, step: int, total: int) -> float:
    """Learning rate of a step: linear from 0 over the warm-up, then the schedule over what remains."""
    if step < warmup_steps:
        return base * (step + 1) / warmup_steps
    return base * schedule.factor((step - warmup_steps) / max(1, total - warmup_steps))


def grown(start: float, end: float, progress: float) -> float:
    """0 before `start`, 1 after `end`, linear between: how much of the margin is in force."""
    if progress >= end:
        return 1.0
    return 0.0 if progress <= start else (progress - start) / (end - start)


@dataclass(frozen=True)
class Resolution:
    """Side of the training faces: `size` from progress `start` on."""

    start: float
    size: int


def side(stages: tuple[Resolution, ...], progress: float) -> int:
    """Side in pixels at a progress in 0..1."""
    return max((stage for stage in stages if stage.start <= progress), key=lambda stage: stage.start).size


def check_stages(stages: tuple[Resolution, ...], size: int) -> None:
    """Refuse stages that do not begin at 0, are not in order, or do not end at the trunk's own size."""
    starts, sizes = [stage.start for stage in stages], [stage.size for stage in stages]
    if starts[:1] != [0.0] or starts != sorted(set(starts)) or not starts[-1] < 1 or sizes[-1] != size:
        raise UsageError(
            f"resolutions {stages} must begin at 0, rise in start below 1, and end at the trunk's {size} pixels"
        )
    if min(sizes) < 32:
        raise UsageError(f"faces of {min(sizes)} pixels are too small for a trunk", hint="32 pixels or more")
