"""What GroupFace's groups are worth: how many, how used, how taught."""

from dataclasses import replace
from typing import Any

from facespace.losses.groupface import GroupLabels, LabelMode
from facespace.models.nets.groupface import Groups
from facespace.models.nets.trunks import TrunkSpec
from facespace.train.plan import Plan, Similarity, Variant
from facespace.train.planned.budget import ARCFACE, BUDGET, DIM, NAME, SIZE, START, against, tuned

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
    return replace(tuned(name, ARCFACE, note, start=start, trunk=trunk, group_labels=learned), similarity=similarity)


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
    against("no_groups", "no_groups_wide", "no_labels", "naive", "soft_4", "soft_16", "soft_32", "hard_32")
    + against("no_groups_wide", "soft_32", "soft_32_aware")
    + against("soft_32", "no_labels", "naive", "soft_4", "soft_16")
    + against("soft_32", "hard_32", "hard_32_trained", "concat_32", "soft_32_aware"),
)
