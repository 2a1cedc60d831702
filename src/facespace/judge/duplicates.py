"""Photos that are the same picture: by content, or encoded, scaled, brightened or mirrored anew.

The fingerprint is the sign of each of the 255 lowest frequencies of the grey photo reduced to 32x32 (as pHash: Zauner,
"Implementation and benchmarking of perceptual image hash functions", 2010). A mirror image turns the signs of the odd
horizontal frequencies, so it needs no second fingerprint.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from facespace.core.contracts import Photo

BITS = 255
CANDIDATE = BITS // 4
"""Fingerprints this far apart or nearer are remembered."""
NEAR = BITS // 7
"""However far strangers are, only these are near: among few people all strangers are far."""
_SIDE, _LOW = 32, 16
_FLAT = 4.0  # a photo whose frequencies are all weaker than noise has no fingerprint
_MIRROR = np.tile(np.where(np.arange(_LOW) % 2, -1, 1), _LOW)[1:].astype(np.float32)
_ROWS = 256

Fingerprints = NDArray[np.int8]
"""`(N, 255)` of -1 and 1; a row of zeros is like no other."""


@dataclass(frozen=True)
class Copies:
    """Pairs of photos `(n, 2)`, the earlier first, with their distance in bits `(n,)`; and for each photo `(N,)` the
    distance to the nearest photo of somebody else.
    """

    pairs: NDArray[np.int64]
    bits: NDArray[np.int64]
    strangers: NDArray[np.int64]


def fingerprint(photo: Photo) -> Fingerprints:
    """The fingerprint int8 `(255,)` of a photo RGB uint8 `(H, W, 3)`; zeros where it shows nothing."""
    small = cv2.resize(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    low = cv2.dct(small.astype(np.float32))[:_LOW, :_LOW].ravel()[1:]  # without the mean brightness
    if np.abs(low).max() < _FLAT:
        return np.zeros(BITS, np.int8)
    return np.where(low > 0, 1, -1).astype(np.int8)


def same_content(digests: Sequence[bytes]) -> list[list[int]]:
    """Positions of the photos that are equal byte for byte, two or more together, in order."""
    found: dict[bytes, list[int]] = {}
    for position, digest in enumerate(digests):
        found.setdefault(digest, []).append(position)
    return [positions for positions in found.values() if len(positions) > 1]


def near_copies(prints: Fingerprints, labels: NDArray[np.int64]) -> Copies:
    """All pairs of photos up to `CANDIDATE` bits apart, either as they are or one of them mirrored."""
    wide = prints.astype(np.float32)
    mirrored = wide * _MIRROR
    strangers = np.full(len(wide), BITS)
    pairs, bits = [np.empty((0, 2), np.int64)], [np.empty(0, np.int64)]
    for start in range(0, len(wide), _ROWS):
        rows = wide[start : start + _ROWS]
        apart = ((BITS - np.maximum(rows @ wide.T, rows @ mirrored.T)) / 2).astype(np.int64)  # (rows, N)
        other = labels[start : start + _ROWS, None] != labels
        strangers[start : start + _ROWS] = np.where(other, apart, BITS).min(1)
        first, second = np.nonzero(apart <= CANDIDATE)
        rising = first + start < second
        pairs.append(np.stack([first + start, second], 1)[rising])
        bits.append(apart[first, second][rising])
    return Copies(np.concatenate(pairs), np.concatenate(bits), strangers)


def joined(pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """What the pairs connect, each sorted: copies of copies are copies."""
    root: dict[int, int] = {}

    def find(i: int) -> int:
        while root.setdefault(i, i) != i:
            i = root[i]
        return i

    for a, b in pairs:
        low, high = sorted((find(a), find(b)))
        root[high] = low
    groups: dict[int, list[int]] = {}
    for i in sorted(root):
        groups.setdefault(find(i), []).append(i)
    return list(groups.values())
