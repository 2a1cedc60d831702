"""How long the plans train, and what their variants begin with.

All train `iresnet10-narrow` on faces of 48 pixels, some 600 photos a second on one core.
"""

from dataclasses import dataclass, replace
from typing import Any

from facespace.data.sampler import Shuffled
from facespace.losses.margins import ArcFace, Margin, NormFace
from facespace.models.nets.trunks import TrunkSpec
from facespace.train.plan import Variant
from facespace.train.recipe import SGD, Labels, Recipe
from facespace.train.recipes import LIGHT


@dataclass(frozen=True)
class Budget:
    """How long the plans train; all but `demo`."""

    start_epochs: float = 5
    """Of the softmax-type training that variants begin with."""
    epochs: float = 1.5
    """Of each variant."""
    triplet_epochs: float = 6
    """Of each variant of `facenet`, from scratch; an epoch of theirs is eight photos of each person."""
    seeds: int = 3


BUDGET = Budget()
NAME, SIZE, DIM = "iresnet10-narrow", 48, 256
SCALE = 24.0
"""Of the cosines: with 1,700 people and so small a network, 64 fits the training photos and nothing else."""
ARCFACE = ArcFace(0.35)
"""Of the plans that do not compare margins."""

START = Recipe(
    "start",
    TrunkSpec(NAME, SIZE, DIM),
    epochs=BUDGET.start_epochs,
    labels=Labels(NormFace(), scale=SCALE),
    sampler=Shuffled(128),
    augment=LIGHT,
    optimiser=SGD(0.1),
    warmup=0.03,
    held_out=0,
)


def tuned(name: str, margin: Margin, note: str = "", *, start: str | None = None, **changes: Any) -> Variant:
    """A variant that goes on from a start with a margin that grows to its full size."""
    labels = changes.pop("labels", Labels(margin, scale=SCALE, growth=(0.0, 0.5)))
    recipe = replace(START, name=name, labels=labels, optimiser=SGD(0.02), **({"epochs": BUDGET.epochs} | changes))
    return Variant(name, recipe, start=start, note=note)


def against(baseline: str, *variants: str) -> tuple[tuple[str, str], ...]:
    """Comparisons of variants with one baseline."""
    return tuple((variant, baseline) for variant in variants)
