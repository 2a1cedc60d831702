"""Planted defects and identities: how many `doctor` and `audit` find, and what else they name. JSON on stdout.

    python benchmarks/doctor.py CROPS [--model compact] [--seeds 3] [--cache FOLDER] [--sheet natural.html]

Aligned crops of real people (a folder, or a tar). Doctor: 200 defects are planted in a copy in memory: 20 damaged
files, 40 exact and 40 near copies (half of each under another name), 50 photos moved to another person, 25 folders
joined with another one, 25 folders divided. Audit: 100 people stand in both sets under unlike names, half of their
photos in each. What is named without having been planted counts as false, though some of it is wrong in the data
themselves; `already there` counts what is named before anything is planted, and --sheet shows it.
"""

import argparse
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from facespace.core.contracts import AlignedFaces, Vectors
from facespace.data.folder import People, PhotoRef, open_people
from facespace.faces.detect import Aligned
from facespace.judge.audit import audit
from facespace.judge.doctor import Diagnosis, Finding, cases, diagnose
from facespace.judge.environment import describe_environment
from facespace.judge.sheets import page
from facespace.models.embedder import NetEmbedder, load

JOINED, DIVIDED, MOVED, DAMAGED, COPIED, IN_BOTH = 25, 25, 50, 20, 40, 100


class Planted(NamedTuple):
    """A defect: its kind, the photos that are wrong, the name they stand under, and the other name concerned."""

    kind: str
    photos: frozenset[str]
    person: str
    other: str


class Remembering:
    """An embedder that keeps the vectors of faces it has seen, in a file."""

    def __init__(self, inner: NetEmbedder, file: Path | None) -> None:
        self.name, self.dim, self.contract, self.similarity = inner.name, inner.dim, inner.contract, inner.similarity
        self._inner, self._file = inner, file
        self._known: dict[str, Vectors] = {}
        if file and file.exists():
            with np.load(file) as kept:
                self._known = dict(zip(kept["keys"].tolist(), kept["vectors"], strict=True))

    def embed(self, faces: AlignedFaces) -> Vectors:
        keys = [hashlib.sha256(face.tobytes()).hexdigest() for face in faces]
        new = [i for i, key in enumerate(keys) if key not in self._known]
        if new:
            self._known |= dict(zip([keys[i] for i in new], self._inner.embed(faces[new]), strict=True))
        return np.stack([self._known[key] for key in keys])

    def save(self) -> None:
        if self._file:
            np.savez(self._file, keys=list(self._known), vectors=np.stack(list(self._known.values())))


def main() -> None:
    """Plant, look, count."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("crops", type=Path)
    arguments.add_argument("--model", default="compact")
    arguments.add_argument("--seeds", type=int, default=3)
    for option in ("--cache", "--sheet"):
        arguments.add_argument(option, type=Path)
    asked = arguments.parse_args()
    net = load(asked.model, threads=1)
    embedder = Remembering(net, asked.cache and asked.cache / f"{net.name}-{net.contract}.npz")
    people = open_people(asked.crops)
    natural = diagnose(people, embedder, Aligned(), threads=1)
    embedder.save()
    if asked.sheet:
        asked.sheet.write_text(page("already there", embedder.name, cases(natural, people, Aligned())))
    document = {
        "model": natural.model,
        "data": natural.data,
        "already there": natural.counts,
        "doctor": [doctored(people, embedder, natural, seed) for seed in range(asked.seeds)],
        "audit": [audited(people, embedder, seed) for seed in range(asked.seeds)],
        "environment": describe_environment(1, "cpu", "aligned", "central"),
    }
    embedder.save()
    sys.stdout.write(json.dumps(document, indent=1) + "\n")


def doctored(people: People, embedder: Remembering, natural: Diagnosis, seed: int) -> dict[str, Any]:
    """Recall and precision of doctor."""
    sick, planted = plant(people, np.random.default_rng(seed))
    found = diagnose(sick, embedder, Aligned(), threads=1)
    missed = [defect for defect in planted if not any(matches(finding, defect) for finding in found.findings)]
    false = [finding for finding in found.findings if not any(matches(finding, defect) for defect in planted)]
    before = {(finding.kind, finding.person, finding.photos) for finding in natural.findings}
    new = [finding for finding in false if (finding.kind, finding.person, finding.photos) not in before]
    right = len(found.findings) - len(false)
    return {
        "seed": seed,
        "planted": len(planted),
        "recall": 1 - len(missed) / len(planted),
        "precision": right / len(found.findings),
        "precision without what was there": right / (right + len(new)),
        "planted by kind": Counter(defect.kind for defect in planted),
        "missed by kind": Counter(defect.kind for defect in missed),
        "false by kind": Counter(finding.kind for finding in false),
        "new and false by kind": Counter(finding.kind for finding in new),
        "thresholds": found.thresholds,
    }


def matches(finding: Finding, defect: Planted) -> bool:
    """Whether a finding names a planted defect: its photo, or the people concerned and mostly the right photos."""
    match defect.kind:
        case "split":
            return finding.kind == "split" and {finding.person, finding.other} == {defect.person, defect.other}
        case "merged":
            right = len(defect.photos & set(finding.photos)) / len(finding.photos)
            return finding.kind == "merged" and finding.person == defect.person and max(right, 1 - right) >= 0.8
        case "duplicate" | "near_duplicate":
            if finding.kind == "mislabelled":  # a copy under another name, named for that
                return set(finding.photos) == defect.photos and finding.other == defect.other
            pair = {*finding.photos, *finding.beside}
            return finding.kind == defect.kind and bool(defect.photos & pair) and len(pair) == 2
    return finding.kind == defect.kind and set(finding.photos) == defect.photos


def plant(people: People, rng: np.random.Generator) -> tuple[People, list[Planted]]:
    """A copy with 200 defects. No person is joined or divided who has another defect; no photo has two."""
    content = {photo.name: people.read(photo) for photo in people.photos}
    names = [str(name) for name in rng.permutation(people.names)]
    photos = {name: [p.name for p in people.photos if p.person == name] for name in names}
    planted = []
    for a, b in zip(names[:JOINED], names[JOINED : 2 * JOINED], strict=True):
        moved = [move(content, photo, a) for photo in photos[b]]
        planted.append(Planted("merged", frozenset(moved), a, b))
    for a in names[2 * JOINED : 2 * JOINED + DIVIDED]:
        half = [str(photo) for photo in rng.permutation(photos[a])[: len(photos[a]) // 2]]
        planted.append(Planted("split", frozenset(move(content, photo, a + "-b") for photo in half), a, a + "-b"))
    plain = names[2 * JOINED + DIVIDED :]
    free = [str(photo) for photo in rng.permutation([photo for name in plain for photo in photos[name]])]
    other = lambda photo: str(rng.choice([name for name in plain if name != photo.split("/")[0]]))  # noqa: E731
    for _ in range(MOVED):
        photo = free.pop()
        away = move(content, photo, other(photo))
        planted.append(Planted("mislabelled", frozenset([away]), away.split("/")[0], photo.split("/")[0]))
    for number in range(DAMAGED):
        photo = free.pop()
        content[photo] = damaged(content[photo], number)
        planted.append(Planted("corrupt", frozenset([photo]), photo.split("/")[0], ""))
    for kind, change in (("duplicate", lambda c, n: c), ("near_duplicate", changed)):
        for number in range(COPIED):
            photo = free.pop()
            person = photo.split("/")[0] if number % 2 else other(photo)
            copy = f"{person}/{kind}-{number}.jpg" if number % 4 < 2 else f"{person}/0-{kind}-{number}.jpg"
            content[copy] = change(content[photo], number // 2)
            planted.append(Planted(kind, frozenset([copy]), person, photo.split("/")[0]))
    refs = sorted((PhotoRef(name.split("/")[0], name) for name in content), key=lambda ref: ref.name)
    return People(people.root, tuple(refs), content.__getitem__), planted


def move(content: dict[str, bytes], photo: str, person: str) -> str:
    """File a photo under another name; its new name."""
    name = f"{person}/moved-{photo.replace('/', '-')}"
    content[name] = content.pop(photo)
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


def audited(people: People, embedder: Remembering, seed: int) -> dict[str, Any]:
    """Recall and precision of audit: 100 people in both sets under unlike names, the others in one of them."""
    rng = np.random.default_rng(seed)
    names = [str(name) for name in rng.permutation(people.names)]
    both, train_only = set(names[:IN_BOTH]), set(names[IN_BOTH : (IN_BOTH + len(names)) // 2])
    refs: tuple[list[PhotoRef], list[PhotoRef]] = ([], [])
    seen: Counter[str] = Counter()
    for photo in people.photos:
        seen[photo.person] += 1
        test = seen[photo.person] % 2 == 0 if photo.person in both else photo.person not in train_only
        refs[test].append(PhotoRef(f"known-{photo.person}" if test else photo.person, photo.name))
    train, test = (People(people.root, tuple(part), people.read_bytes) for part in refs)
    result = audit(train, test, embedder, Aligned(), threads=1)
    found = {(leak.train, leak.test) for leak in result.leaks}
    right = {(name, f"known-{name}") for name in both}
    return {
        "seed": seed,
        "planted": len(right),
        "recall": len(found & right) / len(right),
        "precision": len(found & right) / len(found),
        "false": len(found - right),
        "thresholds": result.thresholds,
    }


if __name__ == "__main__":
    main()
