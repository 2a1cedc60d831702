"""The plans of ablations by name, in one table."""

import runpy
from dataclasses import replace
from pathlib import Path

from facespace.data.augment import Augment
from facespace.data.sampler import Shuffled
from facespace.errors import UsageError
from facespace.losses.margins import ArcFace, NormFace
from facespace.models.nets.trunks import TrunkSpec
from facespace.train.plan import Plan, Variant
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

PLANS: dict[str, Plan] = {
    plan.name: plan
    for plan in (
        Plan(
            "demo",
            (
                Variant("normface", _DEMO, note="softmax on cosines, the baseline"),
                Variant("arcface", replace(_DEMO, labels=Labels(ArcFace(0.2), scale=16.0))),
            ),
            seeds=2,
            comparisons=(("arcface", "normface"),),
            judged_fars=(1e-1, 1e-2),
        ),
    )
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
