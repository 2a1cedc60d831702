"""The folder of a run: whose it is (`run.json`), and what happened (`log.jsonl`, TensorBoard)."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from facespace.core.contracts import Embedder
from facespace.data.folder import People
from facespace.errors import TrainingError, UsageError
from facespace.models.card import write_atomic
from facespace.train.recipe import Recipe

if TYPE_CHECKING:
    from facespace.train.state import State


def claim(
    run: Path,
    recipe: Recipe,
    people: People,
    teacher: Embedder | None,
    start: str | None = None,
    clean_with: str | None = None,
) -> None:
    """Make a run folder one of this recipe, data, teacher, start weights and cleaning weights (their digests).

    Raises TrainingError where it is another training's.

    What killed writers left half done is removed.
    """
    if run.exists() and not run.is_dir():
        raise UsageError("a run needs a folder, and this is a file", file=run, hint="name another --run folder")
    for torn in (*run.glob(".*.part"), *run.glob("checkpoints/.*.part")):
        torn.unlink(missing_ok=True)
    owner = {
        "recipe": recipe.as_json(),
        "data": {"digest": people.digest, "people": len(people.names), "photos": len(people.photos)},
        "teacher": None if teacher is None else {"name": teacher.name, "contract": teacher.contract},
        "start": start,
        "clean_with": clean_with,
    }
    path, content = run / "run.json", json.dumps(owner, indent=1, sort_keys=True) + "\n"
    if not path.is_file():
        write_atomic(path, content.encode())
        return
    try:
        before = dict(json.loads(path.read_bytes()))
    except (ValueError, TypeError) as error:
        raise TrainingError(
            f"does not say whose run this is ({error})", file=path, hint="name another --run"
        ) from error
    differing = [part for part in owner if before.get(part) != json.loads(content)[part]]
    if differing:
        message = f"the run folder belongs to another training ({' and '.join(differing)} not the same)"
        raise TrainingError(message, file=run, hint="name another --run folder, or remove this one")


class RunLog:
    """What happens in a training: a row each into `log.jsonl`, to TensorBoard and to who listens."""

    def __init__(self, run: Path, step: int, listen: Callable[[dict[str, Any]], None]) -> None:
        """Go on after `step`: what was logged after it belongs to steps that are done again, and is dropped; so is the
        end, which is written again.
        """
        self.path = run / "log.jsonl"
        self.listen = listen
        rows = read_log(self.path) if step else []  # at step 0 all begins anew, the first row too
        kept = [row for row in rows if row["step"] <= step and row["kind"] not in ("left_out", "end")]
        write_atomic(self.path, "".join(json.dumps(row) + "\n" for row in kept).encode())
        self.board = _tensorboard(run / "tensorboard", step)
        self.last_step, self.last_time = step, time.monotonic()

    def note(self, kind: str, **what: Any) -> None:
        """One row: into the log, to TensorBoard, and to who listens."""
        row = {"kind": kind} | what
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        for name, value in what.items():
            if isinstance(value, float):
                self.board.add_scalar(f"{kind}/{name}", value, what.get("step", 0))
        self.listen(row)

    def step(self, state: "State", logs: dict[str, float], every: int) -> None:
        """A row every so many steps, with the speed since the row before."""
        if state.step % every and state.step != state.total:
            return
        recipe, now = state.recipe, time.monotonic()
        photos = (state.step - self.last_step) * recipe.accumulate * recipe.sampler.batch
        speed = photos / max(now - self.last_time, 1e-9)
        self.last_step, self.last_time = state.step, now
        self.note(
            "step",
            step=state.step,
            total=state.total,
            epoch=round(state.step * recipe.accumulate / state.per_epoch, 3),
            images_per_s=round(speed, 1),
            rate=float(state.optimiser.param_groups[0]["lr"]),
            skipped=state.skipped,
            **logs,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Write out what TensorBoard still holds back."""
        self.board.close()


def read_log(path: Path) -> list[dict[str, Any]]:
    """The rows of a `log.jsonl`, none where there is no file; a last line torn by a kill is left out."""
    if not path.is_file():
        return []
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
    except ValueError as error:
        raise TrainingError(f"the log is damaged ({error})", file=path, hint="move it away and run again") from error


def _tensorboard(folder: Path, step: int) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=step + 1)
