"""The whole product on one page, in the order it happens: people, training, judgement, report, a pair of photos.

Run by `make demo`. Without `--data` the people are drawn; with it they come from a folder `person/photo.jpg` of aligned
faces, or a tar of one. Two fifths of the people are never seen in the training: one half of them chooses among its
states, the other half judges the result.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facespace.cli import shell
from facespace.cli.train import progress
from facespace.cli.verify import sentence

if TYPE_CHECKING:
    from facespace.models.embedder import NetEmbedder

app = typer.Typer(cls=shell.Shell, add_completion=False, pretty_exceptions_enable=False)


@app.command()
def demo(
    data: Annotated[Path | None, typer.Option(help="People to use instead of drawn ones.")] = None,
    out: Annotated[Path, typer.Option(help="Where everything goes.")] = Path("demo"),
    threads: Annotated[int, typer.Option(min=1, help="Threads of the training.")] = 2,
) -> None:
    """Train an ArcFace model, judge it on people it never saw, write a report, and verify two pairs of photos."""
    import numpy as np

    from facespace.data.folder import open_people
    from facespace.data.splits import split_people
    from facespace.faces.detect import Aligned
    from facespace.judge.paired import PICTURES
    from facespace.judge.protocols import made_pairs
    from facespace.judge.report import Report
    from facespace.judge.run import run as judge
    from facespace.models.card import read_card
    from facespace.models.embedder import load
    from facespace.models.matching import verify
    from facespace.train.loop import Where, train
    from facespace.train.recipes import recipe

    people = open_people(data or drawn(out / "people", threads))
    fifth = max(2, len(people.names) // 5)
    known, strangers = split_people(people, fifth)
    say(f"{len(people.photos)} photos of {len(people.names)} people; {fifth} of them wait for the judgement.")

    chosen = replace(recipe("arcface_demo"), held_out=fifth)
    with progress(quiet=not sys.stderr.isatty()) as listen:
        outcome = train(chosen, known, out / "run", where=Where(threads=threads), listen=listen)
    say(f"Trained in {out / 'run'}: model.onnx with its card.")

    embedder = load(outcome.onnx)
    protocol = made_pairs(strangers.photos, strangers.read)
    evaluation = judge(protocol, embedder, Aligned(), pictures=PICTURES)
    card = read_card(outcome.onnx.with_name("model.card.json")).as_json()
    Report(evaluation, about=card, curves=training_curves(out / "run")).write(out / "report.html")
    mean, (low, high) = evaluation.figures.accuracy, evaluation.figures.accuracy_ci95
    say(f"On {fifth} people it never saw: accuracy {mean:.1%} (95 % interval {low:.1%} to {high:.1%}).")
    say(f"The page: {out / 'report.html'}")

    threshold = evaluation.figures.threshold
    for same in (True, False):
        pair = int(np.flatnonzero(protocol.same == same)[0])
        photos = [protocol.photos[side[pair]] for side in (protocol.first, protocol.second)]
        one, other = (save(out / "pair" / name.replace("/", "-"), strangers.read(name)) for name in photos)
        verdict = verify(one, other, embedder, Aligned(), threshold=threshold)
        say(f"{' and '.join(photos)}: {sentence(verdict)}")
    if data is None:
        whole_photos(out / "photos", embedder, threshold)


def whole_photos(folder: Path, embedder: "NetEmbedder", threshold: float) -> None:
    """Two drawn photos of one person in full, found by YuNet where its weights are here."""
    import cv2

    from facespace.data.drawn import draw_photo, person
    from facespace.errors import ModelNotFound
    from facespace.faces.detect import YuNet
    from facespace.models.matching import verify

    try:
        detector = YuNet()
    except ModelNotFound as error:
        say(f"Left out: whole photos, which need a detector ({error.hint}).")
        return
    files = []
    for photo in range(2):
        picture, _ = draw_photo([person(1, 0)], photo)
        _, coded = cv2.imencode(".jpg", picture[:, :, ::-1])
        files.append(save(folder / f"photo-{photo}.jpg", coded.tobytes()))
    verdict = verify(files[0], files[1], embedder, detector, threshold=threshold)
    say(f"Two whole photos of one person: {sentence(verdict)}")


def training_curves(run: Path) -> list[tuple[str, list[float], list[float]]]:
    """Loss and held-out score of a run over its steps."""
    from facespace.train.runlog import read_log

    rows = read_log(run / "log.jsonl")
    wanted = (("loss", "step", "loss"), ("TAR at FAR 1 % on held-out people", "held_out", "tar_at_far_1e-2"))
    lines = []
    for name, kind, key in wanted:
        points = [(float(row["step"]), float(row[key])) for row in rows if row["kind"] == kind]
        lines.append((name, [x for x, _ in points], [y for _, y in points]))
    return lines


def save(path: Path, content: bytes) -> Path:
    """Write a file, its folder if needed, and give its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def say(line: str) -> None:
    """One line on stdout."""
    typer.echo(line)


def drawn(folder: Path, workers: int) -> Path:
    """The drawn people, made once."""
    from facespace.data.drawn import write_people

    if not folder.exists():
        say("Drawing 120 people ...")
        write_people(folder, people=120, photos=20, seed=0, workers=workers)
    return folder


if __name__ == "__main__":
    shell.run(app)
