"""The figures of identification: rank-k, TPIR at fixed FPIR, thresholds by the size of the gallery; or why refused."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from facespace.core.dependence import Share
from facespace.core.galleries import GalleryPoint, HeldOut, Strangers, held_out
from facespace.core.identification import Identified, Searches, at_fpir, cmc
from facespace.errors import DataError, Refused

RANKS = (1, 2, 5, 10, 20, 50, 100)
FPIRS = (0.1, 0.01, 0.001)
SIZES = (10, 100, 1000, 10_000, 100_000)
"""People in the gallery that thresholds are found for, besides the most that all people give, and half of them."""


@dataclass(frozen=True)
class RankK:
    """The share of mated searches whose mate is among the first k; or why it is refused."""

    k: int
    share: Share | None = None
    refused: str | None = None

    def as_json(self) -> dict[str, Any]:
        """`{"k", "rate", "ci95", "trials", "people", "refused"}`."""
        return {"k": self.k, **_share(self.share), "refused": self.refused}


@dataclass(frozen=True)
class AtFpir:
    """TPIR at an asked FPIR; or why it is refused."""

    fpir: float
    found: Identified | None = None
    refused: str | None = None

    def as_json(self) -> dict[str, Any]:
        """`{"fpir", "threshold", "tpir", "ci95", "achieved_fpir", "achieved_fpir_ci95", "refused"}`."""
        found = self.found
        return {
            "fpir": self.fpir,
            "threshold": found.threshold if found and np.isfinite(found.threshold) else None,
            "tpir": found.tpir.rate if found else None,
            "ci95": found.tpir.ci95 if found else None,
            "achieved_fpir": found.fpir.rate if found else None,
            "achieved_fpir_ci95": found.fpir.ci95 if found else None,
            "refused": self.refused,
        }


@dataclass(frozen=True)
class AtSize:
    """The threshold for so many people and an FPIR, and how it held for people who had no part in it."""

    people: int
    fpir: float
    point: GalleryPoint | None = None
    refused: str | None = None
    held_out: HeldOut | None = None
    held_out_refused: str | None = None

    def as_json(self) -> dict[str, Any]:
        """`{"people", "fpir", "threshold", "ci95", "achieved_fpir", ..., "held_out", "refused"}`; null where refused.

        `held_out` is `{"fpir", "inside", "trials", "refused"}`.
        """
        point, held = self.point, self.held_out
        return {
            "people": self.people,
            "fpir": self.fpir,
            "threshold": point.threshold if point else None,
            "ci95": [end if np.isfinite(end) else None for end in point.ci95] if point else None,
            "achieved_fpir": point.fpir.rate if point else None,
            "achieved_fpir_ci95": point.fpir.ci95 if point else None,
            "fpir_if_independent": point.if_independent if point else None,
            "held_out": {
                "fpir": held.fpir if held else None,
                "inside": held.inside if held else None,
                "trials": held.trials if held else None,
                "refused": self.held_out_refused,
            },
            "refused": self.refused,
        }


def _share(share: Share | None) -> dict[str, Any]:
    return share.as_json() if share else dict.fromkeys(("rate", "ci95", "trials", "people"))


def rank_ks(searches: Searches, gallery: int) -> tuple[RankK, ...]:
    """The CMC at `RANKS`; refused where k candidates are the whole gallery."""
    ranks = [k for k in RANKS if k < gallery]
    found = dict(zip(ranks, cmc(searches, ranks), strict=True))
    why = f"candidates are all {gallery:,} people of the gallery"
    return tuple(RankK(k, found.get(k), None if k in found else f"{k} {why}") for k in RANKS)


def at_fpirs(searches: Searches, fpirs: Sequence[float], rank: int, seed: int) -> tuple[AtFpir, ...]:
    """TPIR at each FPIR that the searches support."""
    return tuple(_at_fpir(searches, fpir, rank, seed) for fpir in fpirs)


def _at_fpir(searches: Searches, fpir: float, rank: int, seed: int) -> AtFpir:
    try:
        return AtFpir(fpir, at_fpir(searches, fpir, rank, seed))
    except (Refused, DataError) as refusal:
        return AtFpir(fpir, refused=refusal.message)


def at_sizes(strangers: Strangers, fpirs: Sequence[float], seed: int) -> tuple[AtSize, ...]:
    """Thresholds for each size of gallery that the people give, and for the first that they do not."""
    half = (strangers.others + 1) // 2 - 2  # the most that either half of the people gives
    most = strangers.largest
    sizes = sorted({n for n in (*(n for n in SIZES if n <= most), half, most) if n > 0})
    sizes += [n for n in SIZES if n > most][:1]
    points = [_at_size(strangers, people, fpir) for people in sizes for fpir in fpirs]
    held = held_out(strangers, [(p.people, p.fpir) for p in points if p.point], seed=seed)
    return tuple(_with(point, held.get((point.people, point.fpir))) for point in points)


def _at_size(strangers: Strangers, people: int, fpir: float) -> AtSize:
    try:
        return AtSize(people, fpir, strangers.at(people, fpir))
    except Refused as refusal:
        return AtSize(people, fpir, refused=refusal.message)


def _with(row: AtSize, held: HeldOut | Refused | None) -> AtSize:
    if isinstance(held, Refused):
        return AtSize(row.people, row.fpir, row.point, row.refused, held_out_refused=held.message)
    return AtSize(row.people, row.fpir, row.point, row.refused, held, None if held else row.refused)
