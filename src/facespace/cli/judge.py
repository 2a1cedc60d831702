"""`facespace evaluate`: a model judged by a protocol, with every figure's interval and what was refused."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from facespace.cli import asked as asking
from facespace.cli import options, protocols, shell
from facespace.errors import BadCard, UsageError

if TYPE_CHECKING:
    from facespace.cli.protocols import AnyProtocol
    from facespace.core.contracts import Detector
    from facespace.judge.compatibility import CompatibilityEvaluation
    from facespace.judge.groups import GroupTable
    from facespace.judge.report import Reported
    from facespace.models.embedder import NetEmbedder
    from facespace.models.flipped import Flipped


Work = dict[str, Any]
"""Where and how the work is done: threads, device, and who hears of progress."""


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("evaluate")(evaluate)


def evaluate(
    model: Annotated[str, typer.Argument(help="Name of a model, or path to .onnx or .safetensors weights.")],
    data: Annotated[Path, typer.Option(help="Photos: a folder person/photo.jpg, or a tar of one.")],
    protocol: asking.Protocol = None,
    pairs: asking.Pairs = None,
    folds: asking.Folds = None,
    seed: asking.Seed = 0,
    enrol: asking.Enrol = 1,
    pick: asking.PickOption = asking.Pick.first,
    nonmates: asking.Nonmates = 0.5,
    rank: asking.Rank = 1,
    distractors: asking.Distractors = None,
    quality: asking.QualityOption = asking.Quality.none,
    frames: asking.Frames = 100,
    average: asking.AverageOption = asking.Average.embedding,
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
    flip: options.FlipOption = options.Flip.off,
    threshold: Annotated[
        float | None,
        typer.Option(help="Similarity at which the clusters of --protocol clustering join; the card's unless given."),
    ] = None,
    ties: options.TiesOption = options.Ties.accept,
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
    """Judge a model by pairs (accuracy over folds, TAR and VAL at fixed FAR, EER, AUC), by retrieval (Recall@K), by
    clustering (pairwise F, BCubed, NMI, ARI) or by identification (rank-k, TPIR at fixed FPIR, thresholds by the size
    of the gallery).

    Every share comes with its interval. With --compatible-with two models are judged together.
    """
    from facespace.judge.calibrate import learnt_from
    from facespace.judge.groups import read_groups
    from facespace.judge.identification import Enrolment
    from facespace.judge.page import check_report

    if report:
        check_report(report)
    enrolment = Enrolment(enrol, pick.value, nonmates, rank, seed)
    asked = asking.Asked(data, pairs, folds, seed, enrolment, distractors, quality, frames, average)
    chosen = protocols.open_protocol(protocol, asked)
    _check(chosen, report=report, compatible_with=compatible_with, ties=ties, threshold=threshold, groups=groups)
    table = read_groups(groups) if groups else protocols.groups_of(chosen)
    if groups and table and (unmatched := protocols.unmatched(chosen, table)) and not quiet:
        shell.say(f"Note: {groups.name}: {unmatched}.")
    detector = protocols.detector_of(chosen, detector)
    finder = options.open_detector(detector, weights=detector_weights, size=detector_size, commercial=commercial)
    # Workers take photos through all stages side by side, so each embeds on its own thread alone.
    net = options.open_embedder(
        model, threads=1, device=device, channels=channels, mean=mean, std=std, commercial=commercial
    )
    if not quiet and learnt_from(net.card, data):
        shell.say(f"Note: {net.name} has learnt from these photos: of strangers it knows less than the figures say.")
    older = None
    if compatible_with is not None:
        older = options.mirrored(_open_older(compatible_with, model, device, commercial), flip)
    with shell.progress("photos", quiet=quiet) as progress:
        work: Work = {"threads": threads, "device": device, "progress": progress}
        result = _judge(
            chosen,
            options.mirrored(net, flip),
            older,
            finder,
            work,
            threshold=threshold,
            groups=table,
            ties=ties,
            pictured=report is not None,
        )
    _tell(result, model=model, about=net.card.as_json(), table=table, report=report, json=json)


def _check(
    chosen: "AnyProtocol",
    *,
    report: Path | None,
    compatible_with: str | None,
    ties: options.Ties,
    threshold: float | None,
    groups: Path | None,
) -> None:
    """UsageError for options that the protocol has no use for."""
    from facespace.judge.clustering import ClusteringProtocol
    from facespace.judge.identification import IdentificationProtocol
    from facespace.judge.protocols import PairProtocol

    if compatible_with and not isinstance(chosen, PairProtocol):
        raise UsageError("compatibility is judged by pairs", hint="--protocol folder, or lfw")
    if compatible_with and report:
        raise UsageError("a report shows one model, not two", hint="leave out --report; --json holds it all")
    if compatible_with:
        protocols.require_photos(chosen)
    if report:
        protocols.require_few(chosen)
    if ties is options.Ties.reject and not isinstance(chosen, PairProtocol):
        raise UsageError("no pairs, so no ties at their threshold", hint="leave out --ties")
    if threshold is not None and not isinstance(chosen, ClusteringProtocol):
        raise UsageError("--threshold joins clusters; pairs find their own", hint="--protocol clustering")
    if groups and (compatible_with or not isinstance(chosen, PairProtocol | IdentificationProtocol)):
        raise UsageError("groups belong to pairs or searches judged by one model", hint="leave out --groups")


def _judge(
    chosen: "AnyProtocol",
    embedder: "NetEmbedder | Flipped",
    older: "NetEmbedder | Flipped | None",
    finder: "Detector",
    work: Work,
    *,
    threshold: float | None,
    groups: "GroupTable | None",
    ties: options.Ties,
    pictured: bool,
) -> "Reported | CompatibilityEvaluation":
    """Run the protocol."""
    from facespace.judge.clustering import ClusteringProtocol, run_clustering
    from facespace.judge.compatibility import run_compatibility
    from facespace.judge.galleries import GalleryProtocol, run_galleries
    from facespace.judge.identification import IdentificationProtocol
    from facespace.judge.paired import PICTURES
    from facespace.judge.retrieval import RetrievalProtocol, run_retrieval
    from facespace.judge.run import run
    from facespace.judge.searching import run_identification

    match chosen:
        case RetrievalProtocol():
            return run_retrieval(chosen, embedder, finder, **work)
        case ClusteringProtocol():
            return run_clustering(chosen, embedder, finder, threshold=threshold, **work)
        case IdentificationProtocol():
            return run_identification(chosen, embedder, finder, groups=groups, **work)
        case GalleryProtocol():
            return run_galleries(chosen, embedder, finder, **work)
    if older is not None:
        return run_compatibility(chosen, older, embedder, finder, ties=ties.value, **work)
    return run(chosen, embedder, finder, ties=ties.value, pictures=PICTURES if pictured else 0, **work)


def _tell(
    result: "Reported | CompatibilityEvaluation",
    *,
    model: str,
    about: dict[str, Any],
    table: "GroupTable | None",
    report: Path | None,
    json: bool,
) -> None:
    """The report, and the figures as JSON or for people."""
    from facespace.cli.judged import print_evaluation
    from facespace.judge.compatibility import CompatibilityEvaluation
    from facespace.judge.groups import as_json, pair_differentials
    from facespace.judge.measures import recipe_of
    from facespace.judge.report import Report
    from facespace.judge.run import Evaluation
    from facespace.models.shelf import find_weights

    measured = pair_differentials(result, table) if table and isinstance(result, Evaluation) else None
    if report and not isinstance(result, CompatibilityEvaluation):
        Report(result, about=about, recipe=recipe_of(find_weights(model)), groups=measured).write(report)
    if json:
        shell.print_json(result.as_json() | ({"groups": as_json(measured)} if isinstance(result, Evaluation) else {}))
    else:
        print_evaluation(result, measured)


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
