"""Which pairs are compared: the official list of LFW, and pairs made from any folder of people.

A protocol is decided before any photo is read: the pairs, their folds, and where the bytes come from.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from facespace.data.folder import People, PhotoRef, open_people
from facespace.errors import DataError, UsageError
from facespace.judge.pooling import Templates

FOLDS = 10
PAIRS_PER_FOLD = 300  # of each kind, as in LFW

NamedPair = tuple[str, str, bool]
"""Two photos by name, and whether they show one person."""


@dataclass(frozen=True)
class LabelledPhotos:
    """Photos by name with their persons, `labels` int64 `(N,)`, which point into `names`.

    `read` gives a photo's encoded bytes, in any thread.
    """

    photos: tuple[str, ...]
    labels: NDArray[np.int64]
    names: tuple[str, ...]
    read: Callable[[str], bytes]

    @classmethod
    def of(cls, people: People) -> Self:
        """All photos of a folder or tar."""
        return cls(tuple(photo.name for photo in people.photos), people.labels, people.names, people.read)

    @property
    def people(self) -> int:
        """How many people, or classes, there are."""
        return len(np.unique(self.labels))


@dataclass(frozen=True)
class PairProtocol:
    """Pairs of photos in folds; `first` and `second` int64 `(P,)` point into `photos`, each photo once.

    `same` bool `(P,)` is true for genuine pairs; `folds` int64 `(P,)` are the numbers of the folds, from 1. `labels`
    int64 `(N,)` say whose each photo is and point into `names`; both are None where the data name nobody. `read` gives
    the encoded bytes of a photo by name and may be called from several threads. Where there are `templates`, these are
    compared in the place of photos: `photos` are the names of templates, and `templates` has the photos that are read.
    `groups` are those of photos, where the set divides them.
    """

    name: str
    photos: tuple[str, ...]
    labels: NDArray[np.int64] | None
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    same: NDArray[np.bool_]
    folds: NDArray[np.int64]
    read: Callable[[str], bytes]
    names: tuple[str, ...] | None = None
    templates: Templates | None = None
    groups: tuple[str, ...] | None = None

    @property
    def images(self) -> int:
        """How many photos are read."""
        return len(self.photos if self.templates is None else self.templates.photos)

    @property
    def people_of_photos(self) -> tuple[str, ...] | None:
        """Whose each photo is `(N,)`, by name; None where the data name nobody."""
        if self.labels is None or self.names is None:
            return None
        return tuple(self.names[label] for label in self.labels)

    @property
    def people(self) -> int | None:
        """How many people there are; None where the data name nobody."""
        return None if self.labels is None else len(np.unique(self.labels))


def dealt(same: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Folds 1..10 `(P,)`: genuine and impostor pairs each in turn."""
    folds = np.empty(len(same), np.int64)
    for kind in (same, ~same):
        folds[kind] = np.arange(np.count_nonzero(kind)) % FOLDS + 1
    return folds


def lfw(pairs: Path, data: Path, folds: str | None = None) -> PairProtocol:
    """LFW's protocol: the list `pairs.txt`, the photos from a folder or tar `Name/Name_0001.jpg`.

    `folds` such as `1-3` or `1,4,7-9` judges on some folds only. Raises `DataError` for a malformed line or where
    photos are missing: a pair is never left out. Huang et al., "Labeled Faces in the Wild", UMass TR 07-49 (2007).
    """
    listed = read_lfw_pairs(pairs)
    chosen = parse_folds(folds, len(listed)) if folds else range(1, len(listed) + 1)
    people = open_people(data)
    by_stem = {photo.name.rpartition(".")[0]: photo for photo in people.photos}
    wanted = {stem for fold in chosen for a, b, _ in listed[fold - 1] for stem in (a, b)}
    missing = sorted(wanted - by_stem.keys())
    if missing:
        raise DataError(
            f"{len(missing)} of the {len(wanted)} photos named by {pairs.name} are missing, first {missing[0]}.jpg",
            hint="give the data that belong to the list, or choose the folds they hold with --folds",
            file=data,
        )
    pairs_of = {fold: listed[fold - 1] for fold in chosen}
    return from_names("lfw", *_in_turn(pairs_of), by_stem, people.read)


def read_lfw_pairs(path: Path) -> list[list[NamedPair]]:
    """The folds of a `pairs.txt`; photos are named `Name/Name_0001`, without a suffix.

    The header gives folds and pairs of each kind per fold (or the pairs alone, for one fold); a fold is so many genuine
    lines `name i j`, then as many impostor lines `name i name j`. Raises `DataError` that names the line.
    """
    try:
        lines = path.read_text(encoding="utf-8").rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not text"
        raise DataError(f"no readable list of pairs ({why})", hint="LFW's pairs.txt", file=path) from error
    header = lines[0].split() if lines else []
    if len(header) not in (1, 2) or not all(re.fullmatch(r"0*[1-9]\d{0,6}", field) for field in header):
        csv = "LFW's begins with two numbers, such as 10 300; a CSV a,b,same is read by --protocol pairs"
        hint = csv if lines and "," in lines[0] else "expected folds and pairs per fold, such as 10 300"
        raise DataError("line 1 is no header", hint=hint, file=path)
    folds, size = (int(field) for field in ("1", *header)[-2:])
    if len(lines) - 1 != folds * 2 * size:
        raise DataError(f"{len(lines) - 1} pairs, where the header promises {folds} x 2 x {size}", file=path)
    named = [named_pair(line, i + 2, path, same=i // size % 2 == 0) for i, line in enumerate(lines[1:])]
    return [named[fold * 2 * size : (fold + 1) * 2 * size] for fold in range(folds)]


_PAIRS = {True: "name, number, number", False: "name, number, name, number"}


def named_pair(line: str, number: int, path: Path, same: bool | None = None) -> NamedPair:
    """The pair in a line `name i j`, of one person, or `name i name j`; of the kind that `same` says, or either."""
    fields = line.split("\t") if "\t" in line else line.split()
    expected = " or ".join(_PAIRS.values()) if same is None else _PAIRS[same]
    same = len(fields) == 3 if same is None else same
    if same:
        fields[2:2] = fields[:1]  # name i j -> name i name j
    if len(fields) != 4 or not (fields[1].isdecimal() and fields[3].isdecimal()):
        raise DataError(f"line {number}: {line!r} is not: {expected}", hint="mend or re-download the list", file=path)
    a, i, b, j = fields
    return f"{a}/{a}_{int(i):04d}", f"{b}/{b}_{int(j):04d}", same


def parse_folds(text: str, count: int) -> list[int]:
    """Numbers of folds from text such as `1-3` or `1,4,7-9`, rising; `UsageError` where they are not in 1..count."""
    chosen: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,6})\s*(?:-\s*(\d{1,6}))?\s*", part)
        low, high = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not 1 <= low <= high <= count:
            raise UsageError(f"folds {text!r} are not among 1-{count}", hint="write them as 1-3 or 1,4,7-9")
        chosen.update(range(low, high + 1))
    if len(chosen) < 2:
        raise UsageError("one fold cannot be judged: its threshold comes from the others", hint="choose two or more")
    return sorted(chosen)


def folder(data: Path, seed: int = 0) -> PairProtocol:
    """Pairs made from any folder or tar of `person/photo.jpg`; see `made_pairs`."""
    people = open_people(data)
    return made_pairs(people.photos, people.read, seed)


def made_pairs(
    photos: Sequence[PhotoRef],
    read: Callable[[str], bytes],
    seed: int = 0,
    dealt_people: Sequence[Sequence[str]] | None = None,
) -> PairProtocol:
    """Pairs of `photos` in up to ten folds that share no person; the same for the same names and seed.

    The folds' people are `dealt_people`, or dealt by the seed. In each fold up to 300 genuine pairs, taken in turn from
    its people so that none outweighs the others, and as many impostor pairs, where the people give so many. Raises
    `DataError` for fewer than two folds: each needs two people, one of them with two photos.
    """
    of_person: dict[str, list[PhotoRef]] = defaultdict(list)
    for photo in sorted(photos, key=lambda photo: photo.name):
        of_person[photo.person].append(photo)
    parts = dealt_people or _deal(of_person, np.random.default_rng([seed, 0]))
    folds = {}
    for number, names in enumerate(parts, 1):
        rng = np.random.default_rng([seed, number])
        groups = [of_person[name] for name in names]
        genuine = _genuine(groups, rng)
        folds[number] = genuine + _impostors(groups, len(genuine), rng)
    return from_names("folder", *_in_turn(folds), {photo.name: photo for photo in photos}, read)


def _deal(of_person: dict[str, list[PhotoRef]], rng: np.random.Generator) -> list[list[str]]:
    """People dealt to folds, first those who have pairs of their own, so that every fold gets some."""
    names = [str(name) for name in rng.permutation(sorted(of_person))]
    paired = [name for name in names if len(of_person[name]) > 1]
    count = min(FOLDS, len(paired), len(names) // 2)
    if count < 2:
        everyone = "1 person gives" if len(names) == 1 else f"{len(names)} people give"
        raise DataError(
            f"{everyone} no two folds: {len(paired)} with two photos or more",
            hint="at least four people are needed, two of them with two photos",
        )
    single = [name for name in names if len(of_person[name]) == 1]
    return [(paired + single)[fold::count] for fold in range(count)]


def _genuine(groups: list[list[PhotoRef]], rng: np.random.Generator) -> list[NamedPair]:
    turns = zip_longest(*(_pairs_within(group, rng) for group in groups))
    return [pair for pair in chain.from_iterable(turns) if pair is not None][:PAIRS_PER_FOLD]


def _pairs_within(group: list[PhotoRef], rng: np.random.Generator) -> list[NamedPair]:
    """Distinct pairs of one person's photos in random order; pair number n is the n-th below the diagonal."""
    total = len(group) * (len(group) - 1) // 2
    numbers = rng.choice(total, size=min(total, PAIRS_PER_FOLD), replace=False) if total else np.empty(0)
    rows = ((1 + np.sqrt(1 + 8 * numbers.astype(np.float64))) / 2).astype(int)
    return [
        (group[row].name, group[int(number) - row * (row - 1) // 2].name, True)
        for number, row in zip(numbers, rows, strict=True)
    ]


def _impostors(groups: list[list[PhotoRef]], count: int, rng: np.random.Generator) -> list[NamedPair]:
    """Distinct pairs of photos of two people: the people drawn alike, then their photos; all, where there are few."""
    sizes = [len(group) for group in groups]
    possible = (sum(sizes) ** 2 - sum(size**2 for size in sizes)) // 2
    if possible <= 4 * count:
        everyone = list(_pairs_between(groups))
        return [everyone[i] for i in rng.permutation(len(everyone))[:count]]
    found: dict[NamedPair, None] = {}
    while len(found) < count:
        one, other = sorted(rng.choice(len(groups), size=2, replace=False))
        found[(_any(groups[one], rng), _any(groups[other], rng), False)] = None
    return list(found)


def _pairs_between(groups: list[list[PhotoRef]]) -> Iterator[NamedPair]:
    for number, group in enumerate(groups):
        for other in groups[number + 1 :]:
            yield from ((a.name, b.name, False) for a in group for b in other)


def _any(group: list[PhotoRef], rng: np.random.Generator) -> str:
    return group[int(rng.integers(len(group)))].name


def _in_turn(folds: dict[int, list[NamedPair]]) -> tuple[list[NamedPair], list[int]]:
    """The pairs of all folds, and the fold of each."""
    return [pair for pairs in folds.values() for pair in pairs], [fold for fold, pairs in folds.items() for _ in pairs]


def names_and_labels(people: Sequence[str]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """The names of people, each once and sorted, and for each of `people` `(N,)` the position there."""
    names = sorted(set(people))
    position = {name: at for at, name in enumerate(names)}
    return tuple(names), np.array([position[name] for name in people], np.int64)


def from_names(
    name: str,
    pairs: Sequence[NamedPair],
    folds: Sequence[int],
    photos: Mapping[str, PhotoRef],
    read: Callable[[str], bytes],
) -> PairProtocol:
    """Pairs by name as pairs by position, where `photos` has all names; photos stand in the order of their first use.

    A photo may have several names.
    """
    found = [(photos[a].name, photos[b].name) for a, b, _ in pairs]
    used = {photo: at for at, photo in enumerate(dict.fromkeys(photo for pair in found for photo in pair))}
    person_of = {photo.name: photo.person for photo in photos.values()}
    names, labels = names_and_labels([person_of[photo] for photo in used])
    return PairProtocol(
        name,
        photos=tuple(used),
        labels=labels,
        first=np.array([used[a] for a, _ in found], dtype=np.int64),
        second=np.array([used[b] for _, b in found], dtype=np.int64),
        same=np.array([same for _, _, same in pairs], dtype=bool),
        folds=np.array(folds, dtype=np.int64),
        read=read,
        names=names,
    )
