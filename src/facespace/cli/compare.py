"""`facespace compare`: two models on the same pairs, and whether the difference is more than chance."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from facespace.cli import asked as asking
from facespace.cli import options, protocols, shell
from facespace.errors import UsageError

if TYPE_CHECKING:
    from facespace.judge.compare import Comparison, Gap
    from facespace.judge.protocols import PairProtocol


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("compare")(compare)


def compare(
    first: Annotated[str, typer.Argument(help="A model, or the .json beside a report of `evaluate`.")],
    second: Annotated[str, typer.Argument(help="Another, of the same kind.")],
    data: Annotated[Path | None, typer.Option(help="For models: photos, a folder person/photo.jpg or a tar.")] = None,
    protocol: Annotated[
        asking.ProtocolName | None, typer.Option(help="For models: one of pairs, as for `evaluate`.")
    ] = None,
    pairs: asking.Pairs = None,
    folds: asking.Folds = None,
    seed: Annotated[int, typer.Option(min=0, help="Which pairs the protocol folder makes.")] = 0,
    quality: asking.QualityOption = asking.Quality.none,
    frames: asking.Frames = 100,
    average: asking.AverageOption = asking.Average.embedding,
    flip: options.FlipOption = options.Flip.off,
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
    report: Annotated[Path | None, typer.Option(help="Write both side by side as HTML.")] = None,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Compare two models, pair by pair: the second less the first, with intervals over people.

    Given two models, both are judged now; given two documents, they are read. --channels, --mean and --std state the
    preprocessing of the model that has no card, or of both where both have none.
    """
    from facespace.judge.compare import compare as compared
    from facespace.judge.compare import write_comparison
    from facespace.judge.identification import Enrolment
    from facespace.judge.page import check_report
    from facespace.judge.run import run
    from facespace.judge.scored import Scored, read_scored

    if report:
        check_report(report)
    asked = asking.Asked(data or Path(), pairs, folds, seed, Enrolment(seed=seed), None, quality, frames, average)
    stated = {"channels": channels, "mean": mean, "std": std}
    for name in (first, second):
        _refuse_page(Path(name))
    documents = [name.endswith(".json") for name in (first, second)]
    if any(documents):
        changed = asked.given() or flip is not options.Flip.off or ties is not options.Ties.accept
        if not all(documents) or changed or any(value is not None for value in (data, protocol, *stated.values())):
            hint = "two .json documents alone, or two models with --data"
            raise UsageError("a document of scores is compared with another, and with no photos or models", hint=hint)
        scored = [read_scored(Path(name)) for name in (first, second)]
    else:
        if data is None:
            raise UsageError("two models need photos to be compared on", hint="add --data FOLDER")
        chosen = _pairs(protocol, asked)
        preprocessing = _preprocessing((first, second), stated)
        detector = protocols.detector_of(chosen, detector)
        finder = options.open_detector(detector, weights=detector_weights, size=detector_size, commercial=commercial)
        models = [
            options.open_embedder(name, threads=1, device=device, commercial=commercial, **said)
            for name, said in zip((first, second), preprocessing, strict=True)
        ]
        scored = []
        for embedder in (options.mirrored(net, flip) for net in models):
            with shell.progress(embedder.name, quiet=quiet) as progress:
                work: dict[str, Any] = {"threads": threads, "device": device, "progress": progress}
                scored.append(Scored.of(run(chosen, embedder, finder, ties=ties.value, **work)))
    result = compared(scored[0], scored[1])
    if report:
        write_comparison(result, report)
    if json:
        shell.print_json(result.as_json())
    else:
        _print(result)


def _refuse_page(path: Path) -> None:
    if path.suffix.lower() in (".html", ".htm"):
        hint = f"give {path.with_suffix('.json')}"
        raise UsageError("a page holds no scores; its document lies beside it", file=path, hint=hint)


def _pairs(name: asking.ProtocolName | None, asked: asking.Asked) -> "PairProtocol":
    """The pairs that both models are judged on."""
    from facespace.judge.protocols import PairProtocol

    chosen = protocols.open_protocol(name, asked)
    if not isinstance(chosen, PairProtocol):
        raise UsageError(f"models are compared by pairs, and {chosen.name} has none", hint="--protocol folder, or lfw")
    return chosen


def _preprocessing(names: tuple[str, str], stated: dict[str, Any]) -> list[dict[str, Any]]:
    """What is stated, for each model without a card; for the others nothing."""
    from facespace.models.card import card_path
    from facespace.models.shelf import find_weights

    carded = [card_path(find_weights(name)).is_file() for name in names]
    if all(carded) and any(value is not None for value in stated.values()):
        hint = "leave out --channels, --mean and --std, which speak of a model without a card"
        raise UsageError("both models have a card, which states their preprocessing", hint=hint)
    return [dict.fromkeys(stated) if card else stated for card in carded]


def _print(result: "Comparison") -> None:
    import numpy as np

    from facespace.judge.page import chance

    first, second = (model["name"] for model in result.models)
    typer.echo(f"{second} less {first} on {result.protocol}, {result.pairs:,} pairs of {result.people:,} people\n")
    rows = [_row(gap, first, second) for gap in result.gaps]
    shell.show_table(("figure", "first", "second", "difference in points", "p", "better"), rows)
    one = result.decisions
    p = chance(one.p_value)
    typer.echo(f"\nOnly {first} is right on {one.only_first:,} pairs, only {second} on {one.only_second:,}")
    typer.echo(f"(McNemar's test, which takes pairs for independent: p {p if p.startswith('<') else '= ' + p}).")
    one_scores, other_scores = (figures.judged.scores for figures in result.figures)
    if np.array_equal(one_scores, other_scores):
        typer.echo(f"\nBoth gave the same scores to all pairs: intervals are what {result.people:,} people leave open.")
    for gap in result.gaps:
        if gap.refused:
            shell.say(f"Refused: {gap.figure}: {gap.refused}.")
    if not result.people_named:
        shell.say("Note: the names of the photos do not say whose they are; intervals go by genuine pairs.")


def _row(gap: "Gap", first: str, second: str) -> tuple[str, ...]:
    from facespace.judge.page import chance, percent

    if gap.difference is None or gap.ci95 is None or gap.p_value is None:
        return gap.figure, "refused", "refused", "", "", ""
    value, low, high = (f"{round(100 * number, 2) + 0.0:+.2f}" for number in (gap.difference, *gap.ci95))  # no -0.0
    better = {"first": first, "second": second}.get(gap.verdict, gap.verdict)
    span = f"{value} ({low} to {high})"
    return gap.figure, percent(gap.first), percent(gap.second), span, chance(gap.p_value), better
