"""What is wrong with a folder of people: photos that cannot be used, copies, and names that are doubtful.

What is found is a suspicion with its reason and how sure it is, for somebody who looks at each: nothing is changed.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facespace.core.contracts import Detector, Embedder
from facespace.data.folder import People
from facespace.errors import BadImage, Refused
from facespace.faces.detect import Policy
from facespace.judge.duplicates import CANDIDATE, NEAR, joined, near_copies, same_content
from facespace.judge.embedding import Progress, available_cores
from facespace.judge.environment import describe_environment
from facespace.judge.examine import Examined, examine
from facespace.judge.findings import KINDS, Diagnosis, Finding, Kind
from facespace.judge.likeness import Group, coherences
from facespace.judge.misnamed import Doubts, doubts


def diagnose(
    people: People,
    embedder: Embedder,
    detector: Detector,
    *,
    policy: Policy = "central",
    threads: int | None = None,
    device: str = "cpu",
    progress: Progress = lambda done, total: None,
) -> Diagnosis:
    """Examine all photos and names. What the data are too small to check is named in `refused`."""
    threads = threads or available_cores()
    seen = examine(people, embedder, detector, policy=policy, threads=threads, progress=progress)
    doctor = _Doctor(seen, embedder)
    findings = [*doctor.failures(), *doctor.duplicates(), *doctor.near_duplicates(), *doctor.misnamed()]
    findings.sort(key=lambda finding: (KINDS.index(finding.kind), -finding.sure))
    per_person = Counter(Counter(photo.person for photo in people.photos).values())
    return Diagnosis(
        findings=tuple(findings),
        photos_per_person=dict(sorted(per_person.items())),
        thresholds=doctor.thresholds,
        refused=tuple(doctor.refused),
        model={"name": embedder.name, "contract": embedder.contract, "dim": embedder.dim},
        data={"digest": seen.digest, "images": len(people.photos), "people": len(people.names)},
        environment=describe_environment(threads, device, detector.source, policy),
    )


class _Doctor:
    """Goes from check to check; `left` are the photos that the next one looks at, without failures and copies."""

    def __init__(self, seen: Examined, embedder: Embedder) -> None:
        self.seen = seen
        self.embedder = embedder
        self.names = [photo.name for photo in seen.people.photos]
        self.persons = seen.people.names
        self.labels = seen.people.labels
        self.left = seen.sound
        self.thresholds: dict[str, Any] = {}
        self.refused: list[str] = []

    def failures(self) -> Iterator[Finding]:
        """Photos that are none, and photos without a usable face."""
        for i, failure in self.seen.failures.items():
            corrupt = failure.code == BadImage.code
            kind: Kind = "corrupt" if corrupt else "no_face"
            act = "replace or remove" if corrupt else "look, then crop or remove"
            yield self._finding(kind, 1.0, [i], None, [], failure.message, act)

    def duplicates(self) -> list[Finding]:
        """Photos that are another one byte for byte."""
        groups = [[i for i in group if self.left[i]] for group in same_content(self.seen.digests)]
        found = []
        for group in groups:
            if len(group) > 1:
                kept = self._keep(group)
                found += [self._copy("duplicate", 1.0, i, kept, "the same file") for i in group if i != kept]
        return found

    def near_duplicates(self) -> list[Finding]:
        """Photos that look like another one, to the eye of the fingerprint and to that of the model."""
        at = self._left()
        if not len(at):
            return []
        copies = near_copies(self.seen.prints[at], self.labels[at])
        limit = min(int(np.quantile(copies.strangers, 0.1)) // 2, NEAR)
        alike = self._typical()
        very = None if alike is None else (1 + alike) / 2
        wider = min(3 * limit // 2, CANDIDATE)
        self.thresholds["near_duplicate"] = {
            "bits": limit,
            "similarity": alike,
            "or_bits": wider,
            "or_similarity": very,
        }
        near = [
            (int(at[a]), int(at[b]), int(bits))
            for (a, b), bits in zip(copies.pairs.tolist(), copies.bits.tolist(), strict=True)
            if bits <= wider
            and self._same_picture(int(at[a]), int(at[b]), alike if bits <= limit else very, int(bits) <= limit)
        ]
        nearest: dict[int, int] = {}
        for a, b, bits in near:
            for i in (a, b):
                nearest[i] = min(bits, nearest.get(i, bits))
        found = []
        for group in joined([(a, b) for a, b, _ in near]):
            kept = self._keep(group)
            for i in group:
                if i != kept:
                    sure = 1 - nearest[i] / (2 * max(wider, 1))
                    why = (
                        f"{nearest[i]} of 255 bits from a copy; nine in ten are {2 * limit} or more from any stranger's"
                    )
                    found.append(self._copy("near_duplicate", sure, i, kept, why))
        return found

    def misnamed(self) -> list[Finding]:
        """Names that the model doubts."""
        at = self._left()
        try:
            group, persons = self._group(at)
            doubtful = doubts(group)
        except Refused as error:
            self.refused.append(error.message)
            return []
        self.thresholds |= {
            "split": doubtful.people.as_json(),
            "merged": doubtful.parts.as_json(),
            "mislabelled": {
                **doubtful.photos.as_json(),
                "lead": doubtful.lead,
                "stands_out": doubtful.stands_out,
            },
        }
        return self._doubted(doubtful, at, [int(person) for person in persons])

    def _doubted(self, doubtful: Doubts, at: NDArray[np.int64], persons: Sequence[int]) -> list[Finding]:
        found = []
        for wrong in doubtful.mislabelled:
            who = persons[wrong.person]
            why = f"likeness to its own person {wrong.own:.2f}, to {self.persons[who]} {wrong.near:.2f}"
            i = int(at[wrong.photo])
            found.append(self._finding("mislabelled", wrong.sure, [i], who, self._photos(who), why, "look, then move"))
        for two in doubtful.merged:
            photos = [int(at[i]) for i in two.photos]
            rest = [i for i in self._photos(int(self.labels[photos[0]])) if i not in photos]
            other = None if two.other is None else persons[two.other]
            why = f"{len(photos)} of its photos and the others are alike to {two.likeness:.2f}, like two people"
            found.append(self._finding("merged", two.sure, photos, other, rest, why, "look, then move apart"))
        for one in doubtful.splits:
            a, b = (persons[person] for person in one.people)
            why = f"likeness of the two {one.likeness:.2f}, like halves of one person"
            finding = self._finding("split", one.sure, self._photos(b), a, self._photos(a), why, "look, then join")
            found.append(finding)
        return found

    def _copy(self, kind: Kind, sure: float, i: int, kept: int, why: str) -> Finding:
        """A copy, which is no longer looked at."""
        self.left[i] = False
        other = int(self.labels[kept])
        if other == self.labels[i]:
            return self._finding(kind, sure, [i], None, [kept], why, "remove")
        why = f"{why}, under another name whose photos are more like it"
        return self._finding(kind, sure, [i], other, [kept], why, "look, then remove")

    def _finding(
        self,
        kind: Kind,
        sure: float,
        photos: Sequence[int],
        other: int | None,
        beside: Sequence[int],
        why: str,
        act: str,
    ) -> Finding:
        person = self.persons[self.labels[photos[0]]]
        names, shown = (tuple(self.names[i] for i in some) for some in (photos, beside))
        return Finding(kind, sure, person, names, None if other is None else self.persons[other], shown, why, act)

    def _keep(self, group: Sequence[int]) -> int:
        """Of copies the first under the name whose other photos are most like it."""
        people = sorted({int(self.labels[i]) for i in group})
        if len(people) == 1:
            return group[0]

        def like(person: int) -> float:
            others = [i for i in self._photos(person) if i not in group]
            return max((self._similarity(group[0], i) for i in others), default=-np.inf)

        best = max(people, key=like)
        return next(i for i in group if self.labels[i] == best)

    def _photos(self, person: int) -> list[int]:
        """Photos of a person that are left."""
        return np.flatnonzero((self.labels == person) & self.left).tolist()

    def _left(self) -> NDArray[np.int64]:
        """Positions of the photos that are left, person by person: sorted by name, `a-b/1` would come before `a/1`."""
        at = np.flatnonzero(self.left)
        return at[np.argsort(self.labels[at], kind="stable")]

    def _similarity(self, a: int, b: int) -> float:
        return float(self.embedder.similarity(self.seen.vectors[[a]], self.seen.vectors[[b]])[0, 0])

    def _same_picture(self, a: int, b: int, alike: float | None, unseen: bool) -> bool:
        """Whether the model sees one picture too; `unseen` is the answer where the data do not say what is alike."""
        return unseen if alike is None else self._similarity(a, b) >= alike

    def _typical(self) -> float | None:
        """The typical similarity of two photos of one person; None where the data do not say."""
        try:
            return coherences(self._group(self._left())[0]).typical
        except Refused:
            return None

    def _group(self, at: NDArray[np.int64]) -> tuple[Group, NDArray[np.int64]]:
        """Photos at these positions, sorted by person, and the persons that its labels mean."""
        if not len(at):
            raise Refused("no photo has a usable face: names cannot be checked")
        persons, labels = np.unique(self.labels[at], return_inverse=True)
        return Group(self.seen.vectors[at], labels.astype(np.int64), self.embedder.similarity), persons
