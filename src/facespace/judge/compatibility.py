"""Whether vectors of a new model, v2, can be compared with those that an older one, v1, has left: harmonic embedding.

The same pairs of photos are compared with both by v1, with both by v2, and with one by each (Schroff et al., arXiv
1503.03832, appendix: the mixed comparison should lie between the two). Elsewhere vectors of two contracts never meet;
here they do on purpose, because whether they may is the question.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facespace.core.contracts import AlignedFaces, Detector, Embedder, Vectors
from facespace.core.dependence import Trials
from facespace.core.intervals import Interval
from facespace.core.over_people import Estimate, difference
from facespace.core.scores import pair_scores, unit_vectors
from facespace.core.verification import Ties
from facespace.errors import ContractMismatch
from facespace.faces.detect import Policy
from facespace.judge.embedding import Embedded, Failure, Progress, available_cores, embed_photos
from facespace.judge.environment import describe_environment
from facespace.judge.figures import Figures, RateAtFar, figures_of
from facespace.judge.people import PairPeople
from facespace.judge.protocols import PairProtocol
from facespace.judge.run import NO_FACE, failures_as_json

V1, V2 = 0, 1
Way = tuple[int, int]
"""The version that embeds the first photo of a pair, and that of the second."""

COMPARISONS: dict[str, tuple[Way, ...]] = {
    "v1-v1": ((V1, V1),),
    "mixed": ((V1, V2), (V2, V1)),
    "v2-v2": ((V2, V2),),
    "v1-v2": ((V1, V2),),
    "v2-v1": ((V2, V1),),
}
"""By name, how photos are embedded. `mixed` joins both directions: each pair is compared twice, with one threshold for
all, since a gallery does not know which photo of a pair is old; intervals and refusals count pairs, not comparisons."""

DIFFERENCES = (("mixed", "v1-v1"), ("mixed", "v2-v2"), ("v2-v2", "v1-v1"))
"""What is compared with what, on the same pairs of photos."""


@dataclass(frozen=True)
class Comparison:
    """One of `COMPARISONS`: the scores `(P,)`, or of two directions `(2 P,)` one after the other, and their figures."""

    name: str
    scores: NDArray[np.float32]
    figures: Figures

    def as_json(self) -> dict[str, Any]:
        """`{"comparison", ...}` with the figures of `evaluate --json`."""
        return {"comparison": self.name, **self.figures.as_json()}


@dataclass(frozen=True)
class Gap:
    """By how much a figure is higher, -1..1, and the 95 % interval of that; or why it is refused."""

    value: float | None = None
    ci95: Interval | None = None
    refused: str | None = None

    def as_json(self) -> dict[str, Any]:
        """`{"mean", "ci95", "refused"}`; null where refused."""
        return {"mean": self.value, "ci95": self.ci95, "refused": self.refused}


@dataclass(frozen=True)
class Difference:
    """A comparison less another on the same folds: accuracy, and VAL at each FAR."""

    name: str
    less: str
    accuracy: Gap
    val_at_far: tuple[tuple[float, Gap], ...]

    def as_json(self) -> dict[str, Any]:
        """`{"comparison", "less", "accuracy", "val_at_far"}`."""
        return {
            "comparison": self.name,
            "less": self.less,
            "accuracy": self.accuracy.as_json(),
            "val_at_far": [{"far": far, **gap.as_json()} for far, gap in self.val_at_far],
        }


@dataclass(frozen=True)
class CompatibilityEvaluation:
    """Two models judged together by a protocol; `models` are v1 and v2."""

    protocol: PairProtocol
    comparisons: tuple[Comparison, ...]
    differences: tuple[Difference, ...]
    models: tuple[dict[str, Any], dict[str, Any]]
    failures: tuple[Failure, ...]
    digest: str
    seconds: float
    environment: dict[str, Any]

    @property
    def images_per_s(self) -> float:
        """Photos per second from bytes to the vectors of both models, all workers together."""
        return len(self.protocol.photos) / self.seconds

    def as_json(self) -> dict[str, Any]:
        """The document of `evaluate --compatible-with --json`."""
        protocol, plain = self.protocol, self.comparisons[0]
        return {
            "models": dict(zip(("v1", "v2"), self.models, strict=True)),
            "protocol": protocol.name,
            "pairs": len(protocol.same),
            "folds": len(plain.figures.folds.accuracy),
            "comparisons": [comparison.as_json() for comparison in self.comparisons],
            "differences": [difference.as_json() for difference in self.differences],
            "failures": failures_as_json(self.failures, plain.scores, protocol.same),
            "speed": {"images_per_s": self.images_per_s, "seconds": self.seconds},
            "data": {"digest": self.digest, "images": len(protocol.photos), "people": protocol.people},
            "environment": self.environment,
        }


def run_compatibility(
    protocol: PairProtocol,
    v1: Embedder,
    v2: Embedder,
    detector: Detector,
    *,
    policy: Policy = "central",
    ties: Ties = "accept",
    threads: int | None = None,
    device: str = "cpu",
    progress: Progress = lambda done, total: None,
) -> CompatibilityEvaluation:
    """Judge whether vectors of `v2` may meet those of `v1`; arguments as of `judge.run.run`.

    A photo is read and aligned once, and embedded once by each model. Raises ContractMismatch where the lengths of
    their vectors differ, or one of them is compared by more than cosines.
    """
    check_comparable(v1, v2)
    threads = threads or available_cores()
    embedded = embed_photos(protocol, _SideBySide(v1, v2), detector, policy, threads, progress)
    comparisons = _compare(protocol, embedded, ties)
    by_name = {comparison.name: comparison.figures for comparison in comparisons}
    return CompatibilityEvaluation(
        protocol=protocol,
        comparisons=comparisons,
        differences=tuple(_difference(name, less, by_name) for name, less in DIFFERENCES),
        models=(_named(v1), _named(v2)),
        failures=embedded.failures,
        digest=embedded.digest,
        seconds=embedded.seconds,
        environment=describe_environment(threads, device, detector.source, policy),
    )


def check_comparable(v1: Embedder, v2: Embedder) -> None:
    """Raise ContractMismatch unless the vectors of both have one length, and cosines compare them."""
    if v1.dim != v2.dim:
        raise ContractMismatch(
            f"vectors of {v2.name!r} have length {v2.dim}, those of {v1.name!r} {v1.dim}: they cannot be compared",
            hint="train the new model with the dimension of the old one",
        )
    for model in (v1, v2):
        probe = unit_vectors(np.random.default_rng(0).normal(size=(4, model.dim)))
        if not np.allclose(model.similarity(probe, probe), probe @ probe.T, atol=1e-4):
            raise ContractMismatch(
                f"{model.name!r} compares its vectors by more than their cosines, which another model does not know",
                hint="two models can be mixed where both compare by cosine",
            )


@dataclass(frozen=True)
class _SideBySide:
    """Two models in one pass: rows `(N, 2 D)`, those of v1 first."""

    v1: Embedder
    v2: Embedder

    @property
    def dim(self) -> int:
        return self.v1.dim + self.v2.dim

    def embed(self, faces: AlignedFaces) -> Vectors:
        return np.concatenate([self.v1.embed(faces), self.v2.embed(faces)], axis=1)


def _compare(protocol: PairProtocol, embedded: Embedded, ties: Ties) -> tuple[Comparison, ...]:
    """The comparisons; `embedded` holds the rows of both versions side by side."""
    photos = len(embedded.vectors)
    rows = np.concatenate(np.split(embedded.vectors, 2, axis=1))  # (2 N, D), those of v2 below
    lost = ~(embedded.acquired[protocol.first] & embedded.acquired[protocol.second])
    people, found = PairPeople.of(protocol), []
    for name, ways in COMPARISONS.items():
        scores = [pair_scores(rows, protocol.first + photos * a, protocol.second + photos * b) for a, b in ways]
        joined = np.concatenate(scores)
        joined[np.tile(lost, len(ways))] = NO_FACE
        same, folds = np.tile(protocol.same, len(ways)), np.tile(protocol.folds, len(ways))
        found.append(Comparison(name, joined, figures_of(joined, same, folds, ties, len(ways), people)))
    return tuple(found)


def _difference(name: str, less: str, figures: dict[str, Figures]) -> Difference:
    one, other = figures[name], figures[less]
    accuracy = _gap(one, other, one.judged.accuracy(), other.judged.accuracy())
    rates = zip(one.val_at_far, other.val_at_far, strict=True)
    return Difference(name, less, accuracy, tuple((a.far, _val_gap(one, other, a, b)) for a, b in rates))


def _val_gap(one: Figures, other: Figures, a: RateAtFar, b: RateAtFar) -> Gap:
    if a.thresholds is None or b.thresholds is None:
        return Gap(refused=a.refused or b.refused)
    first, second = (
        figures.judged.moving(rate.far, figures.judged.rates(thresholds))
        for figures, rate, thresholds in ((one, a, a.thresholds), (other, b, b.thresholds))
    )
    return _gap(one, other, first, second)


def _gap(one: Figures, other: Figures, first: Estimate, second: Estimate) -> Gap:
    """By how much the first estimate is above the second, over the people of the pairs of photos."""
    trials, count = one.judged.trials, len(one.judged.same) // one.judged.trials.repeats
    once = Trials.of(trials.first[:count], trials.second[:count])
    added = first.summed(one.judged.trials.repeats), second.summed(other.judged.trials.repeats)
    value, ci95, _ = difference(added[1], added[0], once)
    return Gap(value, ci95)


def _named(model: Embedder) -> dict[str, Any]:
    return {"name": model.name, "contract": model.contract, "dim": model.dim}
