"""`facespace train ARGUMENTS`, over and over, killed in ways of its own each time but the last.

Run as a program with JSON on stdin, `{"arguments": [...], "kills": [["after step", 2], ...]}`. Each command is a
process of its own, forked before torch has done anything. Prints how each ended: minus the number of a signal, or its
status.
"""

import importlib
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tiny_training import TINY, quick_export

from facespace.cli import app
from facespace.models import card
from facespace.train import checkpoint, loop, outcome, recipes, runlog, state


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def wrap(owner: Any, name: str, around: Callable[..., Any]) -> None:
    inner = getattr(owner, name)
    setattr(owner, name, lambda *a, **k: around(inner, *a, **k))


def arm(kind: str, step: int) -> None:
    """Let the process kill itself at a moment of the training."""

    def after_step(inner: Callable[..., Any], log: runlog.RunLog, of: state.State, *a: Any) -> None:
        inner(log, of, *a)
        if of.step == step:
            die()

    def before_the_rename(inner: Callable[..., Any], temporary: Path, path: Path) -> None:
        if f"{step:07d}" in path.name:
            die()
        inner(temporary, path)

    def half_written(inner: Callable[..., Any], path: Path, content: bytes) -> int:
        if f"{step:07d}" in path.name:
            inner(path, content[: len(content) // 2])
            die()
        return int(inner(path, content))

    def after_the_rename(inner: Callable[..., Any], path: Path, *a: Any) -> Any:
        if f"{step:07d}" in path.name:
            inner(path, *a)
            die()
        return inner(path, *a)

    def torn_log(inner: Callable[..., Any], log: runlog.RunLog, kind: str, **what: Any) -> None:
        if what.get("step") == step:
            with log.path.open("a") as file:
                file.write('{"kind": "step", "st')
            die()
        inner(log, kind, **what)

    def first(inner: Callable[..., Any], *a: Any, **k: Any) -> None:
        die()

    match kind:
        case "after step":
            wrap(runlog.RunLog, "step", after_step)
        case "checkpoint half written":
            wrap(Path, "write_bytes", half_written)
        case "before the rename":
            wrap(card, "settle", before_the_rename)
        case "after the rename":
            wrap(checkpoint, "write_atomic", after_the_rename)
        case "in the log":
            wrap(runlog.RunLog, "note", torn_log)
        case "in the export":
            wrap(outcome, "export_onnx", first)
        case "before the first step":
            wrap(loop, "stream", first)
        case _:
            raise ValueError(kind)


def run(arguments: list[str], kill: tuple[str, int] | None) -> int:
    """One command in a process of its own; its end."""
    if (child := os.fork()) == 0:
        if kill:
            arm(*kill)
        sys.argv = ["facespace", *arguments]
        try:
            app()
        except SystemExit as end:
            os._exit(int(end.code or 0))
        finally:
            sys.stderr.flush()
            os._exit(99)
    _, ended = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(ended)


if __name__ == "__main__":
    for slow in ("torch._dynamo", "torch.utils.tensorboard"):  # loaded here once, not in every process
        importlib.import_module(slow)
    asked = json.load(sys.stdin)
    recipes.RECIPES["tiny"] = TINY
    setattr(outcome, "export_onnx", quick_export)  # noqa: B010 (not a name that outcome offers)
    ends = [run(asked["arguments"], kill) for kill in (*asked["kills"], None)]
    sys.stdout.write(json.dumps(ends))
