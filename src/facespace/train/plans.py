"""The plans of ablations by name, in one table: what each part of the four systems is worth on a small machine.

All train `iresnet10-narrow` on faces of 48 pixels, some 600 photos a second on one core. How long is said in `BUDGET`.
"""

import runpy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from facespace.data.augment import Augment
from facespace.data.sampler import PeopleByPhotos, Shuffled
from facespace.errors import UsageError
from facespace.losses.agents import Inter, Intra
from facespace.losses.broadface import Memory
from facespace.losses.groupface import GroupLabels, LabelMode
from facespace.losses.margins import ArcFace, CosFace, Margin, NormFace, Softmax, SphereFace
from facespace.losses.offline import Offline
from facespace.losses.subcentres import DropSettings
from facespace.losses.triplet import Negatives, Triplet
from facespace.models.nets.groupface import Groups
from facespace.models.nets.trunks import TrunkSpec
from facespace.train.plan import Plan, Similarity, Variant
from facespace.train.recipe import SGD, AdamW, Labels, Recipe
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


def _tuned(name: str, margin: Margin, note: str = "", *, start: str | None = None, **changes: Any) -> Variant:
    """A variant that goes on from a start with a margin that grows to its full size."""
    labels = changes.pop("labels", Labels(margin, scale=SCALE, growth=(0.0, 0.5)))
    recipe = replace(START, name=name, labels=labels, optimiser=SGD(0.02), **({"epochs": BUDGET.epochs} | changes))
    return Variant(name, recipe, start=start, note=note)


def _against(baseline: str, *variants: str) -> tuple[tuple[str, str], ...]:
    return tuple((variant, baseline) for variant in variants)


def _margins(mislabelled: float = 0.0, start: str | None = None) -> tuple[Variant, ...]:
    """Margins in their papers' sizes, all at one scale."""
    changes: dict[str, Any] = {"start": start, "mislabelled": mislabelled}
    centres = Labels(ArcFace(0.5), scale=SCALE, growth=(0.0, 0.5), centres=3)
    return (
        _tuned("softmax", Softmax(), "plain W f + b", **changes),
        _tuned("normface", NormFace(), f"softmax on cosines, s = {SCALE:g}", **changes),
        _tuned("sphereface", SphereFace(1.35), "cos(1.35 theta), monotone", **changes),
        _tuned("cosface", CosFace(0.35), "cos(theta) - 0.35", **changes),
        _tuned("arcface", ArcFace(0.5), "cos(theta + 0.5)", **changes),
        _tuned("subcentre", ArcFace(0.5), "ArcFace with 3 sub-centres for each person", labels=centres, **changes),
    )


MARGINS = Plan(
    "margins",
    (
        *_margins(),
        _tuned("normface_64", NormFace(), "s = 64", labels=Labels(NormFace(), scale=64.0)),
        _tuned("arcface_035", ArcFace(0.35), "cos(theta + 0.35)"),
    ),
    BUDGET.seeds,
    (Variant("start", START, note="NormFace, what all others go on from"),),
    _against("normface", "softmax", "sphereface", "cosface", "arcface", "normface_64")
    + _against("arcface", "softmax", "sphereface", "cosface", "subcentre", "arcface_035"),
)


def _cleaned(name: str, note: str, cut_deg: float) -> Variant:
    drop = DropSettings(cut_deg)
    plain = _tuned(name, ArcFace(0.5), note, start="start", mislabelled=NOISE, cleaning=drop)
    return replace(plain, clean_with="subcentre")


NOISE = 0.2
"""Share of the photos that go under somebody else's name."""
MARGINS_NOISY = Plan(
    "margins_noisy",
    (
        # A start for each seed: which photos are mislabelled hangs on it, and no start may have seen them right.
        Variant("start", replace(START, mislabelled=NOISE), note="NormFace, with the wrong names of its seed"),
        *_margins(NOISE, "start"),
        _cleaned("cleaned", "without the photos that `subcentre` has more than 75 degrees off", 75.0),
        _cleaned("cleaned_70", "more than 70 degrees", 70.0),
        _cleaned("cleaned_80", "more than 80 degrees", 80.0),
    ),
    BUDGET.seeds,
    (),
    _against("normface", "softmax", "sphereface", "cosface", "arcface")
    + _against("arcface", "softmax", "sphereface", "cosface", "subcentre", "cleaned")
    + _against("subcentre", "cleaned")
    + _against("cleaned", "cleaned_70", "cleaned_80"),
)

SHARED, HIDDEN = 512, 128
SHARED_WIDE = 3836
"""A shared feature so long that the network without groups has as many weights as that with 32."""


def _grouped(
    name: str,
    groups: Groups,
    note: str,
    labels: LabelMode = "self_distributed",
    start: str | None = None,
    similarity: Similarity = "cosine",
) -> Variant:
    learned = GroupLabels(labels) if groups.count and labels != "none" else None
    trunk = TrunkSpec(NAME, SIZE, DIM, groups)
    return replace(_tuned(name, ARCFACE, note, start=start, trunk=trunk, group_labels=learned), similarity=similarity)


def _without_groups(name: str, shared: int, dim: int = DIM) -> Variant:
    """What variants with groups go on from: the same network as far as the instance layer."""
    trunk = TrunkSpec(NAME, SIZE, dim, Groups(0, shared, HIDDEN))
    return Variant(name, replace(START, name=name, trunk=trunk))


def _groups(count: int, **changes: Any) -> Groups:
    return Groups(count, SHARED, HIDDEN, **changes)


_SOFT_32 = _grouped("soft_32", _groups(32), "32 groups, self-distributed labels, aggregated; compared by cosine")
GROUPFACE = Plan(
    "groupface",
    (
        _grouped("no_groups", _groups(0), "shared feature and instance layer alone"),
        _grouped("no_groups_wide", Groups(0, SHARED_WIDE, HIDDEN), "as many weights as with 32 groups", start="wide"),
        _grouped("no_labels", _groups(32), "32 groups without a loss of their own", "none"),
        _grouped("naive", _groups(32), "32 groups, labels argmax p", "naive"),
        _grouped("soft_4", _groups(4), "4 groups"),
        _grouped("soft_16", _groups(16), "16 groups"),
        _SOFT_32,
        replace(_SOFT_32, name="soft_32_aware", similarity="own", note="soft_32 by the group-aware similarity"),
        _grouped("hard_32", _groups(32, mode="hard"), "trained softly, used with the most probable group alone"),
        _grouped("hard_32_trained", _groups(32, mode="hard", train_mode="hard"), "trained and used so"),
        _grouped("concat_32", _groups(32, combine="concat"), "v and v^G side by side, half as long", start="half"),
    ),
    BUDGET.seeds,
    (
        _without_groups("start", SHARED),
        _without_groups("wide", SHARED_WIDE),
        _without_groups("half", SHARED, DIM // 2),
    ),
    _against("no_groups", "no_groups_wide", "no_labels", "naive", "soft_4", "soft_16", "soft_32", "hard_32")
    + _against("no_groups_wide", "soft_32", "soft_32_aware")
    + _against("soft_32", "no_labels", "naive", "soft_4", "soft_16")
    + _against("soft_32", "hard_32", "hard_32_trained", "concat_32", "soft_32_aware"),
)

BROADFACE = Plan(
    "broadface",
    (
        _tuned("queue_0", ARCFACE, "ArcFace alone"),
        _tuned("queue_2k", ARCFACE, "2,048 past embeddings, compensated", memory=Memory(2048)),
        _tuned("queue_2k_as_is", ARCFACE, "the same, as they were", memory=Memory(2048, compensate=False)),
        _tuned("queue_8k", ARCFACE, "8,192 past embeddings, compensated", memory=Memory(8192)),
        _tuned("queue_8k_as_is", ARCFACE, "the same, as they were", memory=Memory(8192, compensate=False)),
        _tuned("queue_0_early", ARCFACE, "ArcFace alone, half as long", epochs=BUDGET.epochs / 2),
        _tuned(
            "queue_8k_early", ARCFACE, "with the queue, half as long", epochs=BUDGET.epochs / 2, memory=Memory(8192)
        ),
    ),
    BUDGET.seeds,
    (Variant("start", START, note="NormFace, what all others go on from"),),
    _against("queue_0", "queue_2k", "queue_2k_as_is", "queue_8k", "queue_8k_as_is")
    + _against("queue_2k_as_is", "queue_2k")
    + _against("queue_8k_as_is", "queue_8k")
    + _against("queue_0_early", "queue_8k_early"),
)


SMALLER, LARGER = "tiny", "deeper"
_TRUNKS = {SMALLER: "iresnet10-tiny", LARGER: "iresnet16-narrow"}


def _sized(size: str) -> tuple[Variant, ...]:
    """The start of a trunk, and what goes on from it without a queue and with one."""
    trunk = TrunkSpec(_TRUNKS[size], SIZE, DIM)
    begin = Variant(f"start_{size}", replace(START, name=f"start_{size}", trunk=trunk), note=f"NormFace, {trunk.name}")
    changes: dict[str, Any] = {"start": begin.name, "trunk": trunk}
    return (
        begin,
        _tuned(f"queue_0_{size}", ARCFACE, f"{trunk.name}, ArcFace alone", **changes),
        _tuned(f"queue_8k_{size}", ARCFACE, f"{trunk.name}, 8,192 past embeddings", memory=Memory(8192), **changes),
    )


BROADFACE_SIZES = Plan(
    "broadface_sizes",
    (*_sized(SMALLER)[1:], *_sized(LARGER)[1:]),
    BUDGET.seeds,
    (_sized(SMALLER)[0], _sized(LARGER)[0]),
    _against("queue_0_tiny", "queue_8k_tiny") + _against("queue_0_deeper", "queue_8k_deeper"),
)


def _triplets(
    name: str,
    note: str,
    negatives: Negatives = "semihard_hardest",
    offline: Offline | None = None,
    dim: int = 128,
    trunk: str = NAME,
) -> Variant:
    recipe = Recipe(
        name,
        TrunkSpec(trunk, SIZE, dim),
        epochs=BUDGET.triplet_epochs,
        triplet=Triplet(negatives=negatives),
        offline=offline,
        sampler=PeopleByPhotos(45, 8),
        augment=LIGHT,
        optimiser=AdamW(2e-3),
        warmup=0.1,
        held_out=0,
    )
    return Variant(name, recipe, note=note)


FACENET = Plan(
    "facenet",
    (
        _triplets("semihard", "online, the nearest semi-hard negative of each pair"),
        _triplets("semihard_random", "online, a random semi-hard negative", "semihard_random"),
        _triplets("hardest", "online, the nearest negative of all", "hardest"),
        _triplets("offline", "batches of triplets mined every 50 steps, semi-hard", offline=Offline(50)),
        _triplets("offline_hardest", "the same with the nearest negatives", "hardest", Offline(50, hard="hardest")),
    ),
    BUDGET.seeds,
    (),
    _against("semihard", "semihard_random", "hardest", "offline", "offline_hardest"),
)

CLAIMS = Plan(
    "claims",
    (
        _tuned("arcface_040", ArcFace(0.4), "cos(theta + 0.4)"),
        _tuned("arcface_050", ArcFace(0.5), "cos(theta + 0.5)"),
        _tuned("arcface_055", ArcFace(0.55), "cos(theta + 0.55)"),
        _tuned("normface", NormFace(), "softmax on cosines, s = 24"),
        _tuned("intra", NormFace(), "NormFace with the intra term", auxiliary=(Intra(),)),
        _tuned("inter", NormFace(), "NormFace with the inter term", auxiliary=(Inter(),)),
        _tuned("arcface_intra_inter", ArcFace(0.5), "ArcFace with both", auxiliary=(Intra(), Inter())),
        _tuned(
            "partial_fc",
            ArcFace(0.5),
            "a tenth of the classes in each step",
            labels=Labels(ArcFace(0.5), scale=SCALE, growth=(0.0, 0.5), sample=0.1),
        ),
        _tuned("cosface", CosFace(0.35), "cos(theta) - 0.35"),
        _tuned("cosface_queue", CosFace(0.35), "the same with 8,192 past embeddings", memory=Memory(8192)),
    ),
    1,
    (Variant("start", START, note="NormFace, what all but the triplets go on from"),),
    _against("arcface_050", "arcface_040", "arcface_055", "arcface_intra_inter", "partial_fc")
    + _against("normface", "intra", "inter")
    + _against("cosface", "cosface_queue"),
)

SIZES = Plan(
    "facenet_sizes",
    (
        _triplets("dim_128", "semi-hard triplets, vectors of length 128"),
        _triplets("dim_64", "of length 64", dim=64),
        _triplets("dim_256", "of length 256", dim=256),
        _triplets("dim_512", "of length 512", dim=512),
        _triplets("tiny", "length 128, a quarter of the products", trunk="iresnet10-tiny"),
    ),
    1,
    (),
    _against("dim_128", "dim_64", "dim_256", "dim_512", "tiny"),
)

_DEMO = Recipe(
    "demo",
    TrunkSpec("iresnet10-tiny", 32, 32),
    epochs=1,
    labels=Labels(NormFace(), scale=16.0),
    sampler=Shuffled(16),
    augment=Augment(),
    optimiser=SGD(0.05),
    held_out=0,
)
DEMO = Plan(
    "demo",
    (
        Variant("normface", _DEMO, note="softmax on cosines"),
        Variant("arcface", replace(_DEMO, labels=Labels(ArcFace(0.2), scale=16.0)), note="with a margin of 0.2 rad"),
    ),
    seeds=2,
    comparisons=_against("normface", "arcface"),
    judged_fars=(1e-1, 1e-2),
)

PLANS: dict[str, Plan] = {
    plan.name: plan
    for plan in (DEMO, FACENET, SIZES, MARGINS, MARGINS_NOISY, GROUPFACE, BROADFACE, BROADFACE_SIZES, CLAIMS)
}


def find(reference: str, seeds: int | None = None) -> Plan:
    """The plan of that name, or the `PLAN` that the Python file at that path defines when it is run.

    `seeds` replaces the number of seeds. Raises UsageError where there is neither.
    """
    if reference.endswith(".py"):
        plan = _from_file(Path(reference))
    elif reference in PLANS:
        plan = PLANS[reference]
    else:
        hint = "one of: " + ", ".join(PLANS) + "; or a Python file that defines PLAN"
        raise UsageError(f"no plan is called {reference!r}", hint=hint)
    return plan if seeds is None else replace(plan, seeds=seeds)


def _from_file(path: Path) -> Plan:
    if not path.is_file():
        raise UsageError("there is no such file of a plan", file=path)
    plan = runpy.run_path(str(path)).get("PLAN")
    if not isinstance(plan, Plan):
        raise UsageError("the file defines no PLAN", file=path, hint="PLAN = Plan(...) of facespace.train.plan")
    return plan
