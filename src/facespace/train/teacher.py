"""A teacher's vectors of every training photo and its mirror image, computed once and kept."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facespace.core.contracts import Embedder
from facespace.data.batches import sound_crops
from facespace.data.folder import People
from facespace.faces.home import home
from facespace.models.card import write_atomic


def teacher_vectors(
    embedder: Embedder, people: People, told: Callable[[int, int], None] = lambda done, total: None
) -> NDArray[np.float32]:
    """Unit vectors float32 `(2, N, T)` of N photos: as they are, and mirrored; NaN where a photo is damaged.

    Kept under `FACESPACE_HOME/cache`, by the digest of the data and the contract of the teacher. `told(done, total)`
    hears of the progress.
    """
    path = home() / "cache" / f"teacher-{people.digest[:16]}-{embedder.contract}.npy"
    kept = _kept(path)
    if kept is not None and kept.shape == (2, len(people.photos), embedder.dim):
        return kept
    vectors = _embed_all(embedder, people, told)
    buffer = io.BytesIO()
    np.save(buffer, vectors, allow_pickle=False)
    write_atomic(path, buffer.getvalue())
    return vectors


def _kept(path: Path) -> NDArray[np.float32] | None:
    """The vectors in the cache; None where there are none, or the file is damaged and must be made anew."""
    try:
        kept = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return kept if isinstance(kept, np.ndarray) and kept.dtype == np.float32 else None


def _embed_all(embedder: Embedder, people: People, told: Callable[[int, int], None]) -> NDArray[np.float32]:
    vectors = np.full((2, len(people.photos), embedder.dim), np.nan, np.float32)
    # Damaged photos are named by the reader of the batches.
    for positions, faces in sound_crops(people, range(len(people.photos)), told=told):
        vectors[0, positions] = embedder.embed(faces)
        vectors[1, positions] = embedder.embed(np.ascontiguousarray(faces[:, :, ::-1]))
    return vectors
