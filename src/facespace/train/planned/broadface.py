"""What BroadFace's queue is worth: how long, compensated or not, how soon, on which network."""

from dataclasses import replace
from typing import Any

from facespace.losses.broadface import Memory
from facespace.models.nets.trunks import TrunkSpec
from facespace.train.plan import Plan, Variant
from facespace.train.planned.budget import ARCFACE, BUDGET, DIM, SIZE, START, against, tuned

BROADFACE = Plan(
    "broadface",
    (
        tuned("queue_0", ARCFACE, "ArcFace alone"),
        tuned("queue_2k", ARCFACE, "2,048 past embeddings, compensated", memory=Memory(2048)),
        tuned("queue_2k_as_is", ARCFACE, "the same, as they were", memory=Memory(2048, compensate=False)),
        tuned("queue_8k", ARCFACE, "8,192 past embeddings, compensated", memory=Memory(8192)),
        tuned("queue_8k_as_is", ARCFACE, "the same, as they were", memory=Memory(8192, compensate=False)),
        tuned("queue_0_early", ARCFACE, "ArcFace alone, half as long", epochs=BUDGET.epochs / 2),
        tuned("queue_8k_early", ARCFACE, "with the queue, half as long", epochs=BUDGET.epochs / 2, memory=Memory(8192)),
    ),
    BUDGET.seeds,
    (Variant("start", START, note="NormFace, what all others go on from"),),
    against("queue_0", "queue_2k", "queue_2k_as_is", "queue_8k", "queue_8k_as_is")
    + against("queue_2k_as_is", "queue_2k")
    + against("queue_8k_as_is", "queue_8k")
    + against("queue_0_early", "queue_8k_early"),
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
        tuned(f"queue_0_{size}", ARCFACE, f"{trunk.name}, ArcFace alone", **changes),
        tuned(f"queue_8k_{size}", ARCFACE, f"{trunk.name}, 8,192 past embeddings", memory=Memory(8192), **changes),
    )


BROADFACE_SIZES = Plan(
    "broadface_sizes",
    (*_sized(SMALLER)[1:], *_sized(LARGER)[1:]),
    BUDGET.seeds,
    (_sized(SMALLER)[0], _sized(LARGER)[0]),
    against("queue_0_tiny", "queue_8k_tiny") + against("queue_0_deeper", "queue_8k_deeper"),
)
