"""InsightFace's verification sets, `lfw.bin` and its like (AgeDB-30, CALFW, CPLFW, CFP-FF, CFP-FP): photos and pairs
in one file, a pickle of (encoded photos, two for each pair; whether they show one person).
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from facespace.errors import DataError
from facespace.judge.protocols import FOLDS, PairProtocol
from facespace.judge.readers.pickled import plain, unpickled

MAX_FILE_BYTES = 1 << 32
_HINT = "expected a set as InsightFace writes it: a list of photos, two for each pair, and a list of truth values"


def bin_pairs(path: Path) -> PairProtocol:
    """The pairs of a `.bin`, in ten folds one after the other, as the code that made these files judges them.

    A photo that stands in several pairs is read once. Nothing in the file is run (see `pickled`). The set names nobody,
    so whose a photo is stays unknown. Raises DataError where the file is damaged, too large or no such set.
    """
    images, same = _content(path)
    place: dict[bytes, int] = {}
    at = np.array([place.setdefault(hashlib.sha256(image).digest(), i) for i, image in enumerate(images)], np.int64)
    kept, positions = np.unique(at, return_inverse=True)
    return PairProtocol(
        path.stem,
        photos=tuple(f"{number:06d}" for number in kept.tolist()),
        labels=None,
        first=positions[0::2],
        second=positions[1::2],
        same=np.array(same, dtype=bool),
        folds=_folds(len(same)),
        read=lambda name: bytes(images[int(name)]),
    )


def _content(path: Path) -> tuple[list[memoryview], list[bool]]:
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise DataError(f"is larger than {MAX_FILE_BYTES >> 30} GiB", file=path)
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", file=path) from error
    try:
        return _checked(plain(unpickled(data)))
    except DataError as error:
        raise DataError(error.message, hint=error.hint, file=path) from None


def _checked(value: Any) -> tuple[list[memoryview], list[bool]]:
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise DataError("holds no two lists", hint=_HINT)
    images, same = (plain(part) for part in value)
    if not isinstance(images, tuple | list) or not isinstance(same, tuple | list):
        raise DataError("holds no two lists", hint=_HINT)
    images, same = [plain(image) for image in images], [plain(truth) for truth in same]
    if len(images) != 2 * len(same) or len(same) < 2:
        raise DataError(f"{len(images)} photos for {len(same)} pairs", hint=_HINT)
    if not all(isinstance(image, memoryview) for image in images):
        raise DataError("a photo is not bytes", hint=_HINT)
    if not all(isinstance(truth, int) and truth in (0, 1) for truth in same):
        raise DataError("whether a pair is one person is not true or false", hint=_HINT)
    return images, [bool(truth) for truth in same]


def _folds(count: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Ten folds one after the other, as equal as can be, the first ones longer."""
    return np.concatenate([np.full(len(part), i) for i, part in enumerate(np.array_split(np.arange(count), FOLDS), 1)])
