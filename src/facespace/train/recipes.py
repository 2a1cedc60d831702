"""The recipes by name, in one table. Those named after a small machine end in two hours or less on two cores."""

from dataclasses import replace

from facespace.data.augment import Augment
from facespace.data.sampler import PeopleByPhotos
from facespace.errors import UsageError
from facespace.losses.margins import ArcFace, NormFace
from facespace.losses.triplet import Triplet
from facespace.models.nets.trunks import TrunkSpec
from facespace.train.recipe import SGD, Labels, Recipe, Teacher
from facespace.train.schedule import Resolution

LIGHT = Augment(shift=0.03, zoom=0.05, light=0.2, colour=0.2)
"""For short trainings: a small network that sees each photo a few times hardly needs more."""
PHONE = Augment(
    shift=0.04,
    zoom=0.08,
    turn_rad=0.1,
    light=0.3,
    colour=0.3,
    grey_p=0.1,
    blur_p=0.1,
    downscale_p=0.2,
    jpeg_p=0.2,
    erase_p=0.2,
)
"""What happens to photos in the field: moved, blurred, small, coded, covered."""
GROWING = (Resolution(0.0, 80), Resolution(0.6, 112))
"""Two thirds of the training at half the cost, the rest at full size."""

SMALL = TrunkSpec("iresnet16-narrow", 112, 512)

_ARCFACE = Recipe(
    "arcface_small",
    SMALL,
    epochs=16,
    labels=Labels(ArcFace(0.35), scale=32.0, growth=(0.25, 0.6)),
    augment=LIGHT,
    optimiser=SGD(0.1),
    warmup=0.03,
    resolutions=GROWING,
)

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        _ARCFACE,
        replace(_ARCFACE, name="normface_small", labels=Labels(NormFace(), scale=24.0)),
        replace(_ARCFACE, name="teacher_small", labels=None, teacher=Teacher()),
        replace(_ARCFACE, name="facenet_small", labels=None, triplet=Triplet(), sampler=PeopleByPhotos(45, 8)),
    )
}


def recipe(name: str) -> Recipe:
    """The recipe of that name; UsageError listing them all where there is none."""
    if name not in RECIPES:
        raise UsageError(f"no recipe is called {name!r}", hint="one of: " + ", ".join(RECIPES))
    return RECIPES[name]
