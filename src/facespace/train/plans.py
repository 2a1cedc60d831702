"""The plans of ablations by name, in one table: what each part of the four systems is worth on a small machine."""

import runpy
from dataclasses import replace
from pathlib import Path

from facespace.data.augment import Augment
from facespace.data.sampler import Shuffled
from facespace.errors import UsageError
from facespace.losses.margins import ArcFace, NormFace
from facespace.models.nets.trunks import TrunkSpec
from facespace.train.plan import Plan, Variant
from facespace.train.planned.broadface import BROADFACE, BROADFACE_SIZES
from facespace.train.planned.budget import against
from facespace.train.planned.facenet import FACENET, SIZES
from facespace.train.planned.groupface import GROUPFACE
from facespace.train.planned.margins import CLAIMS, MARGINS, MARGINS_NOISY
from facespace.train.recipe import SGD, Labels, Recipe

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
    comparisons=against("normface", "arcface"),
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
