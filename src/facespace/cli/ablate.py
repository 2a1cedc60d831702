"""`facespace ablate`: a list of variants of a recipe, trained with several seeds and compared in one table."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from facespace.cli import options, shell
from facespace.errors import MissingExtra, UsageError

if TYPE_CHECKING:
    from facespace.train.ablate import Standing
    from facespace.train.loop import Listener


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("ablate")(ablate)


def ablate(
    plan: Annotated[
        str,
        typer.Argument(
            help="Plan by name, or a Python file that defines PLAN. The file is run as it is: take only your own."
        ),
    ],
    data: Annotated[
        Path | None, typer.Option(help="To learn from: a folder person/photo.jpg of aligned faces, or a tar of one.")
    ] = None,
    judge: Annotated[Path | None, typer.Option(help="To be judged by: the same of other people.")] = None,
    lfw: Annotated[Path | None, typer.Option(help="LFW's photos, aligned, to judge by as well; with --pairs.")] = None,
    pairs: Annotated[Path | None, typer.Option(help="LFW's pairs.txt.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of all plans' runs and tables.")] = Path("runs/ablations"),
    jobs: Annotated[
        int, typer.Option(min=1, help="Trainings side by side, each in one thread; no more than cores.")
    ] = 1,
    seeds: Annotated[int | None, typer.Option(min=1, help="Seeds of each variant, instead of the plan's.")] = None,
    only: Annotated[str, typer.Option(help="Variants by name, such as 'arc*', and those they build on.")] = "*",
    show: Annotated[
        bool, typer.Option("--list", help="Only list the trainings, what they took and what is left.")
    ] = False,
    markdown: Annotated[Path | None, typer.Option(help="Write the plan's section of a page to this file, too.")] = None,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Train the variants of a plan from one start, judge all on the same people. Re-run the same command to go on."""
    from facespace.judge.embedding import available_cores

    try:
        from facespace.train.ablate import ablate as carry_out
        from facespace.train.ablate import overview
        from facespace.train.trial import Sources
    except ImportError as error:
        raise MissingExtra(f"training needs {error.name}", hint="pip install 'facespace[train]'") from error

    if show:
        standings = overview(plan, out, seeds=seeds, only=only)
        if json:
            shell.print_json([asdict(standing) for standing in standings])
        else:
            _print(standings, jobs)
        return
    if data is None or judge is None:
        raise UsageError("a plan needs people to learn from and others to be judged by", hint="--data and --judge")
    if (lfw is None) != (pairs is None):
        raise UsageError("LFW is photos and a list of pairs", hint="give both --lfw and --pairs, or neither")
    if jobs > (cores := available_cores()):
        raise UsageError(f"{jobs} trainings side by side, but {options.counted(cores, 'core')}", hint=f"--jobs {cores}")
    sources = Sources(data, judge, lfw, pairs)
    with progress(quiet) as listen:
        table = carry_out(plan, sources, out, jobs=jobs, seeds=seeds, only=only, listen=listen)
    if markdown:
        markdown.write_text(table.markdown(), encoding="utf-8")
    if json:
        shell.print_json(table.as_json())
    else:
        typer.echo(table.markdown(), nl=False)


def _print(standings: "list[Standing]", jobs: int) -> None:
    """A row for each training, then what is left of them together."""
    shell.show_table(
        ("training", "status", "minutes", "left"),
        [(row.run, row.status, f"{row.minutes:.1f}", _about(row.minutes_left)) for row in standings],
    )
    left = [row.minutes_left for row in standings]
    known = [minutes for minutes in left if minutes is not None]
    done = sum(minutes == 0 for minutes in left)
    time = "" if len(known) < len(left) else f", about {sum(known) / jobs:.0f} minutes left with --jobs {jobs}"
    typer.echo(f"{done} of {len(left)} done{time}.")


def _about(minutes: float | None) -> str:
    """Minutes left, in words: none, a guess, or not known before a training has ended."""
    return "?" if minutes is None else f"about {minutes:.1f}" if minutes else ""


@contextmanager
def progress(quiet: bool) -> Iterator["Listener"]:
    """Bars on stderr, one for each training at work, and a line for each that ends."""
    if quiet:
        yield lambda row: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeRemainingColumn())
    tasks: dict[str, TaskID] = {}
    waiting = 0
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:

        def listen(row: dict[str, Any]) -> None:
            nonlocal waiting
            match row["kind"]:
                case "plan":
                    waiting = row["waiting"]
                    say = f"{row['plan']}: {row['runs'] - waiting} of {row['runs']} trainings are done"
                case "begun":
                    tasks[row["run"]] = bars.add_task(row["run"], total=None)
                    return
                case "step":
                    text = f"{row['run']}  loss {row['loss']:.3f}  {row['images_per_s']:.0f} images/s"
                    bars.update(tasks[row["run"]], description=text, completed=row["step"], total=row["total"])
                    return
                case "warning":
                    say = f"{row['run']}: {row['message']}"
                case ended:
                    waiting -= 1
                    if (task := tasks.pop(row["run"], None)) is not None:
                        bars.remove_task(task)
                    why = f": {row['message']}" if row["message"] else ""
                    say = f"{row['run']} {ended} after {row['minutes']:.1f} minutes, {waiting} to go{why}"
            bars.console.print(say, markup=False, highlight=False)

        yield listen
