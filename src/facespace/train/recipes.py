"""The recipes by name, in one table. Those named after a small machine end in two hours or less on two cores."""

from dataclasses import replace

from facespace.data.augment import Augment
from facespace.data.sampler import PeopleByPhotos, Shuffled
from facespace.errors import UsageError
from facespace.losses.margins import ArcFace, NormFace
from facespace.losses.triplet import Triplet
from facespace.models.nets.trunks import TrunkSpec
from facespace.train.recipe import SGD, AdamW, Labels, Recipe, Teacher
from facespace.train.schedule import Resolution

LIGHT = Augment(shift=0.03, zoom=0.05, light=0.2, colour=0.2)
"""Where the targets are rich (a teacher's vectors, triplets) and the training short, little is needed."""
FIRM = Augment(shift=0.04, zoom=0.06, turn_rad=0.08, light=0.25, colour=0.25, grey_p=0.05, erase_p=0.15)
"""For labels: a network that sees each photo a dozen times would learn it by heart."""
GROWING = (Resolution(0.0, 80), Resolution(0.65, 112))
"""Two thirds of the training at half the cost, the rest at full size."""

SMALL = TrunkSpec("iresnet16-narrow", 112, 512)

_ARCFACE = Recipe(
    "arcface_small",
    SMALL,
    epochs=14,
    labels=Labels(ArcFace(0.35), scale=24.0, growth=(0.2, 0.6)),
    augment=FIRM,
    optimiser=SGD(0.1),
    warmup=0.03,
    resolutions=GROWING,
)
_TEACHER = Recipe(
    "teacher_small",
    SMALL,
    epochs=18,
    teacher=Teacher(),
    augment=LIGHT,
    optimiser=AdamW(4e-3),
    warmup=0.03,
    resolutions=GROWING,
)
_FACENET = Recipe(
    "facenet_small",
    TrunkSpec("iresnet16-narrow", 80, 128),
    epochs=10,
    triplet=Triplet(),
    sampler=PeopleByPhotos(45, 8),
    augment=LIGHT,
    optimiser=AdamW(2e-3),
    warmup=0.1,
)
_DEMO = Recipe(
    "arcface_demo",
    TrunkSpec("iresnet10-tiny", 80, 128),
    epochs=16,
    labels=Labels(ArcFace(0.35), scale=24.0, growth=(0.2, 0.6)),
    sampler=Shuffled(64),
    augment=FIRM,
    optimiser=SGD(0.1),
    warmup=0.05,
)

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        _DEMO,
        _ARCFACE,
        replace(_ARCFACE, name="normface_small", labels=Labels(NormFace(), scale=24.0)),
        _TEACHER,
        _FACENET,
    )
}


def recipe(name: str) -> Recipe:
    """The recipe of that name; UsageError listing them all where there is none."""
    if name not in RECIPES:
        raise UsageError(f"no recipe is called {name!r}", hint="one of: " + ", ".join(RECIPES))
    return RECIPES[name]
