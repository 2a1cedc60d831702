"""What a model's scores mean, learnt from people it has not seen: thresholds for error rates, and likelihood ratios.

All pairs of the photos are scored. How sure a threshold is follows from the people, not from the pairs (see
`core.dependence`). A photo without a usable face is counted, and takes no part: error rates are of faces compared.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from facespace.core.calibration import Isotonic, Logistic, cllr, cllr_min
from facespace.core.contracts import Detector
from facespace.core.dependence import interval_of, share_over_people, threshold_at_fmr
from facespace.core.drift import Drift, drift, impostor_scores
from facespace.core.resampling import RankedPairs, draw_people, ranked_pairs
from facespace.core.verification import accepts
from facespace.data.folder import People, open_people
from facespace.errors import ContractMismatch, DataError, Refused, UsageError
from facespace.faces.detect import Policy
from facespace.judge.embedding import Embedded, Failure, Progress, available_cores, embed_photos
from facespace.models.calibration import Calibration, Steps, limits, similarity_name
from facespace.models.card import Card, OperatingPoint, card_path, read_card, write_card
from facespace.models.embedder import NetEmbedder
from facespace.models.matching import mismatch
from facespace.models.shelf import find_weights

FMRS = (1e-2, 1e-3)
Method = Literal["logistic", "isotonic"]
MOST_PHOTOS = 2500
"""Three million pairs; more pairs of the same people would make nothing surer."""
_TRAINED_ON = re.compile(r"(\d+) photos of (\d+) people.*\(data ([0-9a-f]{16})\)")
DRAWS = 1000
SEED = 0


@dataclass(frozen=True)
class Photos:
    """Some photos of a source of people, with the label of each int64 `(N,)`."""

    photos: tuple[str, ...]
    labels: NDArray[np.int64]
    people: People

    def read(self, name: str) -> bytes:
        """The encoded bytes of a photo."""
        return self.people.read(name)


@dataclass(frozen=True)
class Calibrated:
    """The model's card with what was found, and the photos that gave no face."""

    card: Card
    calibration: Calibration
    failures: tuple[Failure, ...]

    def as_json(self) -> dict[str, Any]:
        """The document of `calibrate --json`."""
        return {
            "model": {"name": self.card.name, "contract": self.card.contract(), "dim": self.card.dim},
            "operating_points": [point.as_json() for point in self.card.operating_points],
            "calibration": self.calibration.as_json(),
            "failures": {"to_acquire": len(self.failures), "files": [failure.as_json() for failure in self.failures]},
        }


def calibrate(
    data: Path,
    embedder: NetEmbedder,
    detector: Detector,
    *,
    fmrs: Sequence[float] = FMRS,
    method: Method = "logistic",
    policy: Policy = "central",
    threads: int | None = None,
    progress: Progress = lambda done, total: None,
) -> Calibrated:
    """Find a threshold for each false match rate, and what scores mean, on the people in `data`.

    They must be people whom the model has not learnt from. Raises Refused where it has, by its card, where their pairs
    cannot support a rate, scores tell nobody apart, or so few people can show no likelihood ratio; DataError where
    there are not two kinds of pairs.
    """
    if not fmrs or not all(0 < fmr < 1 for fmr in fmrs):
        raise UsageError("a false match rate lies between 0 and 1", hint="--fmr 1e-3")
    if learnt_from(embedder.card, data):
        hint = "bring people whom it has not learnt from: of strangers it is less sure"
        raise Refused(f"{embedder.name!r} has learnt from these photos", file=data, hint=hint)
    photos, embedded, pairs = _paired(data, embedder, detector, policy, threads, progress)
    where = f"{embedded.acquired.sum()} photos of {pairs.people} people (data {embedded.digest[:16]})"
    a, b = np.divmod(pairs.cells.astype(np.int64), pairs.people)
    contract = embedder.contract
    points = tuple(
        replace(operating_point(pairs.scores, a, b, fmr), data=where, contract=contract)
        for fmr in sorted(set(fmrs), reverse=True)
    )
    fitted = Calibration(
        contract=contract,
        similarity=similarity_name(embedder.card.group_aware),
        detector=detector.source,
        data=embedded.digest,
        photos=len(photos.photos),
        failures=len(embedded.failures),
        **scores_meaning(pairs, method),
    )
    card = replace(embedder.card, operating_points=points, calibration=fitted)
    return Calibrated(card, fitted, embedded.failures)


def learnt_from(card: Card, data: Path) -> bool:
    """Whether the card says, by their digest, that the model was trained on the photos in `data`, and on no others."""
    if (known := _TRAINED_ON.match(card.trained_on)) is None:
        return False
    try:
        people = open_people(data)
    except DataError:  # of another kind than what a training takes
        return False
    # Photos are read for their digest only where there are as many.
    alike = (str(len(people.photos)), str(len(people.names))) == known.groups()[:2]
    return alike and people.digest.startswith(known[3])


def check(
    data: Path,
    embedder: NetEmbedder,
    detector: Detector,
    *,
    policy: Policy = "central",
    threads: int | None = None,
    progress: Progress = lambda done, total: None,
) -> Drift:
    """Whether impostor scores of the people in `data` look like those that the model's card was calibrated on.

    Raises ContractMismatch where the card has no calibration, or that of another model; Refused for too few people.
    """
    calibration, reason = embedder.card.calibration, mismatch(embedder)
    if calibration is None or reason:
        raise ContractMismatch(
            reason or f"the card of {embedder.name!r} holds no calibration to compare with",
            hint="`facespace calibrate MODEL --data FOLDER --write` makes one",
        )
    _, _, pairs = _paired(data, embedder, detector, policy, threads, progress)
    return drift(calibration.impostors, pairs, _drawn(pairs))


def operating_point(
    scores: NDArray[np.float32], a: NDArray[np.int64], b: NDArray[np.int64], fmr: float
) -> OperatingPoint:
    """The threshold for a false match rate on pairs `(P,)` of the people `a` and `b`, with its intervals.

    As many other people vary as these do: the share that they show lies within the interval of half the trials.
    """
    found, impostor = threshold_at_fmr(scores, a, b, fmr), a != b
    met = share_over_people(accepts(scores[impostor], found.threshold), a[impostor], b[impostor])
    return OperatingPoint(
        at=f"FMR={fmr:g}",
        threshold=found.threshold,
        ci95=found.threshold_ci95,
        pairs=found.impostors,
        fmr_ci95=found.fmr_ci95,
        fmr_others95=interval_of(met.rate, met.effective / 2, met.people),
        fnmr=found.fnmr,
        fnmr_ci95=found.fnmr_ci95,
    )


def scores_meaning(pairs: RankedPairs, method: Method) -> dict[str, Any]:
    """The fields of a Calibration that follow from the pairs alone."""
    same = np.zeros(len(pairs.scores), np.bool_)
    same[pairs.genuine_ranks] = True
    fitted = (Logistic if method == "logistic" else Isotonic).fit(pairs.scores, same)
    if isinstance(fitted, Isotonic):
        form: dict[str, Any] = {"isotonic": Steps(tuple(fitted.scores.tolist()), tuple(fitted.ratios.tolist()))}
    else:
        form = {"logistic": fitted}
    mates = int((pairs.photos > 1).sum())
    least, most = limits(mates, pairs.people * (pairs.people - 1) // 2)
    if not least < 0 < most:
        hint = "bring two photos or more each of at least 20 people"
        raise Refused(f"{pairs.people} people, {mates} with several photos, show no likelihood ratio but 1", hint=hint)
    ratios = np.clip(fitted.log_likelihood_ratio(pairs.scores), least, most)
    return {
        "people": pairs.people,
        "genuine_pairs": int(same.sum()),
        "impostor_pairs": int((~same).sum()),
        "least": least,
        "most": most,
        "cllr": cllr(ratios, same),
        "cllr_min": cllr_min(pairs.scores, same),
        "impostors": impostor_scores(pairs, _drawn(pairs)),
        **form,
    }


def chosen(people: People, most: int = MOST_PHOTOS) -> Photos:
    """At most `most` photos: as many of each person as fit, two at least; then the first people by name, if need be."""
    order = np.argsort(people.labels, kind="stable")  # photos stand by name: those of `a-b` before those of `a`
    counts = np.bincount(people.labels)
    places = np.arange(order.size) - np.repeat(counts.cumsum() - counts, counts)  # within their person
    each = max([2, *(n for n in range(2, int(places.max()) + 2) if (places < n).sum() <= most)])
    kept = np.sort(order[places < each][:most])
    return Photos(tuple(people.photos[i].name for i in kept), people.labels[kept], people)


def _paired(
    data: Path, embedder: NetEmbedder, detector: Detector, policy: Policy, threads: int | None, progress: Progress
) -> tuple[Photos, Embedded, RankedPairs]:
    """Photos, what became of them, and all pairs of those with a face."""
    photos = chosen(open_people(data))
    embedded = embed_photos(photos, embedder, detector, policy, threads or available_cores(), progress)
    kept = embedded.acquired
    try:
        pairs = ranked_pairs(embedded.vectors[kept], photos.labels[kept], embedder.similarity)
    except DataError as error:
        error.file = error.file or str(data)
        raise
    return photos, embedded, pairs


def _drawn(pairs: RankedPairs) -> NDArray[np.float64]:
    return draw_people(pairs.photos, DRAWS, np.random.default_rng(SEED))


def require_same_input(embedder: NetEmbedder, model: str) -> None:
    """UsageError where a card is there that states other preprocessing than the embedder uses."""
    path = card_path(find_weights(model))
    if path.is_file() and read_card(path).input != embedder.card.input:
        hint = "leave out --channels, --mean and --std, or put them into the card first"
        raise UsageError(
            "the card states other preprocessing than the options: it is not written over", file=path, hint=hint
        )


def write(found: Calibrated, model: str) -> Path:
    """Write the card beside the model's weights, atomically; its path."""
    return write_card(found.card, find_weights(model))
