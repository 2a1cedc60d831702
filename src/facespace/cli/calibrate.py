"""`facespace calibrate`: thresholds for error rates and the meaning of scores, from people the model has not seen."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facespace.cli import options, shell
from facespace.errors import UsageError

if TYPE_CHECKING:
    from facespace.core.drift import Drift
    from facespace.core.intervals import Interval
    from facespace.judge.calibrate import Calibrated
    from facespace.models.embedder import NetEmbedder

DRIFTED = 1


class Method(StrEnum):
    """How scores become log-likelihood ratios."""

    logistic = "logistic"
    isotonic = "isotonic"


def register(app: typer.Typer) -> None:
    """Add the verb to the application."""
    app.command()(calibrate)


def calibrate(
    model: Annotated[str, typer.Argument(help="Name of a model, or path to .onnx or .safetensors weights.")],
    data: Annotated[
        Path | None,
        typer.Option(help="People whom the model has not learnt from: a folder person/photo.jpg, or a tar of one."),
    ] = None,
    fmr: Annotated[
        list[float] | None, typer.Option(help="A false match rate to find a threshold for; again for more.")
    ] = None,
    method: Annotated[
        Method, typer.Option(help="logistic: a straight line; isotonic: any rising function.")
    ] = Method.logistic,
    write: Annotated[bool, typer.Option("--write", help="Put what is found into the model's card.")] = False,
    check: Annotated[
        Path | None, typer.Option(help="Instead: do scores of these people look like those calibrated on?")
    ] = None,
    detector: options.DetectorOption = options.DetectorName.yunet,
    detector_weights: options.DetectorWeights = None,
    detector_size: options.DetectorSize = 640,
    channels: options.ChannelsOption = None,
    mean: options.Mean = None,
    std: options.Std = None,
    device: options.Device = "cpu",
    threads: options.Threads = None,
    commercial: options.Commercial = False,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Find thresholds for false match rates and what scores mean, with intervals over people; --write keeps them."""
    from facespace.judge import calibrate as room

    if (data is None) == (check is None):
        raise UsageError("either people to calibrate on, or people to check", hint="--data FOLDER, or --check FOLDER")
    if check is not None and (write or fmr):
        raise UsageError("a check finds and writes no thresholds", hint="leave out --fmr and --write")
    # Workers take photos through all stages side by side, so each embeds on its own thread alone.
    embedder = options.open_embedder(
        model, threads=1, device=device, channels=channels, mean=mean, std=std, commercial=commercial
    )
    finder = options.open_detector(detector, weights=detector_weights, size=detector_size, commercial=commercial)
    with shell.progress("photos", quiet=quiet or json) as told:
        if check is not None:
            _answer(room.check(check, embedder, finder, threads=threads, progress=told), embedder, finder.source, json)
            return
        assert data is not None
        if write:
            room.require_same_input(embedder, model)
        found = room.calibrate(
            data, embedder, finder, fmrs=fmr or room.FMRS, method=method.value, threads=threads, progress=told
        )
    if write:
        path = room.write(found, model)
    if json:
        shell.print_json(found.as_json() | {"card": str(path) if write else None})
        return
    _print(found)
    shell.say(f"Written to {path}." if write else "Nothing is written: add --write to keep this in the model's card.")


def _print(found: "Calibrated") -> None:
    from facespace.judge.page import percent, span

    known = found.calibration
    typer.echo(
        f"{found.card.name} on {known.photos:,} photos of {known.people:,} people, faces by {known.detector}: "
        f"{known.genuine_pairs:,} genuine and {known.impostor_pairs:,} impostor pairs\n"
    )
    rows = []
    for point in found.card.operating_points:
        low, high = point.ci95 or (0.0, 0.0)
        rows.append(
            (
                point.at,
                f"{point.threshold:.4f} ({low:.4f} to {high:.4f})",
                _rates(point.fmr_ci95),
                _rates(point.fmr_others95),
                f"{percent(point.fnmr)} ({span(point.fnmr_ci95)})",
            )
        )
    shell.show_table(("at", "threshold, 95 %", "FMR, 95 %", "as many others show", "FNMR, 95 %"), rows)
    typer.echo(f"\nCllr {known.cllr:.4f} bits, of which {known.cllr - known.cllr_min:.4f} by the fit;", nl=False)
    typer.echo(f" log-likelihood ratios are kept within {known.least:.1f} and {known.most:.1f}")
    if found.failures:
        shell.say(f"{len(found.failures)} photos without a usable face took no part.")


def _rates(interval: "Interval | None") -> str:
    """Three digits, however small they are: `0.0738 to 0.135 %`."""
    return "–" if interval is None else f"{100 * interval[0]:.3g} to {100 * interval[1]:.3g} %"


def _answer(found: "Drift", embedder: "NetEmbedder", source: str, json: bool) -> None:
    calibration = embedder.card.calibration
    assert calibration is not None
    if json:
        shell.print_json(
            {
                "alike": found.alike,
                "statistic": found.statistic,
                "limit": found.limit,
                "levels": found.levels,
                "shares": found.shares,
                "detector": source,
                "calibrated_on": {"detector": calibration.detector, "people": calibration.people},
            }
        )
    else:
        verdict = "look like" if found.alike else "do not look like"
        sign = "<=" if found.alike else ">"
        typer.echo(
            f"The scores {verdict} those calibrated on ({found.statistic:.1f} standard errors {sign} {found.limit:.1f})"
        )
    if not found.alike:
        if not json:
            shell.say("Error rates may be others than the card says: calibrate on people like these.")
        raise typer.Exit(DRIFTED)
