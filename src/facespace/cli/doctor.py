"""`facespace doctor` and `facespace audit`: what is wrong with a folder of people, and who is in two of them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facespace.cli import options, shell
from facespace.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from facespace.judge.audit import Audit, Leak
    from facespace.judge.findings import Diagnosis

FOUND = 1
_SHOWN = 20
Sheets = Annotated[Path | None, typer.Option("--sheet", help="Write the faces of every case as a page of HTML.")]


def register(app: typer.Typer) -> None:
    """Add the verbs to the application."""
    app.command("doctor")(doctor)
    app.command("audit")(audit)


def doctor(
    data: Annotated[Path, typer.Argument(help="A folder person/photo.jpg, or a tar of one.")],
    model: options.Model = "compact",
    listing: Annotated[
        Path | None, typer.Option("--list", help="Write a CSV with a row for each photo to act upon.")
    ] = None,
    sheet: Sheets = None,
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
    """Look for damaged photos, copies and doubtful names: exit status 0 nothing found, 1 something to look at."""
    from facespace.data.folder import open_people
    from facespace.judge.doctor import diagnose
    from facespace.judge.findings import cases
    from facespace.judge.sheets import page
    from facespace.models.card import write_atomic

    if listing and sheet and listing.resolve() == sheet.resolve():
        raise UsageError("the list and the sheet would be one file", file=sheet, hint="two names: --list, --sheet")
    for path in filter(None, (listing, sheet)):
        options.check_place(path)
    people = open_people(data)
    finder = options.open_detector(detector, weights=detector_weights, size=detector_size, commercial=commercial)
    embedder = options.open_embedder(
        model, threads=1, device=device, channels=channels, mean=mean, std=std, commercial=commercial
    )
    with shell.progress("photos", quiet=quiet or json) as progress:
        result = diagnose(people, embedder, finder, threads=threads, device=device, progress=progress)
    if listing:
        write_atomic(listing, result.as_csv().encode("utf-8", "surrogateescape"))
    if sheet:
        about = f"{len(result.findings)} findings by {embedder.name}; a suspicion is no proof"
        write_atomic(sheet, page(f"Doctor: {data.name}", about, cases(result, people, finder)).encode())
    if json:
        shell.print_json(result.as_json())
    else:
        _print_diagnosis(result, quiet)
    if result.findings:
        raise typer.Exit(FOUND)


def audit(
    train: Annotated[Path, typer.Argument(help="The training set: a folder person/photo.jpg, or a tar of one.")],
    test: Annotated[Path, typer.Argument(help="The benchmark, likewise.")],
    model: options.Model = "compact",
    sheet: Sheets = None,
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
    """Look for people who are in both sets, by name, face and file: exit status 0 nobody, 1 somebody."""
    from facespace.data.folder import open_people
    from facespace.judge import audit as auditing
    from facespace.judge.sheets import page
    from facespace.models.card import write_atomic

    if sheet:
        options.check_place(sheet)
    sides = open_people(train), open_people(test)
    finder = options.open_detector(detector, weights=detector_weights, size=detector_size, commercial=commercial)
    embedder = options.open_embedder(
        model, threads=1, device=device, channels=channels, mean=mean, std=std, commercial=commercial
    )
    with shell.progress("photos", quiet=quiet or json) as progress:
        result = auditing.audit(*sides, embedder, finder, threads=threads, device=device, progress=progress)
    if sheet:
        found = f"{len(result.leaks)} suspected pairs and {len(result.namesakes)} namesakes"
        about = f"{found} by {embedder.name}; a suspicion is no proof"
        shown = page(f"Audit: {train.name} and {test.name}", about, auditing.cases(result, *sides, finder))
        write_atomic(sheet, shown.encode())
    if json:
        shell.print_json(result.as_json())
    else:
        _print_audit(result, quiet)
    if result.leaks:
        raise typer.Exit(FOUND)


def _print_diagnosis(result: "Diagnosis", quiet: bool) -> None:
    """Counts, the first findings of every kind, and photos per person."""
    typer.echo(f"{result.data['images']:,} photos of {result.data['people']:,} people, by {result.model['name']}\n")
    shell.show_table(("kind", "found"), [(kind, str(count)) for kind, count in result.counts.items()])
    for kind, count in result.counts.items():
        first = [f for f in result.findings if f.kind == kind][:_SHOWN]
        if first:
            typer.echo(f"\n{kind}" + (f", {len(first)} of {count}" if len(first) < count else ""))
            rows = [(f.photos[0], f.other or "", f"{f.sure:.2f}", f.why, f.act) for f in first]
            shell.show_table(("photo", "other person", "sure", "why", "what to do"), rows)
    typer.echo()
    per_person = [(str(photos), str(people)) for photos, people in result.photos_per_person.items()]
    shell.show_table(("photos per person", "people"), per_person)
    _say_refused(result.refused, quiet)


def _print_audit(result: "Audit", quiet: bool) -> None:
    """What was compared, and every suspected pair."""
    seen = result.compared
    typer.echo(
        f"{seen['train_people']:,} people ({seen['train_photos']:,} photos) to train, "
        f"{seen['test_people']:,} ({seen['test_photos']:,}) to test; "
        f"{seen['pairs_of_people_by_face']:,} pairs compared by {result.model['name']}"
    )
    typer.echo(f"{len({leak.test for leak in result.leaks}):,} people of the test may be in the training set\n")
    if result.leaks:
        _show_pairs(result.leaks)
    if result.namesakes:
        typer.echo(f"\n{len(result.namesakes):,} pairs of one name with other faces: no leaks, but worth a look\n")
        _show_pairs(result.namesakes)
    _say_refused(result.refused, quiet)


def _show_pairs(pairs: "Sequence[Leak]") -> None:
    from facespace.judge.audit import reason

    shell.show_table(("train", "test", "why"), [(pair.train, pair.test, reason(pair)) for pair in pairs])


def _say_refused(refused: tuple[str, ...], quiet: bool) -> None:
    for reason in () if quiet else refused:
        shell.say(f"Refused: {reason}.")
