"""`facespace model {list, show, pull, groups}`: what is here and can be fetched, what a card says, what groups hold."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facespace.cli import options, shell
from facespace.errors import MissingExtra

if TYPE_CHECKING:
    from facespace.models.zoo import Listed


def register(app: typer.Typer) -> None:
    """Add the group of verbs to the application."""
    group = typer.Typer(help="Models: what is here, what can be fetched, what a card says.", no_args_is_help=True)
    group.command("list")(list_models)
    group.command("show")(show)
    group.command("pull")(pull)
    group.command("groups")(groups)
    app.add_typer(group, name="model")


def list_models(commercial: options.Commercial = False, json: options.Json = False) -> None:
    """List the models that are here and those that `model pull` can fetch."""
    from facespace.models.zoo import listed

    rows = [row for row in listed() if not commercial or (row.card is not None and row.card.commercial is True)]
    if json:
        shell.print_json({"models": [row.as_json() for row in rows]})
    else:
        shell.show_table(["name", "gives", "licence", "commercial", "MB", "where"], [_cells(row) for row in rows])


def show(
    name: Annotated[str, typer.Argument(help="Name of a model, or path to its weights.")], json: options.Json = False
) -> None:
    """Print the card of a model."""
    from facespace.models.zoo import card_of

    card = card_of(name).as_json()
    if json:
        shell.print_json(card)
    else:
        shell.show_table(["key", "value"], list(_told(card)))


def pull(
    name: Annotated[str, typer.Argument(help="Name of a model of `facespace model list`.")],
    source: Annotated[
        str | None, typer.Option("--from", help="Another URL, or a local path, of the same file.")
    ] = None,
    commercial: options.Commercial = False,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Fetch public weights, pinned by size and SHA-256; run it again to continue an interrupted download."""
    from facespace.models import zoo

    with shell.progress(f"Fetching {name}", quiet=quiet or json) as told:
        weights = zoo.pull(name, source=source, commercial=commercial, told=told)
    if json:
        shell.print_json({"path": str(weights), "card": zoo.card_of(weights).as_json()})
    else:
        typer.echo(str(weights))


def groups(
    run: Annotated[Path, typer.Argument(metavar="RUN|WEIGHTS", help="A GroupFace run's folder, or its .safetensors.")],
    data: Annotated[Path, typer.Option(help="A folder person/photo.jpg of aligned faces, or a tar of one.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder for the pictures.")],
    per_group: Annotated[int, typer.Option(min=1, help="Photos of a group.")] = 36,
    per_person: Annotated[int, typer.Option(min=1, help="Photos of one person among them.")] = 1,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Show what the groups of a GroupFace hold: a picture per group, of the photos in which it is most probable."""
    from facespace.data.folder import open_people
    from facespace.models.convert import TRUNK

    try:
        from facespace.train.groupsheet import load_groups, write_group_sheets
    except ImportError as error:
        raise MissingExtra(f"groups need {error.name}", hint="pip install 'facespace[train]'") from error
    net, size = load_groups(run / TRUNK if run.is_dir() else run)
    with shell.progress("Reading photos", quiet=quiet or json) as told:
        sheets = write_group_sheets(
            net, open_people(data), output, per_group, size=size, per_person=per_person, told=told
        )
    rows = [{"group": s.group, "share": s.share, "probability": s.probability, "file": str(s.path)} for s in sheets]
    if json:
        shell.print_json({"groups": rows})
    else:
        cells = [[str(s.group), f"{s.share:.1%}", f"{s.probability:.1%}", str(s.path)] for s in sheets]
        shell.show_table(["group", "photos", "mean probability", "picture"], cells)


def _cells(row: "Listed") -> list[str]:
    where = str(row.path) if row.path else f"facespace model pull {row.name}"
    megabytes = f"{row.size_bytes / 1e6:.1f}"
    if row.card is None:
        return [row.name, row.problem, "", "", megabytes, where]
    gives = f"{row.card.dim}-D vectors" if row.card.dim else "faces"
    allowed = {True: "yes", False: "no", None: "not stated"}[row.card.commercial]
    return [row.name, gives, row.card.licence, allowed, megabytes, where]


def _told(document: Mapping[str, object], where: str = "") -> Iterator[tuple[str, str]]:
    """A row for each value of a card, what lies within another named after it: `input.size`, `numbers[0].people`."""
    for key, value in document.items():
        name = where + key
        if isinstance(value, Mapping):
            yield from _told(value, f"{name}.")
        elif isinstance(value, list | tuple) and any(isinstance(row, Mapping) for row in value):
            for place, row in enumerate(value):
                yield from _told(row, f"{name}[{place}].")
        else:
            yield name, _value(value)


def _value(value: object) -> str:
    match value:
        case None | [] | ():
            return "–"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.6g}"
        case list() | tuple():
            return ", ".join(map(_value, value))
    return str(value)
