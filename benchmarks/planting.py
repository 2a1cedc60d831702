"""Defects put on purpose into a copy of a folder of people, and which findings name them.

Two hundred of them: 20 damaged files, 40 exact and 40 near copies (half of each under another name), 50 photos moved to
another person, 25 folders joined with another one, 25 folders divided.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import cv2
import numpy as np

from facespace.data.folder import People, PhotoRef
from facespace.judge.findings import Finding

JOINED, DIVIDED, MOVED, DAMAGED, COPIED = 25, 25, 50, 20, 40
_MOSTLY = 0.8
_HALF = "-b"  # ends the name of the second half of a divided person


class Planted(NamedTuple):
    """A defect: its kind, the photos that are wrong, the name they stand under, and the other name concerned."""

    kind: str
    photos: frozenset[str]
    person: str
    other: str


@dataclass(frozen=True)
class Sick:
    """People with planted defects; `origins` says which photo each one was before."""

    people: People
    planted: tuple[Planted, ...]
    origins: dict[str, str]


class Named(NamedTuple):
    """A finding without its reasons; `person` and `other` are those whose photos most of `photos` and `beside` are."""

    kind: str
    person: str
    other: str
    photos: frozenset[str]
    beside: frozenset[str]


def named(finding: Finding, origins: Mapping[str, str] = MappingProxyType({})) -> Named:
    """A finding without its reasons, under the names that photos and people had before."""
    photos, beside = ([origins.get(photo, photo) for photo in some] for some in (finding.photos, finding.beside))
    person, other = (_most([photo.split("/")[0] for photo in some]) for some in (photos, beside))
    return Named(finding.kind, person, other, frozenset(photos), frozenset(beside))


def _most(names: Sequence[str]) -> str:
    return Counter(names).most_common(1)[0][0] if names else ""


def already_there(finding: Named, before: Collection[Named]) -> bool:
    """Whether it is among the findings of the data before anything was planted."""
    return any(_same(finding, known) for known in before if known.kind == finding.kind)


def _same(a: Named, b: Named) -> bool:
    match a.kind:
        case "near_duplicate":
            return a.photos | a.beside == b.photos | b.beside
        case "split":
            return {a.person, a.other} == {b.person, b.other}
        case "merged":
            return a.person == b.person and _mostly(b.photos, a.photos)
    return (a.person, a.other, a.photos) == (b.person, b.other, b.photos)


def _mostly(expected: frozenset[str], found: Collection[str]) -> bool:
    """Whether nearly all of the photos found are expected ones, or nearly none: the other part of the same two."""
    right = len(expected & set(found)) / len(found)
    return max(right, 1 - right) >= _MOSTLY


def matches(finding: Finding, defect: Planted) -> bool:
    """Whether a finding names a planted defect: its photo, or the people concerned and mostly the right photos."""
    right_owner = set(finding.photos) == defect.photos and finding.other == defect.other
    match defect.kind:
        case "split":
            return finding.kind == "split" and {finding.person, finding.other} == {defect.person, defect.other}
        case "merged":
            return (
                finding.kind == "merged" and finding.person == defect.person and _mostly(defect.photos, finding.photos)
            )
        case "duplicate" | "near_duplicate":
            if finding.kind == "mislabelled":  # a copy under another name, named for that
                return right_owner
            pair = {*finding.photos, *finding.beside}
            return finding.kind == defect.kind and bool(defect.photos & pair) and len(pair) == 2
        case "mislabelled":
            if finding.kind == "near_duplicate":  # a moved photo of which its person has another copy
                return right_owner
    return finding.kind == defect.kind and set(finding.photos) == defect.photos


def plant(people: People, rng: np.random.Generator) -> Sick:
    """A copy with all defects. No person is joined or divided who has another defect; no photo has two."""
    content = {photo.name: people.read(photo) for photo in people.photos}
    names = [str(name) for name in rng.permutation(people.names)]
    photos = {name: [p.name for p in people.photos if p.person == name] for name in names}
    origins: dict[str, str] = {}
    planted = []
    for a, b in zip(names[:JOINED], names[JOINED : 2 * JOINED], strict=True):
        moved = [_move(content, origins, photo, a) for photo in photos[b]]
        planted.append(Planted("merged", frozenset(moved), a, b))
    for a in names[2 * JOINED : 2 * JOINED + DIVIDED]:
        half = [str(photo) for photo in rng.permutation(photos[a])[: len(photos[a]) // 2]]
        moved = [_move(content, origins, photo, a + _HALF) for photo in half]
        planted.append(Planted("split", frozenset(moved), a, a + _HALF))
    plain = names[2 * JOINED + DIVIDED :]
    planted += _single_photos(content, origins, {name: photos[name] for name in plain}, rng)
    refs = sorted((PhotoRef(name.split("/")[0], name) for name in content), key=lambda ref: ref.name)
    return Sick(People(people.root, tuple(refs), content.__getitem__), tuple(planted), origins)


def _single_photos(
    content: dict[str, bytes], origins: dict[str, str], photos: dict[str, list[str]], rng: np.random.Generator
) -> list[Planted]:
    """Photos of these people moved, damaged and copied."""
    plain = list(photos)
    free = [str(photo) for photo in rng.permutation([photo for name in plain for photo in photos[name]])]
    planted = []
    for _ in range(MOVED):
        photo = free.pop()
        away = _move(content, origins, photo, _other(plain, photo, rng))
        planted.append(Planted("mislabelled", frozenset([away]), away.split("/")[0], photo.split("/")[0]))
    for number in range(DAMAGED):
        photo = free.pop()
        content[photo] = damaged(content[photo], number)
        planted.append(Planted("corrupt", frozenset([photo]), photo.split("/")[0], ""))
    for kind, change in (("duplicate", lambda c, n: c), ("near_duplicate", changed)):
        for number in range(COPIED):
            photo = free.pop()
            person = photo.split("/")[0] if number % 2 else _other(plain, photo, rng)
            copy = f"{person}/{kind}-{number}.jpg" if number % 4 < 2 else f"{person}/0-{kind}-{number}.jpg"
            content[copy] = change(content[photo], number // 2)
            origins[copy] = photo
            planted.append(Planted(kind, frozenset([copy]), person, photo.split("/")[0]))
    return planted


def _other(names: Sequence[str], photo: str, rng: np.random.Generator) -> str:
    """Somebody whom the photo does not show."""
    return str(rng.choice([name for name in names if name != photo.split("/")[0]]))


def _move(content: dict[str, bytes], origins: dict[str, str], photo: str, person: str) -> str:
    """File a photo under another name; its new name."""
    name = f"{person}/moved-{photo.replace('/', '-')}"
    content[name] = content.pop(photo)
    origins[name] = photo
    return name


def damaged(jpeg: bytes, number: int) -> bytes:
    """A photo cut off, overwritten, emptied or replaced by text."""
    kinds: list[Callable[[], bytes]] = [
        lambda: jpeg[: len(jpeg) // 2],
        lambda: b"\0" * len(jpeg),
        lambda: b"",
        lambda: b"<html>404</html>",
    ]
    return kinds[number % len(kinds)]()


def changed(jpeg: bytes, number: int) -> bytes:
    """The same picture encoded worse, reduced, brightened, mirrored or with its edges cut."""
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    quality = [cv2.IMWRITE_JPEG_QUALITY, 90]
    match number % 5:
        case 0:
            quality[1] = 35
        case 1:
            picture = cv2.resize(picture, (64, 64), interpolation=cv2.INTER_AREA)
        case 2:
            picture = cv2.convertScaleAbs(picture, alpha=1.15, beta=10)
        case 3:
            picture = picture[:, ::-1]
        case 4:
            picture = picture[2:-2, 2:-2]
    return cv2.imencode(".jpg", picture, quality)[1].tobytes()
