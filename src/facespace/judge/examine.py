"""Every photo of a folder looked at once: content, fingerprint and vector, for those who look for defects and leaks."""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facespace.core.contracts import AlignedFaces, Detector, Vectors
from facespace.data.folder import People
from facespace.errors import InputError
from facespace.faces.align import aligned_faces
from facespace.faces.detect import Policy
from facespace.faces.photo import read_photo
from facespace.judge.duplicates import BITS, Fingerprints, fingerprint
from facespace.judge.embedding import Embeds, Failure, Progress, available_cores, in_batches


@dataclass(frozen=True)
class Examined:
    """Photos of `people` in their order: SHA-256 of the bytes, fingerprint, vector; zeros where a photo failed.

    `failures` has what could not be used by position: not a photo at all, or one without a usable face.
    """

    people: People
    digests: tuple[bytes, ...]
    prints: Fingerprints
    vectors: Vectors
    failures: dict[int, Failure]

    @property
    def sound(self) -> NDArray[np.bool_]:
        """Which photos `(N,)` have a vector."""
        sound = np.ones(len(self.digests), bool)
        sound[list(self.failures)] = False
        return sound

    @property
    def digest(self) -> str:
        """`People.digest`, from what was read."""
        whole = hashlib.sha256()
        for photo, digest in zip(self.people.photos, self.digests, strict=True):
            whole.update(photo.name.encode("utf-8", "surrogateescape") + b"\0" + digest)
        return whole.hexdigest()


def examine(
    people: People,
    embedder: Embeds,
    detector: Detector,
    *,
    policy: Policy = "central",
    threads: int | None = None,
    progress: Progress = lambda done, total: None,
) -> Examined:
    """Read, fingerprint and embed every photo, on `threads` workers (default: the cores). DataError for a file that
    the system does not give.
    """
    count = len(people.photos)
    digests: list[bytes] = [b""] * count
    prints, vectors = np.zeros((count, BITS), np.int8), np.zeros((count, embedder.dim), np.float32)
    failures: dict[int, Failure] = {}

    def work(batch: range) -> None:
        faces: dict[int, AlignedFaces] = {}
        for i in batch:
            content = people.read(people.photos[i])
            digests[i] = hashlib.sha256(content).digest()
            try:
                photo = read_photo(content)
                prints[i] = fingerprint(photo)
                faces[i] = aligned_faces(photo, detector, policy)[0][1]
            except InputError as error:
                failures[i] = Failure(people.photos[i].name, error.code, error.message)
        if faces:
            vectors[list(faces)] = embedder.embed(np.stack(list(faces.values())))

    in_batches(work, count, threads or available_cores(), progress)
    return Examined(people, tuple(digests), prints, vectors, dict(sorted(failures.items())))
