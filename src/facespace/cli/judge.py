"""`facespace evaluate`: a model judged by a protocol, with every figure's interval and what was refused."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from facespace.cli import options, protocols, shell
from facespace.errors import BadCard, UsageError

if TYPE_CHECKING:
    from facespace.judge.compatibility import CompatibilityEvaluation, Gap
    from facespace.judge.figures import Figures, RateAtFar
    from facespace.judge.retrieval import RetrievalEvaluation
    from facespace.judge.run import Evaluation
    from facespace.models.embedder import NetEmbedder
    from facespace.models.flipped import Flipped


class Ties(StrEnum):
    """What becomes of a pair exactly at a threshold."""

    accept = "accept"
    reject = "reject"


class Flip(StrEnum):
    """Whether the mirror image of a face takes part."""

    off = "off"
    sum = "sum"
    concat = "concat"


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("evaluate")(evaluate)


def evaluate(
    model: Annotated[str, typer.Argument(help="Name of a model, or path to .onnx or .safetensors weights.")],
    data: Annotated[Path, typer.Option(help="Photos: a folder person/photo.jpg, or a tar of one.")],
    protocol: protocols.Protocol = None,
    pairs: protocols.Pairs = None,
    folds: protocols.Folds = None,
    seed: protocols.Seed = 0,
    enrol: protocols.Enrol = 1,
    pick: protocols.PickOption = protocols.Pick.first,
    nonmates: protocols.Nonmates = 0.5,
    rank: protocols.Rank = 1,
    distractors: protocols.Distractors = None,
    quality: protocols.QualityOption = protocols.Quality.none,
    groups: Annotated[
        Path | None,
        typer.Option(help="A CSV of person (or photo) and any other columns, such as age: errors for each group."),
    ] = None,
    compatible_with: Annotated[
        str | None,
        typer.Option(
            help="An older model, by name or path, with its card: may vectors of the two be compared with each other?"
        ),
    ] = None,
    flip: Annotated[
        Flip,
        typer.Option(
            help="sum: add the raw features of the mirrored face, at twice the time. concat: set both vectors side by "
            "side, at twice the time and twice the bytes."
        ),
    ] = Flip.off,
    threshold: Annotated[
        float | None,
        typer.Option(help="Similarity at which the clusters of --protocol clustering join; the card's unless given."),
    ] = None,
    ties: Annotated[Ties, typer.Option(help="Whether a pair exactly at a threshold is accepted.")] = Ties.accept,
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
    """Judge a model by pairs (accuracy over folds, TAR and VAL at fixed FAR, EER, AUC), by retrieval (Recall@K) or by
    identification (rank-k, TPIR at fixed FPIR, thresholds by the size of the gallery).

    Every share comes with its interval. With --compatible-with two models are judged together.
    """
    from facespace.cli.clustering import print_clustering
    from facespace.cli.galleries import print_galleries
    from facespace.cli.identification import print_groups, print_identification
    from facespace.judge.clustering import ClusteringEvaluation, ClusteringProtocol, run_clustering
    from facespace.judge.compatibility import CompatibilityEvaluation, run_compatibility
    from facespace.judge.galleries import GalleryEvaluation, GalleryProtocol, run_galleries
    from facespace.judge.groups import as_json, pair_differentials, read_groups
    from facespace.judge.identification import Enrolment, IdentificationProtocol
    from facespace.judge.measures import recipe_of
    from facespace.judge.page import check_report
    from facespace.judge.paired import PICTURES
    from facespace.judge.report import Report
    from facespace.judge.retrieval import RetrievalEvaluation, RetrievalProtocol, run_retrieval
    from facespace.judge.run import Evaluation, run
    from facespace.judge.searching import IdentificationEvaluation, run_identification
    from facespace.models.shelf import find_weights

    enrolment = Enrolment(enrol, pick.value, nonmates, rank, seed)
    asked = protocols.Asked(data, pairs, folds, seed, enrolment, distractors, quality)
    chosen = protocols.open_protocol(protocol, asked)
    if compatible_with:
        protocols.require_photos(chosen)
    if report and compatible_with:
        raise UsageError("a report shows one model, not two", hint="leave out --report; --json holds it all")
    if report:
        check_report(report)
    if threshold is not None and not isinstance(chosen, ClusteringProtocol):
        raise UsageError("--threshold joins clusters; pairs find their own", hint="--protocol clustering")
    if isinstance(chosen, RetrievalProtocol | ClusteringProtocol | IdentificationProtocol | GalleryProtocol):
        _check_retrieval(compatible_with, ties)
    if report and isinstance(chosen, GalleryProtocol):
        raise UsageError(f"{chosen.name} has no page", hint="leave out --report; --json holds it all")
    if groups and (compatible_with or isinstance(chosen, RetrievalProtocol | ClusteringProtocol | GalleryProtocol)):
        raise UsageError("groups belong to pairs or searches judged by one model", hint="leave out --groups")
    table = read_groups(groups) if groups else None
    detector = protocols.detector_of(chosen, detector)
    finder = options.open_detector(detector, weights=detector_weights, size=detector_size, commercial=commercial)
    # Workers take photos through all stages side by side, so each embeds on its own thread alone.
    net = options.open_embedder(
        model, threads=1, device=device, channels=channels, mean=mean, std=std, commercial=commercial
    )
    embedder = _seen(net, flip)
    older = None if compatible_with is None else _seen(_open_older(compatible_with, model, device, commercial), flip)
    result: (
        Evaluation
        | RetrievalEvaluation
        | ClusteringEvaluation
        | IdentificationEvaluation
        | GalleryEvaluation
        | CompatibilityEvaluation
    )
    with shell.progress("photos", quiet=quiet) as progress:
        how: Any = {"threads": threads, "device": device, "progress": progress}
        if isinstance(chosen, RetrievalProtocol):
            result = run_retrieval(chosen, embedder, finder, **how)
        elif isinstance(chosen, ClusteringProtocol):
            result = run_clustering(chosen, embedder, finder, threshold=threshold, **how)
        elif isinstance(chosen, IdentificationProtocol):
            result = run_identification(chosen, embedder, finder, groups=table, **how)
        elif isinstance(chosen, GalleryProtocol):
            result = run_galleries(chosen, embedder, finder, **how)
        elif older is not None:
            result = run_compatibility(chosen, older, embedder, finder, ties=ties.value, **how)
        else:
            result = run(chosen, embedder, finder, ties=ties.value, pictures=PICTURES if report else 0, **how)
    measured = pair_differentials(result, table) if table and isinstance(result, Evaluation) else None
    if report and not isinstance(result, CompatibilityEvaluation | GalleryEvaluation):
        recipe = recipe_of(find_weights(model))
        Report(result, about=net.card.as_json(), recipe=recipe, groups=measured).write(report)
    if json:
        shell.print_json(result.as_json() | ({"groups": as_json(measured)} if isinstance(result, Evaluation) else {}))
    elif isinstance(result, Evaluation):
        _print(result)
        print_groups(measured)
    elif isinstance(result, IdentificationEvaluation):
        print_identification(result)
    elif isinstance(result, RetrievalEvaluation):
        _print_retrieval(result)
    elif isinstance(result, ClusteringEvaluation):
        print_clustering(result)
    elif isinstance(result, GalleryEvaluation):
        print_galleries(result)
    else:
        _print_compatibility(result)


def _check_retrieval(compatible_with: str | None, ties: Ties) -> None:
    """UsageError for options that make sense for pairs alone."""
    if compatible_with:
        raise UsageError("compatibility is judged by pairs", hint="--protocol folder, or lfw")
    if ties is Ties.reject:
        raise UsageError("no pairs, so no ties at their threshold", hint="leave out --ties")


def _seen(net: "NetEmbedder", flip: Flip) -> "NetEmbedder | Flipped":
    """The model as it looks at faces."""
    from facespace.models.flipped import Flipped

    return net if flip is Flip.off else Flipped(net, "concat" if flip is Flip.concat else "sum")


def _open_older(name: str, model: str, device: str, commercial: bool) -> "NetEmbedder":
    """The older model, whose card must lie beside it: options that state preprocessing mean `model`."""
    from facespace.models.card import card_path
    from facespace.models.shelf import find_weights

    weights = find_weights(name)
    if not card_path(weights).is_file():
        hint = f"write one; --channels, --mean and --std speak of {model}"
        raise BadCard("no card lies beside these weights", file=weights, hint=hint)
    return options.open_embedder(
        name, threads=1, device=device, channels=None, mean=None, std=None, commercial=commercial
    )


def _print(result: "Evaluation") -> None:
    """The figures, one to a row; why others are missing, to stderr."""
    folds = len(result.figures.folds.accuracy)
    protocol = f"{result.protocol.name}, {len(result.scores):,} pairs in {folds} folds"
    typer.echo(f"{result.model['name']} on {protocol}, {result.protocol.images:,} photos\n")
    shell.show_table(("figure", "value", "95 % interval", "achieved FAR"), _rows(result))
    _say_refused(result.figures)


def _say_refused(figures: "Figures") -> None:
    rates = (*figures.tar_at_far, *figures.val_at_far)
    for reason in sorted({rate.refused for rate in rates if rate.refused}):
        shell.say(f"Refused: {reason}.")


Row = tuple[str, str, str, str]
"""Figure, value, interval, achieved FAR."""


def _rows(result: "Evaluation") -> list[Row]:
    return [
        *_figure_rows(result.figures),
        ("photos without a usable face", str(len(result.failures)), "", ""),
        ("photos per second", f"{result.images_per_s:.1f}", "", ""),
    ]


def _figure_rows(figures: "Figures") -> list[Row]:
    from facespace.judge.page import percent, span

    return [
        ("accuracy", percent(figures.accuracy), span(figures.accuracy_ci95), ""),
        *(_rate_row("TAR", rate) for rate in figures.tar_at_far),
        *(_rate_row("VAL", rate) for rate in figures.val_at_far),
        ("EER", percent(figures.eer), "", ""),
        ("AUC", f"{figures.auc:.5f}", "", ""),
        ("threshold", f"{figures.threshold:.4f}", "", ""),
    ]


def _rate_row(name: str, rate: "RateAtFar") -> Row:
    from facespace.judge.page import percent, span

    value = "refused" if rate.refused else percent(rate.rate)
    return f"{name} at FAR {100 * rate.far:g} %", value, span(rate.ci95), percent(rate.achieved_far, 3)


def _print_compatibility(result: "CompatibilityEvaluation") -> None:
    """A column for each comparison; then what is gained or lost; why others are missing, to stderr."""
    older, newer = (model["name"] for model in result.models)
    plain = result.comparisons[0].figures
    pairs = f"{len(result.protocol.same):,} pairs in {len(plain.folds.accuracy)} folds"
    typer.echo(f"{newer} (v2) with vectors of {older} (v1) on {result.protocol.name}, {pairs}")
    typer.echo("mixed: one photo of a pair by each, both ways round, with one threshold; 95 % intervals in brackets\n")
    columns = [_figure_rows(comparison.figures) for comparison in result.comparisons]
    rows = [
        (same[0][0], *(_cell(value, interval) for _, value, interval, _ in same)) for same in zip(*columns, strict=True)
    ]
    shell.show_table(("figure", *(comparison.name for comparison in result.comparisons)), rows)
    typer.echo()
    names = ("accuracy", *(f"VAL at FAR {100 * rate.far:g} %" for rate in plain.val_at_far))
    gaps = [
        (f"{d.name} less {d.less}", _points(d.accuracy), *(_points(gap) for _, gap in d.val_at_far))
        for d in result.differences
    ]
    shell.show_table(("difference in points", *names), gaps)
    shell.say(f"{len(result.failures)} photos without a usable face; {result.images_per_s:.1f} photos per second.")
    _say_refused(plain)


def _cell(value: str, interval: str) -> str:
    return value if interval in ("", "–") else f"{value} ({interval.removesuffix(' %')})"


def _points(gap: "Gap") -> str:
    """`+1.2 (-0.3 to +2.7)`, in percentage points."""
    if gap.value is None or gap.ci95 is None:
        return "refused"
    value, low, high = (f"{round(100 * number, 2) + 0.0:+.2f}" for number in (gap.value, *gap.ci95))  # no -0.0
    return f"{value} ({low} to {high})"


def _print_retrieval(result: "RetrievalEvaluation") -> None:
    """As `_print`."""
    from facespace.judge.page import percent, span

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
