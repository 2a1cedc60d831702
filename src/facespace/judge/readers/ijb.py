"""IJB-B and IJB-C, in the layout in which InsightFace hands on their lists: templates of photos and frames.

A folder with `meta/` and the photos in `loose_crop/`. The lists name each photo's template and medium, its five
landmarks and the score of the detector that found them, and pairs of templates. Whitelam et al., CVPRW 2017; Maze et
al., ICB 2018.
"""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from facespace.errors import DataError
from facespace.faces.given import GivenFaces
from facespace.judge.pooling import Templates
from facespace.judge.protocols import PairProtocol, dealt
from facespace.judge.readers.files import lines_of, photo_reader

Kind = Literal["ijbb", "ijbc"]
Int = NDArray[np.int64]

_CHUNK = 1 << 22  # bytes of the list of pairs that are parsed at a time
_PAIR = re.compile(rb"[ \t]*\d{1,9}[ \t]+\d{1,9}[ \t]+[01][ \t]*\r?")


@dataclass(frozen=True)
class Listed:
    """The templates of a set, and by what numbers `ids` int64 `(T,)`, rising, its lists call them."""

    templates: Templates
    ids: Int

    def place(self, ids: Int, path: Path, lines: Int) -> Int:
        """Positions of templates by number `(n,)`, each of which stands on one of `lines` `(n,)` of a list.

        DataError names the line of a template that no photo belongs to.
        """
        at = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        if (unknown := np.flatnonzero(self.ids[at] != ids)).size:
            what = f"template {ids[unknown[0]]} has no photo in the list of templates"
            raise DataError(f"line {lines[unknown[0]]}: {what}", file=path)
        return at


def ijb(data: Path, kind: Kind, weighted: bool = False) -> PairProtocol:
    """The pairs of templates of IJB-B or IJB-C 1:1, with the landmarks that the set gives.

    The set has no folds: genuine and impostor pairs are each dealt to ten in turn. Its list of pairs names nobody. With
    `weighted`, photos count by the score of the set's detector. Raises
    DataError that names the line of what is wrong, or where photos are missing.
    """
    listed = listed_templates(data, kind, weighted)
    path = data / "meta" / f"{kind}_template_pair_label.txt"
    first, second, same = _pairs(path, listed)
    return PairProtocol(
        kind,
        photos=tuple(map(str, listed.ids.tolist())),
        labels=None,
        first=first,
        second=second,
        same=same,
        folds=dealt(same),
        read=listed.templates.read,
        templates=listed.templates,
    )


def listed_templates(data: Path, kind: Kind, weighted: bool = False) -> Listed:
    """The templates of the set, their photos and faces."""
    path, photos = data / "meta" / f"{kind}_face_tid_mid.txt", data / "loose_crop"
    names: list[str] = []
    numbers: list[tuple[int, int]] = []
    for at, line in lines_of(path):
        fields = line.split()
        if len(fields) != 3 or not all(re.fullmatch(r"\d{1,9}", field) for field in fields[1:]):
            raise DataError(f"line {at} is not: photo, number of the template, number of the medium", file=path)
        names.append(fields[0])
        numbers.append((int(fields[1]), int(fields[2])))
    if not names:
        raise DataError("an empty list", file=path)
    place = {name: i for i, name in enumerate(dict.fromkeys(names))}
    faces = _faces(data / "meta" / f"{kind}_name_5pts_score.txt", place)
    _check_photos(place, photos)
    template, media = np.array(numbers, np.int64).T
    ids, position = np.unique(template, return_inverse=True)
    photo = np.array([place[name] for name in names], np.int64)
    kept = Templates(tuple(place), photo_reader(photos), photo, position, media, weighted, faces=faces)
    return Listed(kept, ids)


def _faces(path: Path, place: dict[str, int]) -> GivenFaces:
    """Landmarks and scores of the photos in `place`; others that the list names are passed over."""
    rows = np.full((len(place), 11), np.nan, np.float32)
    for at, line in lines_of(path):
        fields = line.split()
        values = [_number(field) for field in fields[1:]]
        if len(values) != 11 or not all(map(math.isfinite, values)) or not 0 <= values[-1] <= 1:
            raise DataError(f"line {at} is not: photo, five times x and y, score from 0 to 1", file=path)
        if fields[0] in place:
            rows[place[fields[0]]] = values
    if (without := np.flatnonzero(np.isnan(rows[:, 0]))).size:
        name = list(place)[without[0]]
        raise DataError(f"{without.size} of {len(place)} photos have no landmarks, first {name}", file=path)
    return GivenFaces(place, rows[:, :10].reshape(-1, 5, 2), rows[:, 10])


def _number(field: str) -> float:
    try:
        return float(field)
    except ValueError:
        return math.nan


def _check_photos(place: dict[str, int], folder: Path) -> None:
    try:
        there = {path.name for path in folder.iterdir()}
    except OSError as error:
        raise DataError(f"cannot be listed ({error.strerror})", file=folder) from error
    if missing := sorted(place.keys() - there):
        what = f"{len(missing)} of the {len(place)} photos of the list are missing, first {missing[0]}"
        raise DataError(what, file=folder, hint="give the folder that holds meta and loose_crop")


def _pairs(path: Path, listed: Listed) -> tuple[Int, Int, NDArray[np.bool_]]:
    """Positions of the templates of each pair, and whether they are one person's; 15.7 million in IJB-C."""
    parts: list[tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.bool_]]] = []
    line = 1
    try:
        with path.open("rb") as file:
            for block in _blocks(file.read):
                one, other, truth = _numbers(block, line, path).T
                lines = np.arange(line, line + len(truth))
                first, second = (listed.place(ids, path, lines).astype(np.int32) for ids in (one, other))
                parts.append((first, second, truth == 1))
                line += len(truth)
    except OSError as error:
        raise DataError(f"no readable list of pairs ({error})", file=path) from error
    if not parts:
        raise DataError("an empty list", file=path)
    firsts, seconds, sames = zip(*parts, strict=True)
    return np.concatenate(firsts, dtype=np.int64), np.concatenate(seconds, dtype=np.int64), np.concatenate(sames)


def _blocks(read: Callable[[int], bytes]) -> Iterator[bytes]:
    """Whole lines, about 4 MB at a time, each block with a line's end at its end."""
    rest = b""
    while chunk := read(_CHUNK):
        whole, line_end, rest = (rest + chunk).rpartition(b"\n")
        if line_end:
            yield whole + line_end
    if rest.strip():
        yield rest + b"\n"


def _numbers(block: bytes, line: int, path: Path) -> Int:
    """The lines as int64 `(n, 3)`: two numbers and 0 or 1; DataError names the first that is none."""
    characters = np.frombuffer(block, np.uint8)
    digit = (characters - np.uint8(48)) < 10
    starts = np.flatnonzero(digit & ~np.append(False, digit[:-1]))
    per_line = np.diff(np.searchsorted(starts, np.flatnonzero(characters == 10)), prepend=0)
    rows = np.zeros((0, 3), np.int64)
    if (digit | np.isin(characters, (9, 10, 13, 32))).all() and (per_line == 3).all():
        rows = np.fromstring(block.decode("ascii"), np.int64, sep=" ").reshape(-1, 3)
    if len(rows) != len(per_line) or rows.max() >= 10**9 or rows[:, 2].max() > 1:
        lines = enumerate(block.split(b"\n")[:-1], line)
        at = next((at for at, text in lines if not _PAIR.fullmatch(text)), line)
        raise DataError(f"line {at} is not: template, template, 1 or 0", file=path)
    return rows
