"""`facespace evaluate`: a model judged by a protocol, with every figure's interval and what was refused."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facespace.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from facespace.core.contracts import Detector
    from facespace.judge.protocols import PairProtocol
    from facespace.judge.run import Evaluation, Progress


class ProtocolName(StrEnum):
    """Where the pairs come from."""

    lfw = "lfw"
    folder = "folder"


class DetectorName(StrEnum):
    """Who finds the face in a photo."""

    yunet = "yunet"
    aligned = "aligned"


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("evaluate")(evaluate)


def evaluate(
    model: Annotated[str, typer.Argument(help="Name of a model, or path to .onnx or .safetensors weights.")],
    data: Annotated[Path, typer.Option(help="Photos: a folder person/photo.jpg, or a tar of one.")],
    protocol: Annotated[
        ProtocolName | None, typer.Option(help="lfw takes the list in --pairs; folder makes pairs of any people.")
    ] = None,
    pairs: Annotated[Path | None, typer.Option(help="LFW's pairs.txt.")] = None,
    folds: Annotated[str | None, typer.Option(help="Only these folds of the list, such as 1-3.")] = None,
    seed: Annotated[int, typer.Option(help="Which pairs the protocol folder makes.")] = 0,
    detector: Annotated[DetectorName, typer.Option(help="aligned: the photos are 112x112 crops.")] = DetectorName.yunet,
    detector_weights: Annotated[Path | None, typer.Option(help="ONNX weights of YuNet.")] = None,
    channels: Annotated[str | None, typer.Option(help="Channel order of a model without a card: rgb or bgr.")] = None,
    mean: Annotated[float | None, typer.Option(help="Mean of a model without a card, of pixels 0..255.")] = None,
    std: Annotated[float | None, typer.Option(help="Divisor of a model without a card.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Workers; default one per core.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda; never replaced silently.")] = "cpu",
    report: Annotated[Path | None, typer.Option(help="Write the figures, charts and worst pairs as HTML.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Judge a model: accuracy over folds, TAR and VAL at fixed FAR, EER and AUC, each with its interval."""
    from facespace.judge.report import PICTURES, write_report
    from facespace.judge.run import run
    from facespace.models.embedder import load

    chosen = _protocol(protocol, data, pairs, folds, seed)
    finder = _detector(detector, detector_weights)
    # Workers take photos through all stages side by side, so each embeds on its own thread alone.
    embedder = load(model, threads=1, device=device, channels=channels, mean=mean, std=std)
    with _progress(len(chosen.photos), quiet) as progress:
        pictures = PICTURES if report else 0
        result = run(chosen, embedder, finder, threads=threads, device=device, pictures=pictures, progress=progress)
    if report:
        write_report(result, report, about=embedder.card.as_json())
    _show(result, as_json)


def _protocol(
    name: ProtocolName | None, data: Path, pairs: Path | None, folds: str | None, seed: int
) -> "PairProtocol":
    """The named protocol; unnamed, a list of pairs means LFW's. Contradicting settings are refused."""
    from facespace.judge.protocols import folder, lfw

    if (name or ProtocolName.lfw) is ProtocolName.lfw and pairs:
        return lfw(pairs, data, folds)
    if name is ProtocolName.lfw:
        raise UsageError("the protocol lfw needs its list of pairs", hint="add --pairs pairs.txt")
    if pairs or folds:
        raise UsageError("--pairs and --folds belong to the protocol lfw", hint="leave them out, or --protocol lfw")
    return folder(data, seed)


def _detector(name: DetectorName, weights: Path | None) -> "Detector":
    from facespace.faces.detect import Aligned, YuNet

    if name is DetectorName.yunet:
        return YuNet(weights)
    if weights:
        raise UsageError("--detector aligned has no weights", hint="leave out --detector-weights, or --detector yunet")
    return Aligned()


@contextmanager
def _progress(photos: int, quiet: bool) -> "Iterator[Progress]":
    """A bar on stderr, with speed and the time left."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=quiet, transient=True) as bar:
        task = bar.add_task("photos", total=photos)
        yield lambda done: bar.advance(task, done)


def _show(result: "Evaluation", as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(result.as_json(), ensure_ascii=False, allow_nan=False))
        return
    from rich.console import Console

    Console().print(_table(result))


def _table(result: "Evaluation") -> "Table":
    """The figures, one to a row."""
    from rich.table import Table

    from facespace.judge.report import percent, span

    figures = result.figures
    table = Table(
        "figure", "value", "95 % interval", "achieved FAR", title=f"{result.model['name']}: {_extent(result)}"
    )
    table.add_row("accuracy", percent(figures.accuracy), span(figures.accuracy_ci95), "")
    for name, rates in (("TAR", figures.tar_at_far), ("VAL", figures.val_at_far)):
        for rate in rates:
            value = "refused" if rate.refused else percent(rate.rate)
            table.add_row(f"{name} at FAR {100 * rate.far:g} %", value, span(rate.ci95), percent(rate.achieved_far, 3))
    table.add_row("EER", percent(figures.eer), "", "")
    table.add_row("AUC", f"{figures.auc:.5f}", "", "")
    table.add_row("threshold", f"{figures.threshold:.4f}", "", "")
    table.add_row("photos without a usable face", str(len(result.failures)), "", "")
    table.add_row("photos per second", f"{result.images_per_s:.1f}", "", "")
    reasons = {rate.refused for rate in (*figures.tar_at_far, *figures.val_at_far) if rate.refused}
    table.caption = "\n".join(f"refused: {reason}" for reason in sorted(reasons)) or None
    return table


def _extent(result: "Evaluation") -> str:
    folds = len(result.figures.folds.accuracy)
    return (
        f"{result.protocol.name}, {len(result.scores):,} pairs, {folds} folds, {len(result.protocol.photos):,} photos"
    )
