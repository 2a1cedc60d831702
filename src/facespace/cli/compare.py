"""`facespace compare`: two models on the same pairs, and whether the difference is more than chance."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facespace.cli import options, shell
from facespace.errors import UsageError

if TYPE_CHECKING:
    from facespace.judge.compare import Comparison, Gap


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("compare")(compare)


def compare(
    first: Annotated[str, typer.Argument(help="A model, or the .json beside a report of `evaluate`.")],
    second: Annotated[str, typer.Argument(help="Another, of the same kind.")],
    data: Annotated[Path | None, typer.Option(help="For models: photos, a folder person/photo.jpg or a tar.")] = None,
    pairs: Annotated[Path | None, typer.Option(help="For models: LFW's pairs.txt; else pairs are made.")] = None,
    folds: Annotated[str | None, typer.Option(help="Only these folds of the list, such as 1-3.")] = None,
    seed: Annotated[int, typer.Option(help="Which pairs are made.")] = 0,
    detector: options.DetectorOption = options.DetectorName.yunet,
    detector_weights: options.DetectorWeights = None,
    detector_size: options.DetectorSize = 640,
    threads: options.Threads = None,
    device: options.Device = "cpu",
    commercial: options.Commercial = False,
    report: Annotated[Path | None, typer.Option(help="Write both side by side as HTML.")] = None,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Compare two models, pair by pair: the second less the first, with intervals from drawing people.

    Given two models, both are judged now; given two documents, they are read.
    """
    from facespace.judge.compare import compare as compared
    from facespace.judge.compare import write_comparison
    from facespace.judge.page import check_report
    from facespace.judge.protocols import folder, lfw
    from facespace.judge.run import run
    from facespace.judge.scored import Scored, read_scored

    documents = [name.endswith(".json") for name in (first, second)]
    if report:
        check_report(report)
    if any(documents):
        if not all(documents) or data or pairs or folds:
            hint = "two .json documents alone, or two models with --data"
            raise UsageError("a document of scores is compared with another, without --data", hint=hint)
        result = compared(read_scored(Path(first)), read_scored(Path(second)))
    else:
        if data is None:
            raise UsageError("two models need photos to be compared on", hint="add --data FOLDER")
        if folds and not pairs:
            raise UsageError("--folds belong to a list of pairs", hint="add --pairs pairs.txt, or leave it out")
        protocol = lfw(pairs, data, folds) if pairs else folder(data, seed)
        finder = options.open_detector(detector, weights=detector_weights, size=detector_size, commercial=commercial)
        judged: list[Scored] = []
        for name in (first, second):
            embedder = options.open_embedder(
                name, threads=1, device=device, channels=None, mean=None, std=None, commercial=commercial
            )
            with shell.progress(name, quiet=quiet) as progress:
                evaluation = run(protocol, embedder, finder, threads=threads, device=device, progress=progress)
            judged.append(Scored.of(evaluation))
        result = compared(judged[0], judged[1])
    if report:
        write_comparison(result, report)
    if json:
        shell.print_json(result.as_json())
    else:
        _print(result)


def _print(result: "Comparison") -> None:
    from facespace.judge.page import chance

    first, second = (model["name"] for model in result.models)
    typer.echo(f"{second} less {first} on {result.protocol}, {result.pairs:,} pairs of {result.people:,} people\n")
    rows = [_row(gap, first, second) for gap in result.gaps]
    shell.show_table(("figure", "first", "second", "difference in points", "p", "better"), rows)
    one = result.decisions
    p = chance(one.p_value)
    typer.echo(f"\nOnly {first} is right on {one.only_first:,} pairs, only {second} on {one.only_second:,}")
    typer.echo(f"(McNemar's test, which takes pairs for independent: p {p if p.startswith('<') else '= ' + p}).")
    for reason in dict.fromkeys(gap.refused for gap in result.gaps if gap.refused):
        shell.say(f"Refused: {reason}.")
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
