"""`facespace evaluate`: a model judged by a protocol, with every figure's interval and what was refused."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facespace.cli import options, shell
from facespace.errors import UsageError

if TYPE_CHECKING:
    from facespace.judge.protocols import PairProtocol
    from facespace.judge.retrieval import RetrievalEvaluation, RetrievalProtocol
    from facespace.judge.run import Evaluation


class ProtocolName(StrEnum):
    """What is asked of the model: pairs from LFW's list or made from a folder, or to find the like of every photo."""

    lfw = "lfw"
    folder = "folder"
    retrieval = "retrieval"


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("evaluate")(evaluate)


def evaluate(
    model: Annotated[str, typer.Argument(help="Name of a model, or path to .onnx or .safetensors weights.")],
    data: Annotated[Path, typer.Option(help="Photos: a folder person/photo.jpg, or a tar of one.")],
    protocol: Annotated[
        ProtocolName | None,
        typer.Option(
            help="lfw takes the list in --pairs; folder makes pairs of any people; retrieval looks for the like of "
            "every photo among all others."
        ),
    ] = None,
    pairs: Annotated[Path | None, typer.Option(help="LFW's pairs.txt.")] = None,
    folds: Annotated[str | None, typer.Option(help="Only these folds of the list, such as 1-3.")] = None,
    seed: Annotated[int, typer.Option(help="Which pairs the protocol folder makes.")] = 0,
    detector: options.DetectorOption = options.DetectorName.yunet,
    detector_weights: options.DetectorWeights = None,
    detector_size: options.DetectorSize = 640,
    channels: options.ChannelsOption = None,
    mean: options.Mean = None,
    std: options.Std = None,
    threads: options.Threads = None,
    device: options.Device = "cpu",
    commercial: options.Commercial = False,
    report: Annotated[Path | None, typer.Option(help="Write the figures, charts and worst pairs as HTML.")] = None,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Judge a model by pairs (accuracy over folds, TAR and VAL at fixed FAR, EER, AUC) or by retrieval (Recall@K).

    Every share comes with its interval.
    """
    from facespace.judge.report import PICTURES, write_report
    from facespace.judge.retrieval import RetrievalProtocol, run_retrieval
    from facespace.judge.run import Evaluation, run

    chosen = _protocol(protocol, data, pairs, folds, seed)
    if report and isinstance(chosen, RetrievalProtocol):
        raise UsageError("a report shows pairs, and retrieval has none", hint="leave out --report; --json holds it all")
    finder = options.open_detector(detector, weights=detector_weights, size=detector_size, commercial=commercial)
    # Workers take photos through all stages side by side, so each embeds on its own thread alone.
    embedder = options.open_embedder(
        model, threads=1, device=device, channels=channels, mean=mean, std=std, commercial=commercial
    )
    result: Evaluation | RetrievalEvaluation
    with shell.progress("photos", quiet=quiet) as progress:
        if isinstance(chosen, RetrievalProtocol):
            result = run_retrieval(chosen, embedder, finder, threads=threads, device=device, progress=progress)
        else:
            pictures = PICTURES if report else 0
            result = run(chosen, embedder, finder, threads=threads, device=device, pictures=pictures, progress=progress)
    if report and isinstance(result, Evaluation):
        write_report(result, report, about=embedder.card.as_json())
    if json:
        shell.print_json(result.as_json())
    elif isinstance(result, Evaluation):
        _print(result)
    else:
        _print_retrieval(result)


def _protocol(
    name: ProtocolName | None, data: Path, pairs: Path | None, folds: str | None, seed: int
) -> "PairProtocol | RetrievalProtocol":
    """The named protocol; unnamed, a list of pairs means LFW's. Contradicting settings are refused."""
    from facespace.judge.protocols import folder, lfw
    from facespace.judge.retrieval import retrieval

    if (name or ProtocolName.lfw) is ProtocolName.lfw and pairs:
        return lfw(pairs, data, folds)
    if name is ProtocolName.lfw:
        raise UsageError("the protocol lfw needs its list of pairs", hint="add --pairs pairs.txt")
    if pairs or folds:
        raise UsageError("--pairs and --folds belong to the protocol lfw", hint="leave them out, or --protocol lfw")
    return retrieval(data) if name is ProtocolName.retrieval else folder(data, seed)


def _print(result: "Evaluation") -> None:
    """The figures, one to a row; why others are missing, to stderr."""
    folds = len(result.figures.folds.accuracy)
    protocol = f"{result.protocol.name}, {len(result.scores):,} pairs in {folds} folds"
    typer.echo(f"{result.model['name']} on {protocol}, {len(result.protocol.photos):,} photos\n")
    shell.show_table(("figure", "value", "95 % interval", "achieved FAR"), _rows(result))
    figures = result.figures
    for reason in sorted({rate.refused for rate in (*figures.tar_at_far, *figures.val_at_far) if rate.refused}):
        shell.say(f"Refused: {reason}.")


def _rows(result: "Evaluation") -> list[tuple[str, str, str, str]]:
    from facespace.judge.report import percent, span

    figures = result.figures
    rates = [("TAR", rate) for rate in figures.tar_at_far] + [("VAL", rate) for rate in figures.val_at_far]
    at_far = [
        (
            f"{name} at FAR {100 * rate.far:g} %",
            "refused" if rate.refused else percent(rate.rate),
            span(rate.ci95),
            percent(rate.achieved_far, 3),
        )
        for name, rate in rates
    ]
    return [
        ("accuracy", percent(figures.accuracy), span(figures.accuracy_ci95), ""),
        *at_far,
        ("EER", percent(figures.eer), "", ""),
        ("AUC", f"{figures.auc:.5f}", "", ""),
        ("threshold", f"{figures.threshold:.4f}", "", ""),
        ("photos without a usable face", str(len(result.failures)), "", ""),
        ("photos per second", f"{result.images_per_s:.1f}", "", ""),
    ]


def _print_retrieval(result: "RetrievalEvaluation") -> None:
    """As `_print`."""
    from facespace.judge.report import percent, span

    queries = f"{len(result.ranks.queries):,} queries among {len(result.protocol.photos):,} photos"
    typer.echo(f"{result.model['name']} on {result.protocol.name}, {queries} of {result.protocol.people:,} people\n")
    shown = [recall for recall in result.recall_at if not recall.refused]
    rows = [(f"recall at {recall.k:,}", percent(recall.recall), span(recall.ci95)) for recall in shown]
    rows += [
        ("mean average precision at R", percent(result.map_at_r), span(result.map_at_r_ci95)),
        ("photos without a mate, left out", str(result.ranks.alone), ""),
        ("photos without a usable face", str(len(result.failures)), ""),
        ("photos per second", f"{result.images_per_s:.1f}", ""),
    ]
    shell.show_table(("figure", "value", "95 % interval"), rows)
    for refused in (recall for recall in result.recall_at if recall.refused):
        shell.say(f"Refused: recall at {refused.k:,}: {refused.refused}.")
