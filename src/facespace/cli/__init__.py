"""The command line: a file per group of verbs, each making one library call.

Nothing heavy is imported until a verb runs, so that `facespace --help` is instant.
"""

import typer

from facespace.cli import ablate, calibrate, compare, doctor, export, faces, judge, model, shell, train, verify


def _version(asked: bool) -> None:
    if asked:
        from facespace import __version__

        typer.echo(__version__)
        raise typer.Exit


app = typer.Typer(
    name="facespace",
    cls=shell.Shell,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def facespace(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Photos of people as points of a space in which distance means identity: train the map, judge it, use it."""


for verbs in (train, ablate, judge, compare, verify, calibrate, doctor, faces, export, model):
    verbs.register(app)


def main() -> None:
    """The entry point `facespace`."""
    shell.run(app)
