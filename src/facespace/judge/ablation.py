"""Variants compared: figures of several trainings each with intervals over people and seeds, and paired differences.

Every variant is judged on the same people, and every replicate of the bootstrap draws the same people and seeds for all
of them: what moves two variants alike leaves their difference alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facespace.core.contracts import Vectors
from facespace.core.intervals import Interval
from facespace.core.resampling import (
    Floats,
    draw_people,
    draw_seeds,
    equal_error,
    over_seeds,
    percentile_interval,
    ranked_pairs,
    tar_at_far,
)
from facespace.core.similarity import GroupAware
from facespace.core.verification import best_threshold, over_folds
from facespace.errors import Refused
from facespace.judge.protocols import PairProtocol

REPLICATES = 1000
EER, LFW = "EER", "LFW accuracy"
Status = Literal["finished", "collapsed", "diverged", "failed", "missing"]
Measures = Mapping[str, Floats]
"""By the name of a figure, its values `(B,)`: the plain one first, then that of every replicate."""


def tar_name(far: float) -> str:
    """The figure's name: `TAR at FAR 0.1 %`."""
    return f"TAR at FAR {100 * far:g} %"


def measure(
    vectors: Vectors,
    labels: NDArray[np.int64],
    fars: Sequence[float],
    group_aware: GroupAware | None = None,
    replicates: int = REPLICATES,
) -> tuple[dict[str, Floats], dict[str, str]]:
    """The figures of one training from unit vectors `(N, D)` of people `labels` `(N,)`; and why others are refused.

    The people of a replicate depend on the labels alone. Raises DataError where the people give no pairs.
    """
    pairs = ranked_pairs(vectors, labels, None if group_aware is None else group_aware.matrix)
    drawn = draw_people(pairs.photos, replicates, np.random.default_rng(0))
    weights = np.vstack([np.ones(pairs.people), drawn])
    measures, refused = {}, {}
    for far in fars:
        try:
            measures[tar_name(far)] = tar_at_far(pairs, weights, far)
        except Refused as refusal:
            refused[tar_name(far)] = refusal.message
    return measures | {EER: equal_error(pairs, weights)}, refused


def measure_lfw(
    vectors: Vectors, protocol: PairProtocol, group_aware: GroupAware | None = None, replicates: int = REPLICATES
) -> dict[str, Floats]:
    """Accuracy of one training on LFW from vectors of the protocol's photos; replicates draw whole folds."""
    a, b = vectors[protocol.first], vectors[protocol.second]
    scores = np.einsum("nd,nd->n", a, b) if group_aware is None else group_aware.pairs(a, b)
    accuracy = over_folds(scores, protocol.same, protocol.folds, best_threshold).accuracy
    folds = np.random.default_rng(0).integers(0, len(accuracy), size=(replicates, len(accuracy)))
    return {LFW: np.append(accuracy.mean(), accuracy[folds].mean(axis=1))}


@dataclass(frozen=True)
class Figure:
    """A mean over trainings, its 95 % interval over people and seeds, and how far the seeds lie apart."""

    value: float
    ci95: Interval
    seed_sd: float | None
    """Standard deviation from seed to seed; None for one seed."""
    per_seed: tuple[float, ...]


def figure(values: ArrayLike, least: float = 0.0) -> Figure:
    """Of values `(S, B)` in `least`..1 of S trainings, the plain ones in the first column."""
    table = np.asarray(values, dtype=np.float64)
    seeds, plain = len(table), table[:, 0]
    drawn = draw_seeds(seeds, table.shape[1] - 1, np.random.default_rng(1))
    return Figure(
        float(plain.mean()),
        percentile_interval(over_seeds(table[:, 1:], drawn).clip(least, 1.0)),
        float(plain.std(ddof=1)) if seeds > 1 else None,
        tuple(plain.tolist()),
    )


@dataclass(frozen=True)
class Trained:
    """One training of a variant: how it ended, what it took, and its measures where there are any."""

    seed: int
    status: Status
    message: str = ""
    photos: int = 0
    minutes: float = 0.0
    measures: Measures = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """A variant, all its trainings together."""

    variant: str
    note: str
    trained: tuple[Trained, ...]

    @property
    def figures(self) -> dict[str, Figure]:
        """By name, over the trainings that gave vectors."""
        return together([training.measures for training in self.trained if training.measures])

    @property
    def seeds(self) -> str:
        """How many trainings the figures are of, and what became of others: `2 (1 diverged)`."""
        judged = sum(bool(training.measures) for training in self.trained)
        other = [training.status for training in self.trained if training.status != "finished"]
        return f"{judged}" + (f" ({counted(other)})" if other else "")

    def mean(self, what: Literal["photos", "minutes"]) -> float | None:
        """Photos seen, or minutes taken, on average over trainings that were begun."""
        values = [getattr(training, what) for training in self.trained if training.photos]
        return float(np.mean(values)) if values else None

    def as_json(self) -> dict[str, Any]:
        """`{"variant", "note", "figures", "trainings"}`."""
        trainings = [{k: v for k, v in vars(training).items() if k != "measures"} for training in self.trained]
        figures = {name: asdict(value) for name, value in self.figures.items()}
        return {"variant": self.variant, "note": self.note, "figures": figures, "trainings": trainings}


@dataclass(frozen=True)
class Difference:
    """A variant less its baseline, seed by seed, over the seeds that both have."""

    variant: str
    baseline: str
    figures: dict[str, Figure]

    @property
    def seeds(self) -> int:
        """Over how many."""
        return max((len(shown.per_seed) for shown in self.figures.values()), default=0)

    def as_json(self) -> dict[str, Any]:
        """`{"variant", "baseline", "figures"}`."""
        return asdict(self)


def together(measures: Sequence[Measures], least: float = 0.0) -> dict[str, Figure]:
    """The figures of several trainings, as far as all of them have them."""
    names = [name for name in measures[0] if all(name in other for other in measures)] if measures else []
    return {name: figure([other[name] for other in measures], least) for name in names}


def difference(variant: Row, baseline: Row) -> Difference:
    """Of two variants judged on the same people. A baseline trained once, such as a start, stands against each seed."""
    mine = {training.seed: training.measures for training in variant.trained if training.measures}
    its = {training.seed: training.measures for training in baseline.trained if training.measures}
    if len(baseline.trained) == 1 and its:
        its = dict.fromkeys(mine, next(iter(its.values())))
    pairs = [(mine[seed], its[seed]) for seed in sorted(mine.keys() & its.keys())]
    less = [{name: a[name] - b[name] for name in a if name in b} for a, b in pairs]
    return Difference(variant.variant, baseline.variant, together(less, least=-1.0))


def counted(words: Sequence[str]) -> str:
    """`2 diverged, 1 failed`."""
    return ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words))


@dataclass(frozen=True)
class Table:
    """All that a plan shows."""

    plan: str
    people: int
    photos: int
    """That the variants are judged on."""
    digest: str
    """Of these photos."""
    rows: tuple[Row, ...]
    differences: tuple[Difference, ...]
    refused: Mapping[str, str]
    """Figures that so few pairs cannot support, and why."""
    replicates: int = REPLICATES

    def as_json(self) -> dict[str, Any]:
        """The document `table.json`."""
        return {
            "plan": self.plan,
            "judged": {"people": self.people, "photos": self.photos, "digest": self.digest},
            "replicates": self.replicates,
            "variants": [row.as_json() for row in self.rows],
            "differences": [difference.as_json() for difference in self.differences],
            "refused": dict(self.refused),
        }

    def markdown(self) -> str:
        """The table as a section of a page."""
        names = list(dict.fromkeys(name for row in self.rows for name in row.figures))
        rows = [
            (f"`{row.variant}`", row.seeds, *(_rate(row.figures.get(name)) for name in names), *_taken(row))
            for row in self.rows
        ]
        less = [
            (f"`{d.variant}`", f"`{d.baseline}`", str(d.seeds), *(_points(d.figures.get(name)) for name in names))
            for d in self.differences
        ]
        parts = [
            f"## {self.plan}",
            f"All pairs of {self.photos:,} photos of {self.people:,} people. In brackets 95 % intervals over "
            f"{self.replicates:,} draws of people and of seeds; ± is the standard deviation from seed to seed.",
            _grid(("variant", "seeds", *names, "photos seen", "minutes"), rows),
        ]
        if less:
            parts.append("Differences in percentage points, seed by seed on the same draws of people:")
            parts.append(_grid(("variant", "less", "seeds", *names), less))
        return "\n\n".join([*parts, *self._remarks()]) + "\n"

    def _remarks(self) -> list[str]:
        """Notes of the variants, trainings that did not finish, figures refused; one list, if any."""
        notes = [f"`{row.variant}`: {row.note}" for row in self.rows if row.note]
        ended = [
            f"`{row.variant}`, seed {training.seed}, {training.status}: {training.message}"
            for row in self.rows
            for training in row.trained
            if training.message
        ]
        lines = [f"- {line}" for line in (*notes, *ended, *self.refused.values())]
        return ["\n".join(lines)] if lines else []


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _rate(figure: Figure | None) -> str:
    """`45.1 % (43.0 to 47.2) ± 0.5`."""
    if figure is None:
        return "–"
    low, high = (f"{100 * end:.1f}" for end in figure.ci95)
    spread = "" if figure.seed_sd is None else f" ± {100 * figure.seed_sd:.1f}"
    return f"{100 * figure.value:.1f} % ({low} to {high}){spread}"


def _points(figure: Figure | None) -> str:
    """`+1.2 (-0.3 to +2.7)`."""
    if figure is None:
        return "–"
    value, low, high = (f"{round(100 * number, 1) + 0.0:+.1f}" for number in (figure.value, *figure.ci95))  # no -0.0
    return f"{value} ({low} to {high})"


def _taken(row: Row) -> tuple[str, str]:
    photos, minutes = row.mean("photos"), row.mean("minutes")
    return "–" if photos is None else f"{photos:,.0f}", "–" if minutes is None else f"{minutes:.1f}"
