"""What a doctor finds: each suspicion with its reason, as JSON, as a list to work through, and as cases to look at."""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from facespace.core.contracts import Detector
from facespace.data.folder import People
from facespace.errors import InputError
from facespace.faces.detect import Policy
from facespace.judge.embedding import align_photo
from facespace.judge.sheets import SHOWN, Case, Picture, Side

Kind = Literal["corrupt", "no_face", "duplicate", "near_duplicate", "mislabelled", "merged", "split"]
KINDS: tuple[Kind, ...] = ("corrupt", "no_face", "duplicate", "near_duplicate", "mislabelled", "merged", "split")


@dataclass(frozen=True)
class Finding:
    """A suspicion: `photos` to act upon, under the name `person`; `other` is the other person, if there is one, and
    `beside` photos to compare with. `sure` is 0..1.
    """

    kind: Kind
    sure: float
    person: str
    photos: tuple[str, ...]
    other: str | None
    beside: tuple[str, ...]
    why: str
    act: str


@dataclass(frozen=True)
class Diagnosis:
    """All findings, most of a kind's surest first; what they were judged by; `refused` says what was not checked."""

    findings: tuple[Finding, ...]
    photos_per_person: dict[int, int]
    thresholds: dict[str, Any]
    refused: tuple[str, ...]
    model: dict[str, Any]
    data: dict[str, Any]
    environment: dict[str, Any]

    @property
    def counts(self) -> dict[str, int]:
        """Findings of each kind."""
        found = Counter(finding.kind for finding in self.findings)
        return {kind: found[kind] for kind in KINDS}

    def as_json(self) -> dict[str, Any]:
        """The document of `doctor --json`."""
        return {
            "model": self.model,
            "data": self.data,
            "healthy": not self.findings,
            "counts": self.counts,
            "findings": [asdict(finding) for finding in self.findings],
            "photos_per_person": {str(photos): people for photos, people in self.photos_per_person.items()},
            "thresholds": self.thresholds,
            "refused": list(self.refused),
            "environment": self.environment,
        }

    def as_csv(self) -> str:
        """A row for each photo to act upon: kind, sure, act, photo, person, other, beside, why."""
        stream = io.StringIO()
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(("kind", "sure", "act", "photo", "person", "other", "beside", "why"))
        for f in self.findings:
            beside = f.beside[0] if f.beside else ""
            for photo in f.photos:
                table.writerow((f.kind, f"{f.sure:.3f}", f.act, photo, f.person, f.other or "", beside, f.why))
        return stream.getvalue()


def cases(diagnosis: Diagnosis, people: People, detector: Detector, policy: Policy = "central") -> list[Case]:
    """The findings as cases of a contact sheet; of corrupt photos there is nothing to see."""
    return [
        Case(
            f"{f.kind.replace('_', ' ')}: {f.person}" + (f" and {f.other}" if f.other else ""),
            f"{f.why}; sure {f.sure:.2f}; {f.act}: {', '.join(f.photos[:SHOWN])}",
            (
                Side(f"this, under {f.person}", faces_of(people, f.photos, detector, policy)),
                Side(f"beside {f.other or f.person}", faces_of(people, f.beside, detector, policy)),
            ),
        )
        for f in diagnosis.findings
    ]


def faces_of(people: People, photos: Sequence[str], detector: Detector, policy: Policy) -> list[Picture]:
    """Aligned faces of the first few photos; those without one are left out."""
    found = []
    for name in photos[:SHOWN]:
        try:
            found.append(align_photo(people.read(name), detector, policy))
        except InputError:
            continue
    return found
