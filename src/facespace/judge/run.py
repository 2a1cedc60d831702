"""One protocol, one model: photos are decoded, searched, aligned, embedded and compared, and the figures drawn from it.

Each photo is read once. A photo without a usable face is a failure to acquire: its pairs keep their place in every
denominator with a score of -inf, so a genuine pair is a miss.
"""

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from facespace.core.contracts import AlignedFaces, Detector, Embedder, Face, Vectors
from facespace.core.scores import pair_scores
from facespace.core.verification import Ties
from facespace.errors import InputError
from facespace.faces.align import align, aligned_faces
from facespace.faces.detect import Policy
from facespace.faces.given import GivenFaces
from facespace.faces.photo import read_photo
from facespace.judge.cohorts import GroupAccuracy, accuracies
from facespace.judge.environment import describe_environment, peak_memory_bytes
from facespace.judge.figures import Figures, figures_of
from facespace.judge.people import PairPeople
from facespace.judge.pooling import mean_scores, pool
from facespace.judge.protocols import PairProtocol
from facespace.models.flipped import group_aware_of

BATCH = 8  # photos that a worker aligns before it embeds them: the fastest size on a processor
NO_FACE = -np.inf

Progress = Callable[[int, int], None]
"""Hears how many photos are done, and of how many."""


class PhotoList(Protocol):
    """What embedding needs of a protocol: photos by name, each once, and their bytes."""

    @property
    def photos(self) -> tuple[str, ...]:
        """Names."""
        ...

    @property
    def read(self) -> Callable[[str], bytes]:
        """Encoded bytes by name; called from several threads."""
        ...


@runtime_checkable
class NamesFaces(Protocol):
    """What a list of photos may do besides: say where the faces are."""

    @property
    def faces(self) -> GivenFaces | None:
        """The faces; None where a detector must look for them."""
        ...


class Embeds(Protocol):
    """What embedding needs of a model."""

    @property
    def dim(self) -> int:
        """Length of a vector."""
        ...

    def embed(self, faces: AlignedFaces) -> Vectors:
        """Vectors `(N, D)` of aligned faces."""
        ...


@dataclass(frozen=True)
class Failure:
    """A photo that gave no face: its name, the code of the error and its sentence."""

    file: str
    code: str
    message: str

    def as_json(self) -> dict[str, str]:
        """`{"file", "code", "message"}`."""
        return {"file": self.file, "code": self.code, "message": self.message}


@dataclass(frozen=True)
class Embedded:
    """Unit vectors `(N, D)` of photos, or of templates, zero where `acquired` bool `(N,)` is false; and what it took.

    `detector_scores` float32 `(N,)` in 0..1 are the detector's belief in the faces, 0 where there is none.
    """

    vectors: Vectors
    acquired: NDArray[np.bool_]
    detector_scores: NDArray[np.float32]
    failures: tuple[Failure, ...]
    digest: str
    seconds: float


@dataclass(frozen=True)
class Evaluation:
    """A model judged by a protocol: figures, the scores `(P,)` behind them, failures, speed and surroundings."""

    protocol: PairProtocol
    scores: NDArray[np.float32]
    figures: Figures
    model: dict[str, Any]
    failures: tuple[Failure, ...]
    digest: str
    seconds: float
    environment: dict[str, Any]
    crops: dict[str, AlignedFaces]
    embedded: Embedded
    peak_memory_bytes: int | None
    """The most that this process has held so far; None where the system does not say."""

    @property
    def images_per_s(self) -> float:
        """Photos per second from bytes to vectors, all workers together."""
        return self.protocol.images / self.seconds

    @cached_property
    def accuracies(self) -> tuple[GroupAccuracy, ...]:
        """The accuracy in each group that the set itself has."""
        return accuracies(self.protocol, self.scores, self.figures.ties)

    def failed_pairs(self, same: bool) -> int:
        """Genuine or impostor pairs that hold a photo without a face."""
        return _failed(self.scores, self.protocol.same == same)

    def as_json(self) -> dict[str, Any]:
        """The document of `evaluate --json`; `accuracy_by_group` where the set has groups."""
        by_group = [one.as_json() for one in self.accuracies]
        return {
            "model": self.model,
            "protocol": self.protocol.name,
            "pairs": len(self.scores),
            "folds": len(self.figures.folds.accuracy),
            **self.figures.as_json(),
            **({"accuracy_by_group": by_group} if by_group else {}),
            "failures": failures_as_json(self.failures, self.scores, self.protocol.same),
            "speed": {
                "images_per_s": self.images_per_s,
                "seconds": self.seconds,
                "peak_memory_bytes": self.peak_memory_bytes,
            },
            "data": {"digest": self.digest, "images": self.protocol.images, "people": self.protocol.people},
            "environment": self.environment,
        }


def run(
    protocol: PairProtocol,
    embedder: Embedder,
    detector: Detector,
    *,
    policy: Policy = "central",
    ties: Ties = "accept",
    threads: int | None = None,
    device: str = "cpu",
    pictures: int = 0,
    progress: Progress = lambda done, total: None,
) -> Evaluation:
    """Judge `embedder` by `protocol`; `policy` chooses the face where a photo shows several, `ties` what a pair exactly
    at a threshold is.

    `threads` workers (default: the cores) each take photos through all stages. `pictures` asks for the aligned faces of
    so many worst pairs of each kind, for a report. Raises `DataError` for a file that cannot be read at all.
    """
    threads = threads or available_cores()
    listed: PhotoList = protocol.templates or protocol
    photos = embed_photos(listed, embedder, detector, policy, threads, progress)
    embedded, scores = compare(protocol, photos, embedder)
    return Evaluation(
        protocol=protocol,
        scores=scores,
        figures=figures_of(scores, protocol.same, protocol.folds, ties, people=PairPeople.of(protocol)),
        model={"name": embedder.name, "contract": embedder.contract, "dim": embedder.dim},
        failures=embedded.failures,
        digest=embedded.digest,
        seconds=embedded.seconds,
        environment=describe_environment(threads, device, (named_faces(listed) or detector).source, policy),
        crops=_crops(protocol, photos, scores, pictures, detector, policy) if pictures else {},
        embedded=embedded,
        peak_memory_bytes=peak_memory_bytes(),
    )


def _crops(
    protocol: PairProtocol,
    photos: Embedded,
    scores: NDArray[np.float32],
    pictures: int,
    detector: Detector,
    policy: Policy,
) -> dict[str, AlignedFaces]:
    """Aligned faces of the worst pairs by name; of a template its first photo with a face."""
    names = {name for same in (False, True) for name in worst_photos(protocol, scores, same, pictures)}
    listed: PhotoList = protocol.templates or protocol
    faces = named_faces(listed)
    first = None if protocol.templates is None else protocol.templates.first_photos(photos.acquired)
    crops = {}
    for at, name in enumerate(protocol.photos):
        if name in names:
            photo = name if first is None else first[at]
            crops[name] = _face(listed.read(photo), detector, policy, faces.of(photo) if faces else None)[1]
    return crops


def failures_as_json(
    failures: Sequence[Failure], scores: NDArray[np.float32], same: NDArray[np.bool_]
) -> dict[str, Any]:
    """Photos without a face, and the genuine and impostor pairs that hold one, of scores `(P,)` and `same` `(P,)`."""
    return {
        "to_acquire": len(failures),
        "files": [failure.as_json() for failure in failures],
        "genuine_pairs": _failed(scores, same),
        "impostor_pairs": _failed(scores, ~same),
    }


def _failed(scores: NDArray[np.float32], kind: NDArray[np.bool_]) -> int:
    return int((np.isneginf(scores) & kind).sum())


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def align_photo(content: bytes, detector: Detector, policy: Policy) -> AlignedFaces:
    """The aligned face uint8 `(112, 112, 3)` that `policy` chooses in encoded bytes; an `InputError` where none is."""
    return _face(content, detector, policy, None)[1]


def _face(content: bytes, detector: Detector, policy: Policy, given: Face | None) -> tuple[Face, AlignedFaces]:
    """The face that is given, or the one that the detector finds and `policy` chooses; and its crop."""
    photo = read_photo(content)
    return aligned_faces(photo, detector, policy)[0] if given is None else (given, align(photo, given))


def named_faces(photos: PhotoList) -> GivenFaces | None:
    """The faces that the list itself names, if any."""
    return photos.faces if isinstance(photos, NamesFaces) else None


def embed_photos(
    protocol: PhotoList, embedder: Embeds, detector: Detector, policy: Policy, threads: int, progress: Progress
) -> Embedded:
    """Embed every photo of the protocol once, on `threads` workers; the result does not depend on their number.

    Where the protocol names the faces, the detector is not asked.
    """
    names, given = protocol.photos, named_faces(protocol)
    vectors = np.zeros((len(names), embedder.dim), dtype=np.float32)
    detector_scores = np.zeros(len(names), dtype=np.float32)
    digests: list[bytes] = [b""] * len(names)
    failures: dict[int, Failure] = {}

    def work(batch: range) -> None:
        faces: dict[int, AlignedFaces] = {}
        for position in batch:
            content = protocol.read(names[position])
            digests[position] = hashlib.sha256(content).digest()
            try:
                face, faces[position] = _face(content, detector, policy, given.of(names[position]) if given else None)
                detector_scores[position] = face.score
            except InputError as error:
                failures[position] = Failure(names[position], error.code, error.message)
        if faces:
            vectors[list(faces)] = embedder.embed(np.stack(list(faces.values())))

    started = time.perf_counter()
    _each(work, [range(i, min(i + BATCH, len(names))) for i in range(0, len(names), BATCH)], threads, progress)
    seconds = time.perf_counter() - started
    acquired = np.ones(len(names), dtype=bool)
    acquired[list(failures)] = False
    failed = tuple(failures[position] for position in sorted(failures))
    return Embedded(vectors, acquired, detector_scores, failed, _digest(names, digests), seconds)


def _each(work: Callable[[range], None], batches: list[range], threads: int, progress: Progress) -> None:
    """Do all batches; after an error the rest is not begun."""
    pool = ThreadPoolExecutor(threads)
    try:
        for batch, _ in zip(batches, pool.map(work, batches), strict=True):
            progress(batch.stop, batches[-1].stop)
    finally:
        pool.shutdown(cancel_futures=True)


def _digest(names: Sequence[str], digests: Sequence[bytes]) -> str:
    """SHA-256, hex, over the names and contents of the photos in the order of their names."""
    whole = hashlib.sha256()
    for name, digest in sorted(zip(names, digests, strict=True)):
        whole.update(name.encode() + b"\0" + digest)
    return whole.hexdigest()


def compare(protocol: PairProtocol, photos: Embedded, embedder: Embedder) -> tuple[Embedded, NDArray[np.float32]]:
    """What the pairs point to, `photos` themselves or templates made of them; and the scores of the pairs."""
    templates = protocol.templates
    if templates is None:
        return photos, score_pairs(protocol, photos, embedder)
    vectors, enrolled, belief = pool(
        templates, photos.vectors, photos.acquired, photos.detector_scores, group_aware_of(embedder)
    )
    embedded = replace(photos, vectors=vectors, acquired=enrolled, detector_scores=belief)
    if templates.average == "embedding":
        return embedded, score_pairs(protocol, embedded, embedder)
    first, second = protocol.first, protocol.second
    return embedded, mean_scores(templates, photos.vectors, photos.acquired, first, second, embedder)


def score_pairs(protocol: PairProtocol, embedded: Embedded, embedder: Embedder) -> NDArray[np.float32]:
    """The model's similarity of every pair, float32 `(P,)`; -inf where a photo gave no face."""
    scores = pair_scores(embedded.vectors, protocol.first, protocol.second, embedder)
    scores[~(embedded.acquired[protocol.first] & embedded.acquired[protocol.second])] = NO_FACE
    return scores


def worst_pairs(
    protocol: PairProtocol, scores: NDArray[np.float32], same: bool, count: int
) -> list[tuple[str, str, float]]:
    """The genuine pairs least alike, or the impostor pairs most alike, by name, with their scores; all with faces."""
    kind = np.flatnonzero((protocol.same == same) & ~np.isneginf(scores))
    order = kind[np.argsort(scores[kind] if same else -scores[kind], kind="stable")][:count]
    return [(protocol.photos[protocol.first[i]], protocol.photos[protocol.second[i]], float(scores[i])) for i in order]


def worst_photos(protocol: PairProtocol, scores: NDArray[np.float32], same: bool, count: int) -> list[str]:
    """Names of the photos in `worst_pairs`."""
    return [name for first, second, _ in worst_pairs(protocol, scores, same, count) for name in (first, second)]
