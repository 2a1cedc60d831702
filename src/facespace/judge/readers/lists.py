"""Lists other than LFW's pairs: a CSV of one's own, LFW's people, CFP's splits, and RFW's list for each group."""

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from facespace.data.folder import People, PhotoRef, open_people
from facespace.errors import DataError
from facespace.judge.protocols import (
    FOLDS,
    NamedPair,
    PairProtocol,
    dealt,
    from_names,
    made_pairs,
    named_pair,
    names_and_labels,
)

_TRUTHS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


def csv_pairs(pairs: Path, data: Path) -> PairProtocol:
    """Pairs from a CSV with the columns `a`, `b`, `same` (1 or 0, true or false, yes or no) and perhaps `fold`.

    `a` and `b` name photos below `data`, a folder or tar of `person/photo.jpg`. Without folds, genuine and impostor
    pairs are each dealt to ten folds in turn. Raises DataError that names the line, or where photos are missing.
    """
    rows = csv.DictReader(io.StringIO(_text(pairs)))
    if not {"a", "b", "same"} <= set(rows.fieldnames or ()):
        raise DataError("line 1 has not the columns a, b, same", file=pairs, hint="a,b,same or a,b,same,fold")
    named: list[NamedPair] = []
    folds: list[int] = []
    for row in rows:
        same, fold = _TRUTHS.get((row["same"] or "").strip().lower()), (row.get("fold") or "").strip()
        if same is None or not row["a"] or not row["b"] or ("fold" in row and not (fold.isdecimal() and int(fold))):
            raise DataError(f"line {rows.line_num} is not: photo, photo, 1 or 0, and a fold from 1", file=pairs)
        named.append((row["a"], row["b"], same))
        folds.append(int(fold or 0))
    if folds and not any(folds):
        folds = dealt(np.array([same for _, _, same in named])).tolist()
    people = open_people(data)
    return _protocol("pairs", named, folds, {photo.name: photo for photo in people.photos}, people, pairs)


def lfw_people(listed: Path, data: Path, seed: int = 0) -> PairProtocol:
    """Pairs made of the people of LFW's `people.txt`, in its folds, as its unrestricted protocol allows.

    The list gives the number of folds, then for each the number of its people and a line `name photos` for each of
    them. Pairs are made as of any folder, by the seed, so figures are not those of `pairs.txt`. Raises DataError that
    names the line, or where photos are missing.
    """
    folds, people = _people(listed), open_people(data)
    wanted = {name: count for fold in folds for name, count in fold}
    photos = [photo for photo in people.photos if photo.person in wanted]
    there = Counter(photo.person for photo in photos)
    if lacking := sorted(name for name, count in wanted.items() if there[name] < count):
        what = f"{len(lacking)} of the {len(wanted)} people of {listed.name} lack photos, first {lacking[0]}"
        raise DataError(what, hint="give the data that belong to the list", file=data)
    made = made_pairs(photos, people.read, seed, [[name for name, _ in fold] for fold in folds])
    return replace(made, name="lfw-people")


def _people(path: Path) -> list[list[tuple[str, int]]]:
    """People and how many photos they have, by fold."""
    lines = [line.split() for line in _text(path).rstrip().splitlines()]
    at, folds = 1, list[list[tuple[str, int]]]()
    for _ in range(_count(lines, 0, path)):
        size = _count(lines, at, path)
        people = lines[at + 1 : at + 1 + size]
        for number, fields in enumerate(people, at + 2):
            if len(fields) != 2 or not re.fullmatch(r"0*[1-9]\d{0,6}", fields[1]):
                raise DataError(f"line {number} is not: name, number of photos", file=path)
        if len(people) < size:
            raise DataError(f"{len(people)} people from line {at + 2} on, where {size} are promised", file=path)
        folds.append([(name, int(count)) for name, count in people])
        at += 1 + size
    names = [name for fold in folds for name, _ in fold]
    if at != len(lines) or len(set(names)) < len(names) or len(folds) < 2:
        hint = "two folds or more, each person in one, and nothing after them"
        raise DataError("no list of people in folds", file=path, hint=hint)
    return folds


def _count(lines: Sequence[Sequence[str]], at: int, path: Path) -> int:
    fields = lines[at] if at < len(lines) else ()
    if len(fields) != 1 or not re.fullmatch(r"0*[1-9]\d{0,6}", fields[0]):
        raise DataError(f"line {at + 1} is no number of folds or of people", file=path)
    return int(fields[0])


def cfp(data: Path, kind: Literal["FF", "FP"]) -> PairProtocol:
    """CFP's ten splits, frontal against frontal or against profile, from its folder with `Data` and `Protocol` inside.

    Sengupta et al., "Frontal to Profile Face Verification in the Wild", WACV 2016.
    """
    protocol = data / "Protocol"
    first = _numbered(protocol / "Pair_list_F.txt")
    second = _numbered(protocol / "Pair_list_P.txt") if kind == "FP" else first
    named: list[NamedPair] = []
    folds: list[int] = []
    splits = sorted(path for path in (protocol / "Split" / kind).glob("*") if path.is_dir())
    if not splits:
        raise DataError("holds no splits", file=protocol / "Split" / kind, hint="give the folder that CFP unpacks to")
    for fold, split in enumerate(splits, 1):
        for file, same in (("same.txt", True), ("diff.txt", False)):
            found = [(first[i], second[j], same) for i, j in _index_pairs(split / file, len(first), len(second))]
            named += found
            folds += [fold] * len(found)
    people = open_people(data / "Data" / "Images")
    photos = {photo.name: PhotoRef(photo.name.split("/")[0], photo.name) for photo in people.photos}
    return _protocol(f"cfp-{kind.lower()}", named, folds, photos, people, protocol)


def rfw(pairs: Path, data: Path) -> PairProtocol:
    """RFW: where `pairs` is a list, that group; where it is a folder `group/group_pairs.txt`, all groups together.

    Of all groups `data` holds `group/name/name_0001.jpg`; fold n of all is the fold n of each. The groups are kept, so
    that figures can be told by group. Wang et al., "Racial Faces in the Wild", ICCV 2019.
    """
    if not pairs.is_dir():
        return rfw_group(pairs, data)
    lists = sorted(pairs.glob("*/*_pairs.txt"))
    if len(lists) < 2 or len({path.parent for path in lists}) < len(lists):
        hint = "give the folder txts of RFW"
        what = f"{len(lists)} lists of groups, where several group/group_pairs.txt are expected"
        raise DataError(what, file=pairs, hint=hint)
    return _together("rfw", {path.parent.name: rfw_group(path, data / path.parent.name) for path in lists})


def _together(name: str, groups: dict[str, PairProtocol]) -> PairProtocol:
    """Protocols of groups as one; photos are named `group/...`, and nobody is in two groups."""
    parts = list(groups.values())
    before = np.cumsum([0, *(len(part.photos) for part in parts)])
    photos = [(group, photo) for group, part in groups.items() for photo in part.photos]
    people = [f"{group}/{name}" for group, part in groups.items() for name in part.people_of_photos or ()]
    names, labels = names_and_labels(people)
    read = {f"{group}/": part.read for group, part in groups.items()}
    return PairProtocol(
        name,
        photos=tuple(f"{group}/{photo}" for group, photo in photos),
        labels=labels,
        first=np.concatenate([part.first + at for part, at in zip(parts, before[:-1], strict=True)]),
        second=np.concatenate([part.second + at for part, at in zip(parts, before[:-1], strict=True)]),
        same=np.concatenate([part.same for part in parts]),
        folds=np.concatenate([part.folds for part in parts]),
        read=lambda photo: read[photo[: photo.index("/") + 1]](photo[photo.index("/") + 1 :]),
        names=names,
        groups=tuple(group for group, _ in photos),
    )


def rfw_group(pairs: Path, data: Path) -> PairProtocol:
    """One group of RFW: its list, lines `name i j` and `name i name j` in ten folds one after the other, no header.

    `data` holds the group's photos, `name/name_0001.jpg`.
    """
    named = [named_pair(line, at, pairs) for at, line in enumerate(_text(pairs).splitlines(), 1) if line.strip()]
    folds = [fold for fold, part in enumerate(np.array_split(np.arange(len(named)), FOLDS), 1) for _ in part]
    people = open_people(data)
    photos = {photo.name.rpartition(".")[0]: photo for photo in people.photos}
    return _protocol(pairs.stem, named, folds, photos, people, pairs)


def _numbered(path: Path) -> list[str]:
    """The photos of a list `1 ../Data/Images/001/frontal/01.jpg`, numbered from 1, as paths below `Images`."""
    found = []
    for at, line in enumerate(_text(path).splitlines(), 1):
        fields = line.split(maxsplit=1)
        parts = PurePosixPath(fields[1].strip()).parts if len(fields) == 2 else ()
        if not parts or fields[0] != str(at) or "Images" not in parts:
            raise DataError(f"line {at} is not: {at} ../Data/Images/person/kind/photo.jpg", file=path)
        found.append("/".join(parts[parts.index("Images") + 1 :]))
    return found


def _index_pairs(path: Path, first: int, second: int) -> list[tuple[int, int]]:
    """Pairs of positions from 0; the file counts from 1."""
    found = []
    for at, line in enumerate(_text(path).split(), 1):
        fields = line.split(",")
        numbers = [int(field) for field in fields if field.isdecimal() and len(field) < 8]
        if len(fields) != 2 or len(numbers) != 2 or not (1 <= numbers[0] <= first and 1 <= numbers[1] <= second):
            raise DataError(f"line {at}: {line[:40]!r} is not two numbers of photos", file=path)
        found.append((numbers[0] - 1, numbers[1] - 1))
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"no readable list ({error})", file=path) from error


def _protocol(
    name: str,
    named: Sequence[NamedPair],
    folds: Sequence[int],
    photos: dict[str, PhotoRef],
    people: People,
    pairs: Path,
) -> PairProtocol:
    """Pairs of names in the list; `photos` knows them. Raises DataError where photos are missing."""
    wanted = {key for a, b, _ in named for key in (a, b)}
    missing = sorted(wanted - photos.keys())
    if missing:
        what = f"{len(missing)} of the {len(wanted)} photos named by {pairs.name} are missing, first {missing[0]}"
        raise DataError(what, hint="give the data that belong to the list", file=people.root)
    return from_names(name, named, folds, photos, people.read)
