"""One training of a plan, and what it leaves for the comparison: vectors of the judged people, and a result.

OUT/PLAN/VARIANT-seedS/
    run.json, log.jsonl, trunk.safetensors, ...   as every training leaves them, but for its checkpoints
    vectors.npz    vectors (N, D) and labels (N,) of the judged people; lfw (M, D), where LFW is judged
    result.json    how it ended
"""

import hashlib
import io
import json
import shutil
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from facespace.core.contracts import Vectors
from facespace.data.batches import sound_crops
from facespace.data.folder import People, PhotoRef, open_people
from facespace.errors import DataError, ModelError, TrainingError, UsageError
from facespace.judge.protocols import PairProtocol, lfw
from facespace.losses.triplet import COLLAPSED_BELOW
from facespace.models.card import write_atomic
from facespace.models.embedder import NetEmbedder, load
from facespace.train.loop import Listener, Where, train
from facespace.train.plan import Run
from facespace.train.runlog import read_log
from facespace.train.start import TRUNK

Status = Literal["finished", "collapsed", "diverged", "failed"]
"""`collapsed`: all faces at one point; `diverged`: loss or weights not finite; both are results. `failed`: an error."""

WHERE = Where(save_every=100, onnx=False)


@dataclass(frozen=True)
class Sources:
    """The people that a plan learns from, and those that it is judged by."""

    data: Path
    """A folder person/photo.jpg of aligned faces, or a tar of one."""
    judge: Path
    """The same of other people."""
    lfw: Path | None = None
    """LFW's photos, aligned, and its list."""
    pairs: Path | None = None

    @cached_property
    def people(self) -> People:
        """To learn from."""
        return open_people(self.data)

    @cached_property
    def judged(self) -> People:
        """To be judged by."""
        return open_people(self.judge)

    def check(self) -> None:
        """UsageError where photos are both learnt from and judged by: figures of people one knows tell nothing."""
        if both := len({*self.people.contents} & {*self.judged.contents}):
            raise UsageError(f"{both} photos are to be learnt from and to be judged by", hint="--judge other people")

    @cached_property
    def protocol(self) -> PairProtocol | None:
        """LFW's pairs, where they are given."""
        return None if self.lfw is None or self.pairs is None else lfw(self.pairs, self.lfw)

    @cached_property
    def judge_digest(self) -> str:
        """The identity of the photos that vectors are made of."""
        return self.judged.digest + (f"+{open_people(self.lfw).digest}" if self.lfw is not None else "")


@dataclass(frozen=True)
class Result:
    """How a training of a plan ended; `result.json`."""

    status: Status
    message: str = ""
    """Why it did not finish."""
    photos: int = 0
    """Photos seen, those seen again counted again."""
    minutes: float = 0.0
    """Of training, without what a kill undid."""
    built_on: str = ""
    """Digest of the weights of the runs it needed."""
    judge: str | None = None
    """Digest of the photos behind `vectors.npz`."""

    @classmethod
    def read(cls, folder: Path) -> "Result | None":
        """That of a run's folder, or None."""
        try:
            return cls(**json.loads((folder / "result.json").read_bytes()))
        except (OSError, ValueError, TypeError):
            return None  # not there, or of another version: the run is looked at again

    def write(self, folder: Path) -> "Result":
        """Into a run's folder."""
        write_atomic(folder / "result.json", (json.dumps(asdict(self), indent=1) + "\n").encode())
        return self


def trial(run: Run, out: Path, sources: Sources, listen: Listener = lambda row: None) -> Result:
    """Train `run` into its folder in `out`, or go on where it stopped there, and embed the judged people.

    A training that diverges is a result. Raises the errors of `train`, and DataError for judged photos of no use.
    """
    folder, built_on = out / run.name, digest_of_needs(run, out)
    before = Result.read(folder)
    if before is None or before.status == "failed" or before.built_on != built_on:
        start, clean_with = (None if name is None else out / name for name in (run.start, run.clean_with))
        try:
            train(run.recipe, sources.people, folder, start=start, clean_with=clean_with, where=WHERE, listen=listen)
        except TrainingError as error:
            if error.file is not None:  # not the training itself: its folder is another's, or damaged
                raise
            return Result("diverged", error.message, *cost(run, folder), built_on).write(folder)
    try:
        collapsed = _embed(folder, sources)
    except ModelError as error:  # vectors without a direction
        return Result("diverged", error.message, *cost(run, folder), built_on).write(folder)
    status: Status = "collapsed" if collapsed else "finished"
    result = Result(status, "", *cost(run, folder), built_on, sources.judge_digest).write(folder)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return result


def digest_of_needs(run: Run, out: Path) -> str:
    """SHA-256 over the weights of the runs that a run needs, as they are now."""
    files = [out / name / TRUNK for name in run.needs]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files if file.is_file())).hexdigest()


def is_done(run: Run, out: Path, sources: Sources) -> bool:
    """Whether a run is trained, and the people of `sources.judge` embedded.

    Raises TrainingError where its folder belongs to another recipe or other data.
    """
    folder = out / run.name
    if not (folder / "run.json").is_file():
        return False
    owner = json.loads((folder / "run.json").read_bytes())
    same = owner["recipe"] == json.loads(json.dumps(run.recipe.as_json()))
    if not same or owner["data"]["digest"] != sources.people.digest:
        what = "other data" if same else "another recipe"
        raise TrainingError(f"was trained with {what}", file=folder, hint="remove it, or name another --out")
    result = Result.read(folder)
    if result is None or result.status == "failed" or result.built_on != digest_of_needs(run, out):
        return False
    return result.status == "diverged" or result.judge == sources.judge_digest


def cost(run: Run, folder: Path) -> tuple[int, float]:
    """Photos seen and minutes taken, by the log of a run."""
    rows = [row for row in read_log(folder / "log.jsonl") if row["kind"] == "step"]
    per_step = run.recipe.accumulate * run.recipe.sampler.batch
    steps = np.diff([0, *(row["step"] for row in rows)])
    seconds = sum(per_step * taken / row["images_per_s"] for taken, row in zip(steps, rows, strict=True))
    return int(per_step * steps.sum()), float(seconds / 60)


def _embed(folder: Path, sources: Sources) -> bool:
    """Write the vectors of the judged people; whether they all lie at one point."""
    embedder = load(folder / TRUNK, threads=1)
    vectors, positions = embed_people(embedder, sources.judged)
    stored: dict[str, Any] = {"vectors": vectors, "labels": sources.judged.labels[positions]}
    if sources.protocol is not None:
        photos = tuple(PhotoRef("", name) for name in sources.protocol.photos)
        stored["lfw"], found = embed_people(embedder, People(Path(), photos, sources.protocol.read))
        if len(found) < len(photos):
            missing = len(photos) - len(found)
            raise DataError(f"{missing} photos of LFW cannot be read as aligned faces", file=sources.lfw)
    buffer = io.BytesIO()
    np.savez(buffer, **stored)
    write_atomic(folder / "vectors.npz", buffer.getvalue())
    unit = vectors[:, : embedder.card.group_aware.split] if embedder.card.group_aware else vectors
    # 2 - 2 |mean|^2 is the mean squared distance of unit vectors.
    return bool(2 - 2 * (unit.mean(axis=0, dtype=np.float64) ** 2).sum() < COLLAPSED_BELOW)


def embed_people(embedder: NetEmbedder, people: People) -> tuple[Vectors, NDArray[np.int64]]:
    """Vectors `(N, D)` of the N sound photos, and their positions `(N,)`; damaged ones are left out."""
    vectors, positions = [np.empty((0, embedder.dim), np.float32)], list[int]()
    for sound, faces in sound_crops(people, range(len(people.photos))):
        vectors.append(embedder.embed(faces))
        positions += sound
    return np.concatenate(vectors), np.array(positions, np.int64)
