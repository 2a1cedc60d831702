"""The runner of a plan: its trainings side by side, each in a process of one thread, and the table of what they show.

    OUT/PLAN/
        log.jsonl        what began and ended when
        table.json       every figure, with its interval and that of each seed
        table.md         the same to read
        curves.json      loss and other figures of each training over the photos seen
        VARIANT-seedS/   see `trial`

Run again, the same command skips what is finished, goes on where a killed one stopped, and tries again what failed.
"""

import dataclasses
import json
import multiprocessing
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import cv2

from facespace.errors import FacespaceError, TrainingError, UsageError
from facespace.judge.ablation import Table
from facespace.train.loop import Listener
from facespace.train.plan import Run
from facespace.train.plans import find
from facespace.train.tabulate import write_table
from facespace.train.trial import Result, Sources, cost, is_done, trial

FORWARDED = ("step", "warning")
"""Rows of a training's log that the runner hears of."""


def ablate(
    reference: str,
    sources: Sources,
    out: Path,
    *,
    jobs: int = 1,
    seeds: int | None = None,
    only: str = "*",
    listen: Listener = lambda row: None,
) -> Table:
    """Carry out the plan that `reference` names (see `find`) into `out` / its name, `jobs` trainings at a time.

    `seeds` replaces the plan's number of seeds; `only` restricts it to variants of matching names and what they build
    on. `listen` hears a row for everything that happens. Raises TrainingError where a folder belongs to another recipe
    or other data, and, when all others have had their turn, where a training failed.
    """
    if jobs < 1:
        raise UsageError(f"{jobs} trainings at a time are none", hint="--jobs 1 or more")
    sources.check()
    plan = find(reference, seeds)
    folder = out / plan.name
    runs = list(plan.only(only).runs())
    waiting = [run for run in runs if not is_done(run, folder, sources)]
    log = Log(folder / "log.jsonl", listen)
    log.note("plan", plan=plan.name, runs=len(runs), waiting=len(waiting))

    def process(run: Run, connection: Connection) -> BaseProcess:
        arguments = (reference, seeds, run.name, folder, dataclasses.replace(sources), connection)
        return multiprocessing.get_context("spawn").Process(target=_work, args=arguments, daemon=True)

    failed = Workers(process, folder, log, waiting).carry_out(jobs)
    table = write_table(plan, folder, sources)
    if failed:
        name, message = next(iter(failed.items()))
        hint = f"{folder / 'table.md'} shows the others; the same command tries the failed ones again"
        raise TrainingError(f"{len(failed)} of {len(runs)} trainings failed, first {name}: {message}", hint=hint)
    return table


@dataclass(frozen=True)
class Standing:
    """How far a training of a plan is."""

    run: str
    status: str
    """That of its result; `begun` or `waiting` where there is none."""
    minutes: float
    """Taken so far."""
    minutes_left: float | None
    """By what others took for as many epochs; 0 for what is done, None where nothing is known."""


def overview(reference: str, out: Path, *, seeds: int | None = None, only: str = "*") -> list[Standing]:
    """All trainings of a plan, by what lies in their folders."""
    plan = find(reference, seeds)
    runs = list(plan.only(only).runs())
    results = {run.name: Result.read(out / plan.name / run.name) for run in runs}
    ended = {name: result for name, result in results.items() if result is not None and result.status != "failed"}
    done = [(run, ended[run.name].minutes) for run in runs if run.name in ended]

    def standing(run: Run) -> Standing:
        if run.name in ended:
            return Standing(run.name, ended[run.name].status, ended[run.name].minutes, 0.0)
        alike = [pair for pair in done if pair[0].variant is run.variant] or done
        epochs, minutes = sum(other.recipe.epochs for other, _ in alike), sum(taken for _, taken in alike)
        taken = cost(run, out / plan.name / run.name)[1]
        left = max(0.0, run.recipe.epochs * minutes / epochs - taken) if epochs else None
        failed = results[run.name] is not None
        return Standing(run.name, "failed" if failed else "begun" if taken else "waiting", taken, left)

    return [standing(run) for run in runs]


@dataclass
class Log:
    """What begins and ends, each as a row in a file and to who listens."""

    path: Path
    listen: Listener

    def note(self, kind: str, **what: Any) -> None:
        """One row, with the time."""
        row = {"kind": kind, "time": datetime.now(UTC).isoformat(timespec="seconds")} | what
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self.listen(row)


@dataclass
class Workers:
    """Trainings side by side, each begun when those it builds on have ended; if one fails, the others go on."""

    process: Callable[[Run, Connection], BaseProcess]
    """Makes the process of a training, which tells its rows through the connection."""
    folder: Path
    log: Log
    waiting: list[Run]
    active: dict[Connection, tuple[Run, BaseProcess]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    """Why, by the name of the run."""

    def carry_out(self, jobs: int) -> dict[str, str]:
        """All that waits, `jobs` at a time; what failed, and why."""
        try:
            while self.waiting or self.active:
                for run in list(self.waiting):
                    if self._is_ready(run) and len(self.active) < jobs:
                        self._begin(run)
                for connection in wait(list(self.active)):
                    assert isinstance(connection, Connection)
                    self._hear(connection)
        finally:
            for _, process in self.active.values():  # we are interrupted
                process.terminate()
                process.join()
        return self.failed

    def _is_ready(self, run: Run) -> bool:
        """Whether what a run builds on is there; where it will never be, the run is given up."""
        unfinished = {other.name for other in (*self.waiting, *(run for run, _ in self.active.values()))}
        if unfinished.intersection(run.needs):
            return False
        for name in run.needs:
            result = Result.read(self.folder / name)
            if result is None or result.status not in ("finished", "collapsed"):
                self.waiting.remove(run)
                self._end(run, Result("failed", f"{name}, which it builds on, did not finish"))
                return False
        return True

    def _begin(self, run: Run) -> None:
        self.waiting.remove(run)
        ours, its = multiprocessing.Pipe(duplex=False)
        process = self.process(run, its)
        process.start()
        its.close()  # or the end of the process would not show here
        self.active[ours] = run, process
        self.log.note("begun", run=run.name)

    def _hear(self, connection: Connection) -> None:
        """A row of a training, or its end."""
        run, process = self.active[connection]
        try:
            row = connection.recv()
        except (EOFError, OSError):  # its end, perhaps within a row
            process.join()
            del self.active[connection]
            self._end(run, self._result(run, process.exitcode))
            return
        if row["kind"] == "error":
            self.failed[run.name] = row["message"]
        else:
            self.log.listen(row | {"run": run.name})

    def _result(self, run: Run, status: int | None) -> Result:
        """That of a run whose process has ended."""
        result = Result.read(self.folder / run.name)
        if status or result is None:
            return Result("failed", self.failed.get(run.name, f"its process ended with status {status}"))
        return result

    def _end(self, run: Run, result: Result) -> None:
        if result.status == "failed":
            self.failed[run.name] = result.message
            result.write(self.folder / run.name)
        self.log.note(result.status, run=run.name, message=result.message, minutes=round(result.minutes, 2))


def _work(reference: str, seeds: int | None, name: str, folder: Path, sources: Sources, connection: Connection) -> None:
    """A process of one training. It reads the plan itself: what a file of plans defines cannot be sent to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever began us hears it, and ends us
    cv2.setNumThreads(1)

    def tell(row: dict[str, Any]) -> None:
        if row["kind"] in FORWARDED:
            connection.send(row)

    try:
        run = next(run for run in find(reference, seeds).runs() if run.name == name)
        trial(run, folder, sources, tell)
    except FacespaceError as error:
        connection.send({"kind": "error", "message": str(error)})
        sys.exit(1)
    except Exception as error:
        connection.send({"kind": "error", "message": f"{type(error).__name__}: {error}"})
        raise
