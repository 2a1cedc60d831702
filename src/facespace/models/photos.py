"""Photos to vectors: every face found, aligned and embedded, with the file, box and score it came from."""

import importlib.util
import io
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facespace.core.contracts import Detector, Embedder, Face, Vectors
from facespace.errors import DataError, InputError, MissingExtra, UsageError
from facespace.faces.align import aligned_faces
from facespace.faces.detect import Policy
from facespace.faces.photo import read_photo
from facespace.models.card import write_atomic

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".heic", ".heif", ".avif"})
_BLOCK = 32  # photos whose crops wait for the embedder; bounds the memory
Told = Callable[[int, int], None]
"""Hears of progress: photos done, photos in all."""


@dataclass(frozen=True)
class PhotoVectors:
    """Row i of `vectors` (unit float32 `(N, D)`) is face `faces[i]` of photo `files[i]`; `failures` gave none."""

    vectors: Vectors
    files: tuple[str, ...]
    faces: tuple[Face, ...]
    failures: tuple[InputError, ...]
    metadata: Mapping[str, object]


def photo_paths(paths: Iterable[str | Path]) -> list[Path]:
    """The files given, and in place of each folder the photos below it (by suffix), in the order of their names.

    Raises DataError for a folder without a photo.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        below = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
        if not below:
            raise DataError(
                "this folder holds no photo", file=path, hint=f"photos end in {', '.join(sorted(SUFFIXES))}"
            )
        found += below
    return found


def faces_of(path: str | Path, detector: Detector, policy: Policy) -> list[tuple[Face, NDArray[np.uint8]]]:
    """Faces of a photo that `policy` takes, each with its aligned crop; InputError names the file."""
    with naming(path):
        return aligned_faces(read_photo(path), detector, policy)


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Give the file to an InputError that knows only the pixels."""
    try:
        yield
    except InputError as error:
        error.file = error.file or str(path)
        raise


def detect_photos(
    paths: Sequence[str | Path], detector: Detector
) -> tuple[list[tuple[str, list[Face]]], tuple[InputError, ...]]:
    """Every photo that can be read with its faces (none is an answer too), and the errors of those that cannot."""
    found: list[tuple[str, list[Face]]] = []
    failures: list[InputError] = []
    for path in paths:
        try:
            found.append((str(path), detector.detect(read_photo(path))))
        except InputError as error:
            failures.append(error)
    return found, tuple(failures)


def embed_photos(
    paths: Sequence[str | Path],
    embedder: Embedder,
    detector: Detector,
    *,
    policy: Policy = "all",
    threads: int = 1,
    told: Told = lambda done, total: None,
) -> PhotoVectors:
    """Vectors of the faces of many photos, in the order of the paths; `threads` photos are read and searched at once.

    A photo without a usable face does not stop the others: it stands in `failures`.
    """
    vectors, files, faces, failures = [np.empty((0, embedder.dim), np.float32)], [], [], []
    with ThreadPoolExecutor(threads) as workers:
        for start in range(0, len(paths), _BLOCK):
            block = paths[start : start + _BLOCK]
            crops = []
            for path, found in zip(block, workers.map(lambda p: _attempt(p, detector, policy), block), strict=True):
                if isinstance(found, InputError):
                    failures.append(found)
                    continue
                files += [str(path)] * len(found)
                faces += [face for face, _ in found]
                crops += [crop for _, crop in found]
            if crops:
                vectors.append(embedder.embed(np.stack(crops)))
            told(start + len(block), len(paths))
    metadata = {"model": embedder.name, "contract": embedder.contract, "dim": embedder.dim, "detector": detector.source}
    return PhotoVectors(np.concatenate(vectors), tuple(files), tuple(faces), tuple(failures), metadata)


def check_output(path: Path) -> None:
    """Raise UsageError unless vectors can be written under this suffix, MissingExtra where Parquet needs pyarrow."""
    if path.suffix not in (".npz", ".parquet"):
        raise UsageError("vectors are written as .npz or .parquet", file=path, hint="-o vectors.npz")
    if path.suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise MissingExtra("writing Parquet needs pyarrow", hint="pip install pyarrow, or write .npz")


def save_vectors(result: PhotoVectors, path: Path) -> None:
    """Write `embedding` float32 `(N, D)`, `file`, `box` (x, y, width, height) and `score` to an `.npz` or `.parquet`.

    The metadata (model, contract, dim, detector) is a JSON text: the entry `metadata` of an NPZ, the key `facespace` in
    the schema of a Parquet file. Raises as `check_output` does.
    """
    check_output(path)
    columns: dict[str, Any] = {
        "embedding": result.vectors,
        "file": np.array(result.files, dtype=np.str_),
        "box": np.array([face.box for face in result.faces], np.float32).reshape(-1, 4),
        "score": np.array([face.score for face in result.faces], np.float32),
    }
    metadata = json.dumps(result.metadata)
    if path.suffix == ".npz":
        write_atomic(path, _npz({**columns, "metadata": np.array(metadata)}))
    else:
        write_atomic(path, _parquet(columns, metadata))


def _npz(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """As `np.savez`, which cannot name an array `file`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)
    return buffer.getvalue()


def _parquet(columns: Mapping[str, NDArray[Any]], metadata: str) -> bytes:
    arrow, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    rows = {
        name: arrow.FixedSizeListArray.from_arrays(arrow.array(column.ravel()), column.shape[1])
        for name, column in columns.items()
        if column.ndim == 2
    }
    table = arrow.table({**columns, **rows}).replace_schema_metadata({"facespace": metadata})
    buffer = io.BytesIO()
    parquet.write_table(table, buffer)
    return buffer.getvalue()


def _attempt(path: str | Path, detector: Detector, policy: Policy) -> list[tuple[Face, NDArray[np.uint8]]] | InputError:
    try:
        return faces_of(path, detector, policy)
    except InputError as error:
        return error
