"""Accuracy in each of the groups into which a set divides its pairs, at the thresholds of that group's own folds.

So RFW's figures are published. What one threshold for all does to each group, `judge.groups` tells.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facespace.core.intervals import Interval
from facespace.core.verification import Ties
from facespace.judge.figures import figures_of
from facespace.judge.people import PairPeople
from facespace.judge.protocols import PairProtocol


@dataclass(frozen=True)
class GroupAccuracy:
    """The accuracy over folds of the pairs of one group, and the median of its folds' thresholds."""

    group: str
    pairs: int
    accuracy: float
    ci95: Interval
    threshold: float

    def as_json(self) -> dict[str, Any]:
        """`{"group", "pairs", "accuracy", "ci95", "threshold"}`."""
        return {
            "group": self.group,
            "pairs": self.pairs,
            "accuracy": self.accuracy,
            "ci95": self.ci95,
            "threshold": self.threshold if np.isfinite(self.threshold) else None,
        }


def accuracies(protocol: PairProtocol, scores: NDArray[np.float32], ties: Ties) -> tuple[GroupAccuracy, ...]:
    """Those of all groups by name, none where the set has no groups; pairs across groups count in none."""
    if protocol.groups is None:
        return ()
    of_photo, people = np.array(protocol.groups), PairPeople.of(protocol)
    first, second = of_photo[protocol.first], of_photo[protocol.second]
    found = []
    for group in np.unique(of_photo).tolist():
        kept = (first == group) & (second == group)
        within = PairPeople(people.a[kept], people.b[kept], people.named)
        figures = figures_of(scores[kept], protocol.same[kept], protocol.folds[kept], ties, people=within)
        found.append(GroupAccuracy(group, int(kept.sum()), figures.accuracy, figures.accuracy_ci95, figures.threshold))
    return tuple(found)
