"""Who stands in both a training set and a benchmark: by name, by face, and by photo.

A model judged on people it was trained on looks better than it is. Names are compared without case, accents, order and
punctuation, if they have a letter: a number names nobody. Faces are compared by the likeness of people
(`judge.likeness`), with thresholds read from the scores of these sets: a lower one for two people each of whom is the
most alike to the other of all in the other set. People of one name whose faces are not alike are namesakes, no leak.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facespace.core.contracts import Detector, Embedder
from facespace.data.folder import People
from facespace.errors import DataError, Refused
from facespace.faces.detect import Policy
from facespace.judge.embedding import Progress, available_cores
from facespace.judge.environment import describe_environment
from facespace.judge.examine import Examined, examine
from facespace.judge.findings import faces_of
from facespace.judge.likeness import Coherences, Group, coherences, halves, likeness_across
from facespace.judge.misnamed import FEWEST_PEOPLE, Reference, people_reference
from facespace.judge.sheets import Case, Side

_FOUND = 0.98  # of halves of a person reach the threshold
_FALSE_NEAREST = 0.05  # of second nearest people may reach that of people nearest to each other


@dataclass(frozen=True)
class Leak:
    """A person of the training set and one of the benchmark who may be the same.

    `by_name`, `by_face` and `photos` (the same file in both, by the names in the benchmark) say why. `likeness` and
    `sure` (0..1, of the faces alone) are None where faces were not compared.
    """

    train: str
    test: str
    by_name: bool
    by_face: bool
    photos: tuple[str, ...]
    likeness: float | None
    sure: float | None

    @property
    def namesake(self) -> bool:
        """Whether only the name is the same, and the faces were compared."""
        return self.likeness is not None and not (self.by_face or self.photos)


@dataclass(frozen=True)
class Audit:
    """All leaks and namesakes, the most alike faces first; what was compared; `refused` says what was not."""

    leaks: tuple[Leak, ...]
    namesakes: tuple[Leak, ...]
    """People of one name with faces that are not alike: no leaks, but worth a look."""
    compared: dict[str, int]
    thresholds: dict[str, Any]
    refused: tuple[str, ...]
    model: dict[str, Any]
    data: dict[str, Any]
    environment: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """The document of `audit --json`."""
        leaked = len({leak.test for leak in self.leaks})
        return {
            "model": self.model,
            "data": self.data,
            "clean": not self.leaks,
            "people_of_test_in_train": leaked,
            "leaks": [asdict(leak) for leak in self.leaks],
            "namesakes": [asdict(pair) for pair in self.namesakes],
            "compared": self.compared,
            "thresholds": self.thresholds,
            "refused": list(self.refused),
            "environment": self.environment,
        }


def audit(
    train: People,
    test: People,
    embedder: Embedder,
    detector: Detector,
    *,
    policy: Policy = "central",
    threads: int | None = None,
    device: str = "cpu",
    progress: Progress = lambda done, total: None,
) -> Audit:
    """Compare all people of two sets. DataError where a set has not one photo with a usable face."""
    threads = threads or available_cores()
    whole = len(train.photos) + len(test.photos)
    sides = [
        examine(train, embedder, detector, policy=policy, threads=threads, progress=lambda n, _: progress(n, whole)),
        examine(
            test,
            embedder,
            detector,
            policy=policy,
            threads=threads,
            progress=lambda n, _: progress(len(train.photos) + n, whole),
        ),
    ]
    faces = [_Faces.of(side, embedder) for side in sides]
    refused: list[str] = []
    thresholds: dict[str, Any] = {}
    likeness = np.full((len(train.names), len(test.names)), np.nan, np.float32)
    alike = np.zeros(likeness.shape, bool)
    reference = None
    try:
        between, reference, nearest = _by_face(*faces)
        compared = np.ix_(faces[0].persons, faces[1].persons)
        likeness[compared] = between
        thresholds |= {"people": reference.as_json(), "people_nearest_to_each_other": nearest.as_json()}
        alike[compared] = alike_people(between, reference.threshold, nearest.threshold)
    except Refused as error:
        refused.append(error.message)
    suspected = _suspected(sides, likeness, alike, reference)
    return Audit(
        leaks=tuple(pair for pair in suspected if not pair.namesake),
        namesakes=tuple(pair for pair in suspected if pair.namesake),
        compared={
            "train_people": len(train.names),
            "train_photos": len(train.photos),
            "train_photos_without_a_face": len(sides[0].failures),
            "test_people": len(test.names),
            "test_photos": len(test.photos),
            "test_photos_without_a_face": len(sides[1].failures),
            "pairs_of_people_by_face": int(np.isfinite(likeness).sum()),
        },
        thresholds=thresholds,
        refused=tuple(refused),
        model={"name": embedder.name, "contract": embedder.contract, "dim": embedder.dim},
        data={"train": sides[0].digest, "test": sides[1].digest},
        environment=describe_environment(threads, device, detector.source, policy),
    )


def normalised(name: str) -> str:
    """A name without case, accents, punctuation and order: `Bush, José W.` and `jose_w_bush` are one."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", name.rsplit("/", 1)[-1]) if not unicodedata.combining(c))
    words = "".join(c if c.isalnum() else " " for c in plain.casefold()).split()
    return " ".join(sorted(words))


@dataclass(frozen=True)
class _Faces:
    """The vectors of a side, and the persons, by label in the folder, that their labels mean."""

    group: Group
    persons: NDArray[np.int64]

    @classmethod
    def of(cls, side: Examined, embedder: Embedder) -> "_Faces":
        at = np.flatnonzero(side.sound)
        if not len(at):
            raise DataError("not one photo has a usable face", file=side.people.root, hint="person/photo.jpg")
        at = at[np.argsort(side.people.labels[at], kind="stable")]
        persons, labels = np.unique(side.people.labels[at], return_inverse=True)
        return cls(Group(side.vectors[at], labels.astype(np.int64), embedder.similarity), persons)


def _by_face(train: _Faces, test: _Faces) -> tuple[NDArray[np.float32], Reference, Reference]:
    """Likenesses `(P, Q)`, and the references for them, of any two people and of two who are nearest to each other:
    halves of people of both sets; second nearest people.
    """
    several = int((train.group.counts >= 4).sum() + (test.group.counts >= 4).sum())
    if several < FEWEST_PEOPLE or min(len(train.persons), len(test.persons)) < 2:
        raise Refused(
            f"{several} people have four photos or more: faces are compared from {FEWEST_PEOPLE} such people on, "
            "and two in each set",
            hint="give more people; names and files were compared",
        )
    found = [_coherences(side.group) for side in (train, test)]
    known = [coherence for coherence in found if coherence is not None]
    of_train, of_test = (
        coherence or _borrowed(known[0], side) for coherence, side in zip(found, (train, test), strict=True)
    )
    same = np.concatenate([halves(train.group, of_train), halves(test.group, of_test)])
    between = likeness_across(train.group, test.group, of_train, of_test)
    # Who of the training set is second nearest to each person of the benchmark; never the diagonal of a square.
    rows = between.T if len(train.persons) >= len(test.persons) else between
    any_two = people_reference(rows, same, _FOUND, square=False)
    return between, any_two, people_reference(rows, same, _FOUND, _FALSE_NEAREST, square=False)


def alike_people(between: NDArray[np.float32], any_two: float, nearest: float) -> NDArray[np.bool_]:
    """Which people `(P, Q)` pass the threshold for any two, or are nearest to each other and pass that for those."""
    mutual = (between == between.max(0)) & (between == between.max(1, keepdims=True))
    return np.asarray((between >= any_two) | (mutual & (between >= nearest)))


def _coherences(group: Group) -> Coherences | None:
    """None for a set with one photo a person."""
    return coherences(group) if (group.counts > 1).any() else None


def _borrowed(coherence: Coherences, side: _Faces) -> Coherences:
    """What is typical of the other set, for people with one photo each."""
    return Coherences(np.full(len(side.persons), coherence.typical), coherence.typical)


def _suspected(
    sides: Sequence[Examined],
    likeness: NDArray[np.float32],
    alike: NDArray[np.bool_],
    reference: Reference | None,
) -> list[Leak]:
    """Everybody with a name, a face or a file in both sets."""
    train, test = (side.people.names for side in sides)
    by_name = same_names(train, test)
    by_face = {(int(i), int(j)) for i, j in np.argwhere(alike)}
    files = _same_files(*sides)
    found = []
    for i, j in by_name | by_face | files.keys():
        score = float(likeness[i, j]) if np.isfinite(likeness[i, j]) else None
        sure = None if score is None or reference is None else reference.same(score)
        shared = tuple(files.get((i, j), ()))
        found.append(Leak(train[i], test[j], (i, j) in by_name, (i, j) in by_face, shared, score, sure))
    return sorted(found, key=lambda leak: (-(leak.likeness or 0.0), leak.test, leak.train))


def same_names(train: Sequence[str], test: Sequence[str]) -> set[tuple[int, int]]:
    """Positions of those whose names are one when `normalised`, and have a letter."""
    named: dict[str, list[int]] = {}
    for i, name in enumerate(train):
        named.setdefault(normalised(name), []).append(i)
    plain = [normalised(name) for name in test]
    return {(i, j) for j, name in enumerate(plain) if any(c.isalpha() for c in name) for i in named.get(name, ())}


def _same_files(train: Examined, test: Examined) -> dict[tuple[int, int], list[str]]:
    """Photos of the benchmark that are in the training set byte for byte, by the persons there and here."""
    owners: dict[bytes, set[int]] = {}
    for i, label in enumerate(train.people.labels.tolist()):
        if i not in train.failures:
            owners.setdefault(train.digests[i], set()).add(label)
    found: dict[tuple[int, int], list[str]] = {}
    for j, label in enumerate(test.people.labels.tolist()):
        for owner in owners.get(test.digests[j], ()):
            found.setdefault((owner, label), []).append(test.people.photos[j].name)
    return found


def cases(result: Audit, train: People, test: People, detector: Detector, policy: Policy = "central") -> list[Case]:
    """The leaks as cases of a contact sheet, then the namesakes."""
    return [
        Case(
            f"{leak.train} (train) and {leak.test} (test)",
            reason(leak),
            [
                Side(side, faces_of(people, [p.name for p in people.photos if p.person == name], detector, policy))
                for side, people, name in (("train", train, leak.train), ("test", test, leak.test))
            ],
        )
        for leak in (*result.leaks, *result.namesakes)
    ]


def reason(leak: Leak) -> str:
    """Why two people are suspected, in words."""
    said = ["the same name"] if leak.by_name else []
    if leak.likeness is not None:
        faces = "alike" if leak.by_face else "not alike enough"
        said.append(f"faces {faces} ({leak.likeness:.2f}, sure {leak.sure or 0:.2f})")
    if leak.photos:
        said.append(f"{len(leak.photos)} files in both")
    return "; ".join(said)
