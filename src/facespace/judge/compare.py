"""Two models on the same pairs: side by side, and whether the difference is more than chance."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facespace.core.intervals import Interval, mcnemar
from facespace.core.over_people import Estimate, Judged, difference
from facespace.core.verification import Ties, accepts
from facespace.errors import UsageError
from facespace.judge.figures import Figures, RateAtFar, figures_of
from facespace.judge.page import templates
from facespace.judge.panels import det_chart, roc_chart
from facespace.judge.people import PairPeople
from facespace.judge.scored import Scored


@dataclass(frozen=True)
class Gap:
    """A figure of both models, and by how much the second is above the first; or why it is refused."""

    figure: str
    better: str
    """`higher` or `lower`."""
    first: float | None = None
    second: float | None = None
    difference: float | None = None
    ci95: Interval | None = None
    p_value: float | None = None
    refused: str | None = None

    @property
    def verdict(self) -> str:
        """Which model is better, if the interval says so: `first`, `second`, `undecided` or `refused`."""
        if self.ci95 is None:
            return "refused"
        low, high = self.ci95 if self.better == "higher" else (-self.ci95[1], -self.ci95[0])
        return "second" if low > 0 else "first" if high < 0 else "undecided"

    def as_json(self) -> dict[str, Any]:
        """All fields, and `verdict`; null where refused."""
        return {**vars(self), "verdict": self.verdict}


@dataclass(frozen=True)
class Decisions:
    """Pairs decided at each fold's threshold: how many only one model got right, and McNemar's p for these."""

    only_first: int
    only_second: int
    p_value: float


@dataclass(frozen=True)
class Comparison:
    """What two evaluations of the same pairs say together."""

    models: tuple[dict[str, Any], dict[str, Any]]
    figures: tuple[Figures, Figures]
    gaps: tuple[Gap, ...]
    decisions: Decisions
    protocol: str
    digest: str
    pairs: int
    people: int
    people_named: bool
    """Whether the names of the photos say whose they are; if not, only genuine pairs do."""

    def as_json(self) -> dict[str, Any]:
        """The document of `facespace compare --json`."""
        return {
            "models": [
                {**model, **figures.as_json()} for model, figures in zip(self.models, self.figures, strict=True)
            ],
            "differences": [gap.as_json() for gap in self.gaps],
            "mcnemar": vars(self.decisions),
            "protocol": self.protocol,
            "pairs": self.pairs,
            "people": self.people,
            "people_named": self.people_named,
            "intervals": self.figures[0].intervals,
            "data": {"digest": self.digest},
        }


def compare(first: Scored, second: Scored) -> Comparison:
    """The second model against the first.

    Intervals and p of the differences are over people, not pairs: an interval that leaves out 0 is a difference.
    Raises UsageError where the two were not judged on the same pairs of the same photos by one rule.
    """
    _require_same(first, second)
    people = PairPeople.of(first)
    one, other = (figures_of(s.scores, s.same, s.folds, s.ties, people=people) for s in (first, second))
    judged = one.judged, other.judged
    gaps = [
        _gap("accuracy", "higher", judged, one.accuracy, other.accuracy, Judged.accuracy),
        *(_tar_gap(judged, *rates) for rates in zip(one.tar_at_far, other.tar_at_far, strict=True)),
        _gap("EER", "lower", judged, one.eer, other.eer, Judged.equal_error),
    ]
    return Comparison(
        models=(dict(first.model), dict(second.model)),
        figures=(one, other),
        gaps=tuple(gaps),
        decisions=_decisions(first, second, one, other),
        protocol=first.protocol,
        digest=first.digest,
        pairs=len(first.scores),
        people=people.count,
        people_named=people.named,
    )


def write_comparison(comparison: Comparison, path: Path) -> None:
    """One page of HTML with both models; nothing from the network, and no pictures of faces."""
    names = [str(model["name"]) for model in comparison.models]
    if names[0] == names[1]:
        names = [f"{model['name']} ({model['contract']})" for model in comparison.models]
    both = list(zip(names, comparison.figures, strict=True))
    page = templates().get_template("compare.html")
    text = page.render(title=f"{names[1]} against {names[0]}", c=comparison, names=names, charts=_charts(both))
    path.write_text(text, encoding="utf-8")


def _charts(both: list[tuple[str, Figures]]) -> list[tuple[str, str]]:
    return [("ROC", roc_chart(both)), ("Detection error trade-off: misses against false accepts", det_chart(both))]


def _require_same(first: Scored, second: Scored) -> None:
    hint = "judge both with the same --data, --protocol, --pairs, --folds, --seed and --ties"
    if first.digest != second.digest:
        raise UsageError("the two were judged on different photos", hint=hint)
    columns = ("first", "second", "same", "folds")
    alike = all(np.array_equal(getattr(first, column), getattr(second, column)) for column in columns)
    if first.photos != second.photos or first.ties != second.ties or not alike:
        raise UsageError("the two were not judged on the same pairs by the same rule", hint=hint)


def _gap(
    name: str,
    better: str,
    judged: tuple[Judged, Judged],
    first: float,
    second: float,
    estimate: Callable[[Judged], Estimate],
) -> Gap:
    one, other = (estimate(pairs) for pairs in judged)
    return Gap(name, better, first, second, *difference(one, other, judged[0].trials))


def _tar_gap(judged: tuple[Judged, Judged], first: RateAtFar, second: RateAtFar) -> Gap:
    name = f"TAR at FAR {100 * first.far:g} %"
    if first.thresholds is None or second.thresholds is None:
        return Gap(name, "higher", refused=first.refused or second.refused)
    one, other = (
        pairs.moving(first.far, pairs.rates(thresholds))
        for pairs, thresholds in zip(judged, (first.thresholds, second.thresholds), strict=True)
    )
    return Gap(name, "higher", first.rate, second.rate, *difference(one, other, judged[0].trials))


def _decisions(first: Scored, second: Scored, of_first: Figures, of_second: Figures) -> Decisions:
    right: list[NDArray[np.bool_]] = []
    for scored, figures in ((first, of_first), (second, of_second)):
        right.append(_right(scored, figures.folds.thresholds, scored.ties))
    only_first, only_second = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    return Decisions(only_first, only_second, mcnemar(only_first, only_second))


def _right(scored: Scored, thresholds: NDArray[np.float64], ties: Ties) -> NDArray[np.bool_]:
    """Which pairs `(P,)` are decided rightly, each at the threshold of its fold."""
    right = np.empty(len(scored.scores), np.bool_)
    for fold, threshold in zip(np.unique(scored.folds), thresholds.tolist(), strict=True):
        held = scored.folds == fold
        right[held] = accepts(scored.scores[held], threshold, ties) == scored.same[held]
    return right
