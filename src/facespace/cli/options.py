"""Options that several verbs share, and the model and detector that they stand for."""

import math
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facespace.errors import UsageError

if TYPE_CHECKING:
    from facespace.core.contracts import Detector
    from facespace.models.embedder import NetEmbedder
    from facespace.models.flipped import Flipped


class DetectorName(StrEnum):
    """Who finds the faces."""

    yunet = "yunet"
    aligned = "aligned"


class Channels(StrEnum):
    """Order of the channels a network takes."""

    rgb = "rgb"
    bgr = "bgr"


class Policy(StrEnum):
    """Which faces of a photo to take."""

    refuse = "refuse"
    largest = "largest"
    central = "central"
    all = "all"


class Ties(StrEnum):
    """What becomes of a pair exactly at a threshold."""

    accept = "accept"
    reject = "reject"


class Flip(StrEnum):
    """Whether the mirror image of a face takes part."""

    off = "off"
    sum = "sum"
    concat = "concat"


def _divisor(std: float | None) -> float | None:
    """What was stated; UsageError unless pixels can be divided by it."""
    if std is not None and not 0 < std < math.inf:
        raise UsageError(f"--std {std:g}: pixels are divided by it", hint="a number above 0, such as 127.5")
    return std


Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No notes and no progress.")]
Model = Annotated[str, typer.Option("--model", "-m", help="Name of a model, or path to .onnx or .safetensors.")]
Device = Annotated[str, typer.Option("--device", help="cpu or cuda; nothing falls back silently.")]
PER_CORE = 4
"""Threads that a core may be asked to share: more only take turns, and each holds a photo or a stack."""


def few_threads(asked: int | None) -> int | None:
    """What was asked; UsageError for more threads than `PER_CORE` for each core."""
    if asked is not None and asked > 1:
        from facespace.judge.embedding import available_cores

        cores = available_cores()
        if asked > PER_CORE * cores:
            message = f"{asked} threads, but {counted(cores, 'core')}"
            raise UsageError(message, hint=f"{PER_CORE * cores} at most, {PER_CORE} for each core")
    return asked


def counted(number: int, thing: str) -> str:
    """`1 core`, `2 cores`."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


Threads = Annotated[
    int | None, typer.Option("--threads", min=1, callback=few_threads, help="Workers; one per core unless given.")
]
DetectorOption = Annotated[DetectorName, typer.Option("--detector", help="yunet for photos, aligned for crops.")]
DetectorWeights = Annotated[Path | None, typer.Option("--detector-weights", help="YuNet's weights, by path.")]
DetectorSize = Annotated[
    int, typer.Option("--detector-size", min=32, help="Pixels of the larger side that the detector sees.")
]
ChannelsOption = Annotated[Channels | None, typer.Option("--channels", help="For a model without a card.")]
Mean = Annotated[float | None, typer.Option("--mean", help="For a model without a card; of pixels 0..255.")]
Std = Annotated[
    float | None,
    typer.Option("--std", callback=_divisor, help="For a model without a card; of pixels 0..255, more than 0."),
]
TiesOption = Annotated[Ties, typer.Option("--ties", help="Whether a pair exactly at a threshold is accepted.")]
FlipOption = Annotated[
    Flip,
    typer.Option(
        "--flip",
        help="sum: add the raw features of the mirrored face, at twice the time. concat: set both vectors side by "
        "side, at twice the time and twice the bytes.",
    ),
]
Commercial = Annotated[
    bool, typer.Option("--commercial", help="Refuse weights whose card does not allow commercial use.")
]


def check_place(path: Path) -> None:
    """UsageError, before any work is done, for a file that is a folder, or would lie below a file."""
    if path.is_dir():
        raise UsageError("is a folder, and a file is to be written", file=path, hint="name a file in it")
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir():
        raise UsageError("is not a folder", file=above, hint=f"name another place than {path}")


def open_embedder(
    model: str,
    *,
    threads: int | None,
    device: str,
    channels: Channels | None,
    mean: float | None,
    std: float | None,
    commercial: bool,
) -> "NetEmbedder":
    """The model that the options name; Refused where `commercial` and its card does not allow it."""
    from facespace.models.card import require_commercial
    from facespace.models.embedder import load

    order = channels.value if channels else None
    embedder = load(model, threads=threads, device=device, channels=order, mean=mean, std=std)
    if commercial:
        require_commercial(embedder.card)
    return embedder


def mirrored(net: "NetEmbedder", flip: Flip) -> "NetEmbedder | Flipped":
    """The model as it looks at faces, and at their mirror images where this is asked for."""
    from facespace.models.flipped import Flipped

    return net if flip is Flip.off else Flipped(net, "concat" if flip is Flip.concat else "sum")


def open_detector(name: DetectorName, *, weights: Path | None, size: int, commercial: bool) -> "Detector":
    """The detector that the options name.

    Refused where `commercial` and no card of its weights allows it; UsageError for weights that nothing would use.
    """
    from facespace.faces.detect import WEIGHTS, Aligned, YuNet
    from facespace.faces.home import models_folder

    if name is DetectorName.aligned:
        if weights is not None:
            raise UsageError("faces are aligned already, and no detector looks", hint="leave out --detector-weights")
        return Aligned()
    detector = YuNet(weights, working_size=size)
    if commercial:
        from facespace.models.zoo import require_commercial_weights

        require_commercial_weights(weights or models_folder() / WEIGHTS)
    return detector
