"""Photos to vectors, on several threads: each is read once, decoded, searched, aligned and embedded.

A photo without a usable face is a failure to acquire, which is kept and never left out.
"""

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from facespace.core.contracts import AlignedFaces, Detector, Face, Vectors
from facespace.errors import InputError
from facespace.faces.align import align, aligned_faces
from facespace.faces.detect import Policy
from facespace.faces.given import GivenFaces
from facespace.faces.photo import read_photo

BATCH = 8  # photos that a worker aligns before it embeds them: the fastest size on a processor

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

    `detector_scores` float32 `(N,)` in 0..1 say how sure the detector is of the faces, 0 where there is none.
    """

    vectors: Vectors
    acquired: NDArray[np.bool_]
    detector_scores: NDArray[np.float32]
    failures: tuple[Failure, ...]
    digest: str
    seconds: float


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def align_photo(content: bytes, detector: Detector, policy: Policy, given: Face | None = None) -> AlignedFaces:
    """The aligned face uint8 `(112, 112, 3)` that is given, or that `policy` chooses in encoded bytes; an `InputError`
    where none is.
    """
    return _face(content, detector, policy, given)[1]


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
    in_batches(work, len(names), threads, progress)
    seconds = time.perf_counter() - started
    acquired = np.ones(len(names), dtype=bool)
    acquired[list(failures)] = False
    failed = tuple(failures[position] for position in sorted(failures))
    return Embedded(vectors, acquired, detector_scores, failed, _digest(names, digests), seconds)


def in_batches(work: Callable[[range], None], count: int, threads: int, progress: Progress) -> None:
    """Do `count` photos, `BATCH` at a time, on so many threads; after an error the rest is not begun."""
    batches = [range(i, min(i + BATCH, count)) for i in range(0, count, BATCH)]
    pool = ThreadPoolExecutor(threads)
    try:
        for batch, _ in zip(batches, pool.map(work, batches), strict=True):
            progress(batch.stop, count)
    finally:
        pool.shutdown(cancel_futures=True)


def _digest(names: Sequence[str], digests: Sequence[bytes]) -> str:
    """SHA-256, hex, over the names and contents of the photos in the order of their names."""
    whole = hashlib.sha256()
    for name, digest in sorted(zip(names, digests, strict=True)):
        whole.update(name.encode() + b"\0" + digest)
    return whole.hexdigest()
