"""The recipes by name, in one table: here those for a small machine, then the papers' own.

The small ones end within two hours on one core, with some 21,000 photos of 1,600 people; docs/recipes.md has the costs.
"""

from dataclasses import replace

from facespace.data.augment import Augment
from facespace.data.sampler import PeopleByPhotos, Shuffled
from facespace.errors import UsageError
from facespace.losses.adaptive import AdaFace, AnnealedSphereFace, CurricularFace, MagFace, MVSoftmax
from facespace.losses.broadface import Memory
from facespace.losses.groupface import GroupLabels
from facespace.losses.harmonic import Harmonic
from facespace.losses.head import AnyMargin
from facespace.losses.margins import ArcFace, Combined, CosFace, NormFace, Softmax, SphereFace
from facespace.losses.triplet import Triplet
from facespace.models.nets.groupface import Groups
from facespace.models.nets.trunks import TrunkSpec
from facespace.train.papers import PAPERS
from facespace.train.recipe import SGD, AdamW, Labels, Recipe, Teacher
from facespace.train.schedule import Resolution, Steps

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

PART = 0.7
"""Share of its published size that a margin has here: so small a network can learn 0.35 rad for ArcFace's 0.5."""
_MARGINS: dict[str, AnyMargin] = {
    "sphereface": SphereFace(1.35),
    "cosface": CosFace(0.35),
    "cm1": Combined(1.0, 0.3, 0.2),
    "cm2": Combined(0.9, 0.4, 0.15),
    "adaface": AdaFace(),
    "magface": MagFace(),
    "curricularface": CurricularFace(),
    "mv_softmax": MVSoftmax(),
}


def _family(name: str, labels: Labels) -> Recipe:
    """`arcface_small` with other labels."""
    return replace(_ARCFACE, name=f"{name}_small", labels=labels)


_FAMILY = (
    _family("softmax", Labels(Softmax())),
    _family("normface", Labels(NormFace(), scale=24.0)),
    _family("sphereface_annealed", Labels(AnnealedSphereFace())),
    *(_family(name, Labels(m.grown(PART), scale=24.0, growth=(0.2, 0.6))) for name, m in _MARGINS.items()),
    _family("subcentre", Labels(ArcFace(0.35), scale=24.0, growth=(0.2, 0.6), centres=3)),
    _family("partial_fc", Labels(CosFace(0.4).grown(PART), scale=24.0, growth=(0.2, 0.6), sample=0.25)),
)


def _grouped(count: int) -> TrunkSpec:
    return replace(SMALL, groups=Groups(count, shared=512, hidden=128))


_TUNED = replace(
    _ARCFACE,
    epochs=5,
    labels=Labels(ArcFace(0.35), scale=24.0),
    optimiser=SGD(0.02),
    schedule=Steps((5 / 8, 7 / 8)),
    resolutions=(),
)
"""For those that go on from a finished training, as GroupFace and BroadFace do."""
_TRIPLETS = replace(
    _TUNED,
    name="triplet_small",
    epochs=15,
    labels=None,
    triplet=Triplet(0.35, negatives="semihard_random", metric="angle"),
    sampler=PeopleByPhotos(26, 5),
    optimiser=SGD(5e-3),
)

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        _DEMO,
        _ARCFACE,
        *_FAMILY,
        _TRIPLETS,
        replace(_ARCFACE, name="groupface_start_small", trunk=_grouped(0)),
        replace(_TUNED, name="groupface_small", trunk=_grouped(32), group_labels=GroupLabels()),
        replace(_TUNED, name="broadface_small", memory=Memory(8192)),
        _FACENET,
        replace(_FACENET, name="harmonic_small", triplet=None, harmonic=Harmonic()),
        _TEACHER,
        *(published.recipe for published in PAPERS.values()),
    )
}


def recipe(name: str) -> Recipe:
    """The recipe of that name; UsageError listing them all where there is none."""
    if name not in RECIPES:
        raise UsageError(f"no recipe is called {name!r}", hint="one of: " + ", ".join(RECIPES))
    return RECIPES[name]
