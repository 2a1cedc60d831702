"""`facespace export`: torch weights to an ONNX model."""

from pathlib import Path
from typing import Annotated

import typer

from facespace.cli import options, shell


def register(app: typer.Typer) -> None:
    """Add the verb to the application."""
    app.command()(export)


def export(
    source: Annotated[Path, typer.Argument(metavar="RUN|WEIGHTS", help="A run's folder, .safetensors, or a .pt.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .onnx to write; its card lies beside it.")],
    trunk: Annotated[str | None, typer.Option(help="The network of a public arcface_torch .pt.")] = None,
    half: Annotated[bool, typer.Option("--half", help="Store the weights in half precision.")] = False,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Write torch weights as ONNX, checked against the torch model, with a card beside it."""
    from facespace.models import convert

    options.check_place(output)
    distance = convert.export(source, output, trunk=trunk, half=half)
    if json:
        shell.print_json({"output": str(output), "largest_distance": distance})
    elif not quiet:
        typer.echo(f"{output} (within {distance:.1g} of the torch model)")
