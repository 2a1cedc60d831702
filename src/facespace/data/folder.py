"""A folder of people, `person/photo.jpg`, a tar of one, or a `.rec`: who is there, and the bytes of every photo."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facespace.data.archive import Tar
from facespace.data.records import Records
from facespace.errors import DataError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".heic", ".avif"})
"""What counts as a photo when a folder is listed; whether it is one is decided by its content."""


@dataclass(frozen=True)
class PhotoRef:
    """One photo: the person's name and the path below the root, with forward slashes: `person/0001.jpg`."""

    person: str
    name: str


@dataclass(frozen=True)
class People:
    """People and their photos, sorted by name; the same for a folder and for a tar of it."""

    root: Path
    photos: tuple[PhotoRef, ...]
    read_bytes: Callable[[str], bytes]

    def read(self, photo: PhotoRef | str) -> bytes:
        """The encoded bytes of a photo, given by reference or name. DataError where it is missing."""
        return self.read_bytes(photo if isinstance(photo, str) else photo.name)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The people, sorted; a person's label is the position here."""
        return tuple(sorted({photo.person for photo in self.photos}))

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """Label of each photo, int64 `(len(photos),)`."""
        position = {name: i for i, name in enumerate(self.names)}
        return np.array([position[photo.person] for photo in self.photos], np.int64)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over names and contents, hex: the identity of the data."""
        whole = hashlib.sha256()
        for photo, content in zip(self.photos, self.contents, strict=True):
            whole.update(photo.name.encode("utf-8", "surrogateescape") + b"\0" + content)
        return whole.hexdigest()

    @cached_property
    def contents(self) -> tuple[bytes, ...]:
        """SHA-256 of each photo's bytes."""
        return tuple(hashlib.sha256(self.read(photo)).digest() for photo in self.photos)

    def only(self, people: frozenset[str]) -> "People":
        """The same source, restricted to some people."""
        return People(self.root, tuple(p for p in self.photos if p.person in people), self.read_bytes)

    def without(self, photos: frozenset[str]) -> "People":
        """The same source without some photos, by name; a person who loses all is gone."""
        return People(self.root, tuple(p for p in self.photos if p.name not in photos), self.read_bytes)

    def sample(self, count: int) -> "People":
        """The same source with at most `count` photos, spread evenly over all."""
        positions = np.arange(min(count, len(self.photos))) * len(self.photos) // max(1, min(count, len(self.photos)))
        return People(self.root, tuple(self.photos[i] for i in positions), self.read_bytes)

    def mislabelled(self, share: float, seed: int) -> "People":
        """The same photos, but a share of them, chosen by the seed, go under a random other person's name."""
        rng = np.random.default_rng((seed, len(self.photos)))
        wrong = rng.permutation(len(self.photos))[: round(share * len(self.photos))]
        photos, count = list(self.photos), len(self.names)
        for i in wrong.tolist():
            other = (int(self.labels[i]) + int(rng.integers(1, count))) % count
            photos[i] = PhotoRef(self.names[other], photos[i].name)
        return People(self.root, tuple(photos), self.read_bytes)


def open_people(path: str | Path) -> People:
    """List a folder `person/photo.jpg`, an uncompressed tar of one, or a `.rec` with its `.idx` (see `data.records`).

    The person is the folder that holds the photo, or the label of the record. Hidden files and files without a photo's
    suffix are left out; a folder that wraps all others is looked through.
    Raises DataError where the path is missing, cannot be read, or holds no photo inside a folder of its own.
    """
    root = Path(path)
    read: Callable[[str], bytes]
    if root.is_dir():
        names, read = _folder_names(root), lambda name: _read_file(root / name)
    elif root.is_file():
        packed = Records(root) if root.suffix == ".rec" else Tar(root)
        names, read = packed.names, packed.read
    else:
        raise DataError("no such folder or tar", file=root, hint="a folder person/photo.jpg, a tar of one, or a .rec")
    photos = [name for name in names if _is_photo(name)]
    wrapper = _wrapper(photos)
    refs = sorted(
        (PhotoRef(n.rsplit("/", 1)[0], n) for n in (p[len(wrapper) :] for p in photos) if "/" in n),
        key=lambda p: p.name,
    )
    if not refs:
        raise DataError("holds no photo in a folder per person", file=root, hint="expected person/photo.jpg")
    return People(root, tuple(refs), (lambda name: read(wrapper + name)) if wrapper else read)


def _folder_names(root: Path) -> list[str]:
    """Files below the root, slashes forward; links are followed, a folder met a second time is not entered again."""
    names: list[str] = []
    seen: set[Path] = set()
    for folder, folders, files in os.walk(root, followlinks=True, onerror=_unreadable):
        if (real := Path(folder).resolve()) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()  # which of two ways to a folder is taken must not hang on the file system
        names += [(Path(folder) / file).relative_to(root).as_posix() for file in files]
    return names


def _unreadable(error: OSError) -> None:
    raise DataError(f"cannot be listed ({error.strerror})", file=error.filename) from error


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", file=path) from error


def _is_photo(name: str) -> bool:
    parts = name.split("/")
    return not any(part.startswith(".") for part in parts) and Path(parts[-1]).suffix.lower() in SUFFIXES


def _wrapper(names: list[str]) -> str:
    """The folder, with its slash, in which all people's folders lie; empty where they lie at the root."""
    first = {name.split("/", 1)[0] for name in names}
    inside = [name.split("/", 1)[1] for name in names if "/" in name]
    wrapped = len(first) == 1 and len(inside) == len(names) and all("/" in name for name in inside)
    return f"{first.pop()}/" + _wrapper(inside) if wrapped else ""
