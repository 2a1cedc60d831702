"""What the options of `facespace evaluate` ask of a protocol."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from facespace.judge.identification import Enrolment


class ProtocolName(StrEnum):
    """What is asked of the model: pairs from a list or made from a folder, or to find the like of every photo."""

    lfw = "lfw"
    lfw_people = "lfw-people"
    pairs = "pairs"
    bin = "bin"
    cfp_ff = "cfp-ff"
    cfp_fp = "cfp-fp"
    rfw = "rfw"
    ijbb = "ijbb"
    ijbc = "ijbc"
    ijbb_1n = "ijbb-1n"
    ijbc_1n = "ijbc-1n"
    ytf = "ytf"
    tinyface = "tinyface"
    folder = "folder"
    retrieval = "retrieval"
    clustering = "clustering"
    identification = "identification"


class Pick(StrEnum):
    """Which photos enrol a person."""

    first = "first"
    drawn = "drawn"


class Quality(StrEnum):
    """By what a photo counts for more in its template."""

    none = "none"
    score = "score"


class Average(StrEnum):
    """What is averaged where videos are compared."""

    embedding = "embedding"
    score = "score"


Protocol = Annotated[
    ProtocolName | None,
    typer.Option(
        help="lfw, lfw-people, rfw and pairs (a CSV) take the list in --pairs. As --data, bin takes a .bin file; "
        "cfp-ff and cfp-fp CFP's folder; ijbb and ijbc (pairs), ijbb-1n and ijbc-1n (galleries) that of IJB-B or "
        "IJB-C; ytf YouTube Faces'; tinyface TinyFace's. Of any people, folder makes pairs, retrieval looks for the "
        "like of every photo among all others, identification searches a gallery of some, clustering sorts all."
    ),
]
Pairs = Annotated[
    Path | None,
    typer.Option(
        help="LFW's pairs.txt or people.txt, RFW's list of a group or folder txts, a CSV a,b,same[,fold], or another "
        "list for ytf than splits.txt."
    ),
]
Folds = Annotated[str | None, typer.Option(help="Only these folds of the list, such as 1-3.")]
Seed = Annotated[int, typer.Option(min=0, help="Which pairs the protocol folder makes, and who is enrolled.")]
Enrol = Annotated[int, typer.Option(min=1, help="Identification: photos that enrol a person.")]
PickOption = Annotated[Pick, typer.Option("--pick", help="Identification: the first of them by name, or drawn.")]
Nonmates = Annotated[
    float, typer.Option(help="Identification: share of the people who are not enrolled, from 0 to below 1.")
]
Rank = Annotated[int, typer.Option(min=1, help="Identification: the mate must be among so many candidates.")]
Distractors = Annotated[
    Path | None, typer.Option(help="Identification: another folder or tar, whose people stand in the gallery.")
]
QualityOption = Annotated[
    Quality, typer.Option("--quality", help="Templates: photos count alike, or by the detector's score.")
]
Frames = Annotated[
    int, typer.Option(min=1, max=1000, help="ytf: the first so many frames of a video; papers take 100 or 1000.")
]
AverageOption = Annotated[
    Average,
    typer.Option("--average", help="ytf: mean vectors are compared, or the scores of all pairs of frames averaged."),
]


@dataclass(frozen=True)
class Asked:
    """What the options say of a protocol."""

    data: Path
    pairs: Path | None
    folds: str | None
    seed: int
    enrolment: "Enrolment"
    distractors: Path | None
    quality: Quality = Quality.none
    frames: int = 100
    average: Average = Average.embedding

    def given(self) -> set[str]:
        """Options that stand in the command and belong to some protocols only."""
        from facespace.judge.identification import Enrolment

        own, plain = self.enrolment, Enrolment(seed=self.enrolment.seed)
        stand = {
            "--pairs": self.pairs is not None,
            "--folds": self.folds is not None,
            "--enrol": own.photos != plain.photos,
            "--pick": own.pick != plain.pick,
            "--nonmates": own.nonmates != plain.nonmates,
            "--rank": own.rank != plain.rank,
            "--distractors": self.distractors is not None,
            "--quality": self.quality is not Quality.none,
            "--frames": self.frames != 100,
            "--average": self.average is not Average.embedding,
        }
        return {option for option, stands in stand.items() if stands}
