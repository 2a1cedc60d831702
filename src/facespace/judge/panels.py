"""The charts of a report, from the figures of an evaluation."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facespace.core.identification import Searches, det
from facespace.core.intervals import Interval
from facespace.core.retrieval import NEVER
from facespace.core.verification import Roc
from facespace.judge.charts import Axis, Series, histogram, line_chart, point_chart, thinned
from facespace.judge.clustering import ClusteringEvaluation
from facespace.judge.figures import Figures, RateAtFar
from facespace.judge.identified import AtFpir, RankK
from facespace.judge.measures import DISCARD_FMR, Discard, FittedLine, PeopleMap
from facespace.judge.retrieval import RetrievalEvaluation
from facespace.judge.run import Evaluation
from facespace.judge.searching import IdentificationEvaluation


def roc_chart(figures: Sequence[tuple[str, Figures]]) -> str:
    """True over false accept rate of one model or several; FAR is logarithmic from one false accept of all pairs."""
    x = _rate_axis("false accept rate (FAR, FMR)", max(f.curve.impostors for _, f in figures))
    low = min(float(np.interp(x.low, f.curve.far, f.curve.tar)) for _, f in figures)
    y = Axis("true accept rate (TAR, VAL)", min(math.floor(10 * low) / 10, 0.9), 1.0, percent=True)
    lines = [Series(name, *_points(f.curve, x), stepped=True) for name, f in figures]
    return line_chart("ROC", x, y, lines, _marks(figures[0][1].tar_at_far) if len(figures) == 1 else ())


def det_chart(figures: Sequence[tuple[str, Figures]]) -> str:
    """Detection error trade-off: misses over false accepts, both logarithmic."""
    x = _rate_axis("false accept rate (FAR, FMR)", max(f.curve.impostors for _, f in figures))
    y = _rate_axis("miss rate (FNMR)", max(f.curve.genuine for _, f in figures))
    lines = []
    for name, f in figures:
        far, tar = _points(f.curve, x)
        lines.append(Series(name, far, 1 - np.asarray(tar), stepped=True))
    return line_chart("DET", x, y, lines, legend_below=True)


def score_chart(evaluation: Evaluation) -> str:
    """Scores of genuine and impostor pairs and the threshold; pairs without faces have no place on the axis."""
    same, scores = evaluation.protocol.same, evaluation.scores
    groups = [("genuine pairs", scores[same]), ("impostor pairs", scores[~same])]
    return histogram("scores", "similarity", groups, evaluation.figures.threshold)


def reliability_chart(found: FittedLine) -> str:
    """Observed over predicted shares of genuine pairs; what is predicted rightly lies on the diagonal."""
    x, y = (Axis(label, 0, 1, percent=True) for label in ("predicted: one person", "observed: one person"))
    bins = found.bins
    lines = [Series("measured", bins.predicted, bins.observed), Series("perfect", [0, 1], [0, 1])]
    return line_chart(
        "reliability", x, y, lines, list(zip(bins.predicted.tolist(), bins.observed.tolist(), strict=True))
    )


def discard_chart(found: Discard) -> str:
    """Misses over the share of genuine pairs left out, worst quality first."""
    x = Axis("genuine pairs left out", 0, 1, percent=True)
    y = Axis(
        f"FNMR of the rest, FMR {100 * DISCARD_FMR:g} %", 0, max(1.1 * float(found.fnmr.max()), 0.01), percent=True
    )
    return line_chart("error versus discard", x, y, [Series("FNMR", found.left_out, found.fnmr, stepped=True)])


def map_chart(found: PeopleMap) -> str:
    """Photos on a plane."""
    return point_chart("map of people", found.points, found.colours)


def curve_chart(name: str, x: ArrayLike, y: ArrayLike) -> str:
    """One line over linear axes that fit it."""
    across, up = (np.asarray(values, dtype=np.float64) for values in (x, y))
    return line_chart(name, _fitting("step", across), _fitting(name, up), [Series(name, across, up)])


def cmc_chart(searches: Searches, gallery: int, closed_set: Sequence[RankK]) -> str:
    """Mated searches whose mate is among the first k candidates of a gallery of so many, over k."""
    shares = [(rank.k, rank.share.rate, rank.share.ci95) for rank in closed_set if rank.share]
    last = max(2, min(100, gallery - 1))
    return _found_chart("CMC", "rank k", "mate among the first k", searches.ranks, last, shares)


def recall_chart(evaluation: RetrievalEvaluation) -> str:
    """Queries with a mate among their K nearest, over K."""
    ranks, last = evaluation.ranks.first_mate, max(2, min(1000, len(evaluation.protocol.photos) - 2))
    shares = [(one.k, one.recall, one.ci95) for one in evaluation.recall_at if one.recall is not None and one.ci95]
    return _found_chart("recall", "K", "a mate among the K nearest", ranks, last, shares)


def fpir_chart(searches: Searches, rank: int, open_set: Sequence[AtFpir]) -> str | None:
    """DET of identification: mates not returned over strangers answered, both logarithmic; None without both kinds."""
    if not (searches.mates.size and searches.tops.size):
        return None
    _, fpir, fnir = det(searches, rank)
    x = _rate_axis("false positive identification rate (FPIR)", searches.tops.size)
    y = _rate_axis("misses (FNIR)", searches.mates.size)
    found = [at.found for at in open_set if at.found]
    marks = [(one.fpir.rate, 1 - one.tpir.rate) for one in found if one.fpir.rate]
    return line_chart("DET of identification", x, y, [Series("FNIR", fpir, fnir, stepped=True)], marks)


def search_chart(searches: Searches, open_set: Sequence[AtFpir]) -> str:
    """Scores of mates and of the best candidates of strangers, and the threshold of the highest FPIR that is shown."""
    shown = [at.found.threshold for at in open_set if at.found]
    groups = [("mate", searches.mates), ("best candidate of a stranger", searches.tops)]
    return histogram("scores of searches", "similarity", groups, shown[0] if shown else math.nan)


def gallery_chart(evaluation: IdentificationEvaluation) -> str | None:
    """Thresholds over the size of the gallery, a line for each FPIR; None where there is but one size, or none."""
    rows = [(row.fpir, row.people, row.point.threshold, row.point.ci95) for row in evaluation.thresholds if row.point]
    sizes = {people for _, people, _, _ in rows}
    if len(sizes) < 2:
        return None
    x = Axis("people in the gallery", min(sizes), max(sizes), "log")
    y = _fitting("threshold", np.array([end for _, _, threshold, ci95 in rows for end in (threshold, *ci95)]), room=0.3)
    lines = []
    for fpir in dict.fromkeys(fpir for fpir, *_ in rows):
        points = [(people, threshold, ci95) for one, people, threshold, ci95 in rows if one == fpir]
        spans = [(people, *ci95) for people, _, ci95 in points]
        lines.append(Series(f"FPIR {100 * fpir:g} %", [n for n, *_ in points], [t for _, t, _ in points], spans=spans))
    return line_chart("thresholds by gallery", x, y, lines)


def agreement_chart(evaluation: ClusteringEvaluation) -> str | None:
    """How well clusters agree with people, over the threshold; None where no two faces could join."""
    rows = evaluation.by_threshold
    if not rows:
        return None
    x = Axis("threshold", rows[0].threshold, rows[-1].threshold)
    measures = {"pairwise F": "pairwise_f", "BCubed F": "bcubed_f", "NMI": "nmi", "ARI": "ari"}
    at = [row.threshold for row in rows]
    lines = [Series(name, at, [getattr(row, key) for row in rows]) for name, key in measures.items()]
    return line_chart("agreement", x, Axis("agreement", 0, 1.0), lines, at=evaluation.point.threshold)


def clusters_chart(evaluation: ClusteringEvaluation) -> str | None:
    """How many clusters there are, over the threshold, and how many people; None as above."""
    rows = evaluation.by_threshold
    if not rows:
        return None
    x = Axis("threshold", rows[0].threshold, rows[-1].threshold)
    y = Axis("clusters", 1, max(2, len(evaluation.protocol.photos)), "log")
    people = [evaluation.protocol.people] * 2
    lines = [
        Series("clusters", [row.threshold for row in rows], [row.clusters for row in rows]),
        Series("people", [x.low, x.high], people),
    ]
    return line_chart("number of clusters", x, y, lines, at=evaluation.point.threshold)


def _found_chart(
    title: str,
    across: str,
    up: str,
    ranks: NDArray[np.int64],
    last: int,
    shares: Sequence[tuple[int, float, Interval]],
) -> str:
    """The share of ranks at or before each k up to `last`, and the figures with their intervals."""
    k = np.arange(1, last + 1)
    found = np.searchsorted(np.sort(ranks[ranks != NEVER]), k, side="right") / len(ranks)
    low = min([float(found[0]), *(ci95[0] for _, _, ci95 in shares)])
    x, y = Axis(across, 1, last, "log"), Axis(up, min(math.floor(10 * low) / 10, 0.9), 1.0, percent=True)
    line = Series(title, k, found, stepped=True, spans=[(k, *ci95) for k, _, ci95 in shares])
    return line_chart(title, x, y, [line], [(k, share) for k, share, _ in shares])


def _points(curve: Roc, x: Axis) -> tuple[Any, Any]:
    return thinned(curve.far, curve.tar, x)


def _rate_axis(label: str, pairs: int) -> Axis:
    """From the least rate that so many pairs can show (at most 1 %) to 1."""
    return Axis(label, min(0.01, 1 / pairs), 1.0, "log", percent=True)


def _fitting(label: str, values: NDArray[np.float64], room: float = 0.0) -> Axis:
    """From the least to the greatest finite value; above it so much room, as a share of the axis."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    return Axis(label, low, high + room * (high - low) if high > low else low + 1)


def _marks(rates: Sequence[RateAtFar]) -> list[tuple[float, float]]:
    return [(rate.achieved_far, rate.rate) for rate in rates if rate.achieved_far and rate.rate is not None]
