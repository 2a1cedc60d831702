"""`facespace train`: photos of people to a judged model, resumed by running the same command again."""

import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from facespace.cli import options, shell
from facespace.cli.processes import check_number, launch
from facespace.errors import MissingExtra, UsageError

if TYPE_CHECKING:
    from facespace.train.loop import Listener
    from facespace.train.recipe import Recipe


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("train")(train)


def _some(epochs: float | None) -> float | None:
    """The passes that were asked for; UsageError unless they are more than none."""
    if epochs is not None and not 0 < epochs < math.inf:
        raise UsageError(f"--epochs {epochs:g} is no length of a training", hint="a number above 0, such as 0.5 or 20")
    return epochs


def train(
    data: Annotated[Path, typer.Argument(help="A folder person/photo.jpg of aligned faces, or a tar of one.")],
    recipe: Annotated[
        str, typer.Option(help="Recipe by name; an unknown one is answered with the list.")
    ] = "arcface_small",
    run: Annotated[Path | None, typer.Option(help="Folder of the run; default runs/RECIPE.")] = None,
    teacher: Annotated[
        str | None, typer.Option(help="Model whose vectors are targets, for recipes that learn from one.")
    ] = None,
    channels: options.ChannelsOption = None,
    mean: options.Mean = None,
    std: options.Std = None,
    start: Annotated[
        Path | None, typer.Option(help="A finished run, or its trunk.safetensors, to begin with its weights.")
    ] = None,
    clean_with: Annotated[
        Path | None,
        typer.Option(help="A run with sub-centres on the same data; photos it finds mislabelled stay out."),
    ] = None,
    epochs: Annotated[
        float | None,
        typer.Option(
            callback=_some, help="Passes over the photos, instead of the recipe's: more than 0, a fraction is allowed."
        ),
    ] = None,
    held_out: Annotated[int | None, typer.Option(min=0, help="People kept out to choose among the states.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of everything random.")] = None,
    device: options.Device = "cpu",
    threads: Annotated[
        int,
        typer.Option(min=1, callback=options.few_threads, help="Threads of the arithmetic; may change the last bits."),
    ] = 1,
    workers: Annotated[
        int, typer.Option(min=0, callback=options.few_threads, help="Threads that read photos ahead.")
    ] = 0,
    commercial: options.Commercial = False,
    save_every: Annotated[int, typer.Option(min=1, help="Steps between two checkpoints.")] = 500,
    processes: Annotated[
        int, typer.Option(min=1, help="Processes of this machine that share the work; no more than cores.")
    ] = 1,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Train a model on a folder of people. Re-run the same command to go on after an interruption."""
    if os.environ.get("RANK", "0") != "0":
        sys.stdout = sys.stderr  # of several processes the first alone speaks on stdout
    try:
        from facespace.train.distributed import joined
        from facespace.train.loop import Where
        from facespace.train.loop import train as train_model
        from facespace.train.recipes import recipe as by_name
    except ImportError as error:
        raise MissingExtra(f"training needs {error.name}", hint="pip install 'facespace[train]'") from error

    changes: dict[str, Any] = {"epochs": epochs, "held_out": held_out, "seed": seed}
    chosen = replace(by_name(recipe), **{name: value for name, value in changes.items() if value is not None})
    if processes > 1 and "WORLD_SIZE" not in os.environ:
        check_number(processes, chosen)
        raise typer.Exit(launch(processes, sys.argv[1:]))
    taught_by = None
    if teacher is not None:
        taught_by = options.open_embedder(
            teacher, threads=threads, device=device, channels=channels, mean=mean, std=std, commercial=commercial
        )
    where = Where(device, threads, workers, save_every=save_every)
    with joined(device) as world, progress(quiet or not world.leads) as listen:
        outcome = train_model(
            chosen,
            data,
            run or Path("runs") / chosen.name,
            teacher=taught_by,
            start=start,
            clean_with=clean_with,
            where=where,
            listen=listen,
        )
    if not world.leads:
        return
    document = {
        "run": str(outcome.run),
        "model": str(outcome.onnx),
        "weights": str(outcome.weights),
        "step": outcome.step,
        "held_out": outcome.figures,
        "left_out": outcome.bad,
        "device": device,
        "threads": threads,
    }
    if json:
        shell.print_json(document)
    else:
        typer.echo(summary(chosen, document))


def summary(recipe: "Recipe", document: dict[str, Any]) -> str:
    """What a training left behind, in words."""
    figures = document["held_out"]
    judged = (
        f", TAR {figures['tar_at_far_1e-2']:.1%} at FAR 1 % on {recipe.held_out} held-out people" if figures else ""
    )
    left_out = f"Left out {len(document['left_out'])} photos, named in the log.\n" if document["left_out"] else ""
    return f"{left_out}{document['model']}: the weights of step {document['step']}{judged}."


@contextmanager
def progress(quiet: bool) -> Iterator["Listener"]:
    """A bar on stderr with epoch, loss, images/s and time to go; listens to the rows of a training."""
    if quiet:
        yield lambda row: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("reading photos", total=None)

        def say(text: str) -> None:
            bar.console.print(text, markup=False, highlight=False)  # a file's name is no markup

        def listen(row: dict[str, Any]) -> None:
            if row["kind"] == "teacher":
                bar.update(task, description="teacher's vectors", completed=row["done"], total=row["total"])
            elif row["kind"] == "step":
                text = f"epoch {row['epoch']:.2f}  loss {row['loss']:.4f}  {row['images_per_s']:.0f} images/s"
                bar.update(task, description=text, completed=row["step"], total=row["total"])
            elif row["kind"] == "held_out":
                say(f"step {row['step']}: TAR {row['tar_at_far_1e-2']:.1%} at FAR 1 % on held-out people")
            elif row["kind"] == "warning":
                say(f"warning: {row['message']}")

        yield listen
