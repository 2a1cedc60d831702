"""The thin shell around every verb: what is printed where, and the exit status.

Results go to stdout, everything else to stderr. An error of the family becomes one sentence and a hint, or with
`--json` the document `{"error": ...}` on stdout; its status is the exit status. Any other exception is our fault: 70.
"""

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from facespace.errors import FacespaceError, UsageError

INTERRUPTED = 130
_BROKEN_PIPE = 141


class Shell(TyperGroup):
    """The group of all verbs; what a verb raises ends here."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Note whether JSON is asked for before anything can fail."""
        ctx.meta["facespace.json"] = "--json" in args
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the verb; raise `typer.Exit` with the status of what it raises."""
        as_json = bool(ctx.meta["facespace.json"])
        try:
            return super().invoke(ctx)
        except FacespaceError as error:
            if _debugging():
                logging.getLogger("facespace").debug("raised here", exc_info=error)
            raise typer.Exit(tell_error(error, as_json=as_json)) from error
        except KeyboardInterrupt as error:
            say("Interrupted.")
            raise typer.Exit(INTERRUPTED) from error
        except BrokenPipeError as error:
            raise typer.Exit(_reader_left()) from error
        except OSError as error:
            raise typer.Exit(_tell_system(error, as_json=as_json)) from error
        except Exception as error:
            if type(error).__module__.startswith(("typer", "click")):  # wrong usage, an exit: the frame's own business
                if as_json and hasattr(error, "format_message"):
                    raise typer.Exit(tell_error(UsageError(error.format_message()), as_json=True)) from error
                raise
            raise typer.Exit(_tell_fault(error, as_json=as_json)) from error


def run(app: typer.Typer) -> None:
    """Run the application over `sys.argv` and leave the process with its status."""
    level = os.environ.get("FACESPACE_LOG", "warning").upper()
    logging.basicConfig(stream=sys.stderr, level=level if level in logging.getLevelNamesMapping() else "WARNING")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a file name need not be text: show it escaped rather than fail
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        sys.exit(_reader_left())


def _reader_left() -> int:
    """Whoever reads stdout has seen enough: what is still buffered goes nowhere; the status of SIGPIPE."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return _BROKEN_PIPE


def tell_error(error: FacespaceError, *, as_json: bool) -> int:
    """Show an error of the family; its exit status."""
    if as_json:
        print_json(error.as_json())
    else:
        say(f"Error: {_sentence(str(error))}" + (f"\n  {error.hint}" if error.hint else ""))
    return error.status


def print_json(document: Any) -> None:
    """The one JSON document of a verb, to stdout."""
    typer.echo(json.dumps(document, indent=1, allow_nan=False))


def say(text: str) -> None:
    """A note for people, to stderr."""
    typer.echo(text, err=True)


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table to stdout, as wide as the terminal, or as it needs where there is none."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*map(Text, row))  # Text: what a name holds is not markup
    Console(width=None if sys.stdout.isatty() else 240).print(table)


@contextmanager
def progress(what: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, in a terminal only; the function it gives hears `(done, total)`."""
    if quiet or not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task(what, total=None)
        yield lambda done, total: bars.update(bar, completed=done, total=total)


def _tell_fault(error: Exception, *, as_json: bool) -> int:
    if _debugging():
        logging.getLogger("facespace").debug("a fault", exc_info=error)
    fault = FacespaceError(
        f"a fault of facespace itself: {type(error).__name__}: {error}",
        hint="FACESPACE_LOG=debug shows where; please report it",
    )
    return tell_error(fault, as_json=as_json)


def _tell_system(error: OSError, *, as_json: bool) -> int:
    """A file the system will not give or take is a setting to change; without a file it is a fault of ours."""
    if not isinstance(error.filename, str):
        return _tell_fault(error, as_json=as_json)
    if _debugging():
        logging.getLogger("facespace").debug("raised here", exc_info=error)
    hint = "check that the folder exists, may be written and has room, or name another"
    return tell_error(UsageError(error.strerror or str(error), file=error.filename, hint=hint), as_json=as_json)


def _debugging() -> bool:
    return os.environ.get("FACESPACE_LOG", "").lower() == "debug"


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else text + "."
