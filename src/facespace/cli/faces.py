"""`facespace detect` and `facespace embed`: the faces of photos, and their vectors."""

from pathlib import Path
from typing import Annotated, Any

import typer

from facespace.cli import options, shell
from facespace.errors import InputError

Paths = Annotated[list[Path], typer.Argument(help="Photos, and folders of photos.")]


def register(app: typer.Typer) -> None:
    """Add the verbs to the application."""
    app.command()(detect)
    app.command()(embed)


def detect(
    photos: Paths,
    detector: options.DetectorOption = options.DetectorName.yunet,
    detector_weights: options.DetectorWeights = None,
    detector_size: options.DetectorSize = 640,
    commercial: options.Commercial = False,
    json: options.Json = False,
) -> None:
    """Find the faces of photos: box, score and five landmarks of each, in pixels."""
    from facespace.models.photos import detect_photos, photo_paths

    finder = options.open_detector(detector, weights=detector_weights, size=detector_size, commercial=commercial)
    found, failures = detect_photos(photo_paths(photos), finder)
    if json:
        rows = [{"file": file, "faces": [face.as_json() for face in faces]} for file, faces in found]
        shell.print_json({"detector": finder.source, "photos": rows, "failures": _failed(failures)})
    else:
        cells = [
            [file, *(str(round(value)) for value in face.box), f"{face.score:.2f}", _points(face.landmarks)]
            for file, faces in found
            for face in faces
        ]
        if cells:
            shell.show_table(["file", "x", "y", "width", "height", "score", "landmarks"], cells)
        for file in (file for file, faces in found if not faces):
            shell.say(f"{file}: no face was found.")
    _finish(failures, json=json)


def embed(
    photos: Paths,
    output: Annotated[Path, typer.Option("--output", "-o", help="An .npz or .parquet file.")],
    model: options.Model = "compact",
    policy: Annotated[options.Policy, typer.Option(help="Which faces of a photo to take.")] = options.Policy.all,
    detector: options.DetectorOption = options.DetectorName.yunet,
    detector_weights: options.DetectorWeights = None,
    detector_size: options.DetectorSize = 640,
    channels: options.ChannelsOption = None,
    mean: options.Mean = None,
    std: options.Std = None,
    device: options.Device = "cpu",
    threads: options.Threads = None,
    commercial: options.Commercial = False,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Turn the faces of photos into vectors, with the file, box and score each came from."""
    from facespace.models.photos import check_output, embed_photos, photo_paths, save_vectors

    check_output(output)
    options.check_place(output)
    embedder = options.open_embedder(
        model, threads=threads, device=device, channels=channels, mean=mean, std=std, commercial=commercial
    )
    finder = options.open_detector(detector, weights=detector_weights, size=detector_size, commercial=commercial)
    with shell.progress("Embedding", quiet=quiet or json) as told:
        paths = photo_paths(photos)
        result = embed_photos(paths, embedder, finder, policy=policy.value, threads=embedder.threads, told=told)
    save_vectors(result, output)
    if json:
        work = {"device": embedder.device, "threads": embedder.threads, "failures": _failed(result.failures)}
        summary = {"output": str(output), "photos": len(paths), "faces": len(result.faces)}
        shell.print_json({**summary, **result.metadata, **work})
    elif not quiet:
        shell.say(f"{len(result.faces)} faces of {len(paths)} photos: {output} ({embedder.name}, {embedder.dim}-D).")
    _finish(result.failures, json=json)


def _finish(failures: tuple[InputError, ...], *, json: bool) -> None:
    """Name each photo that could not be used, and leave with their status; what could be used is written already."""
    for failure in failures:
        if not json:
            shell.tell_error(failure, as_json=False)
    if failures:
        raise typer.Exit(InputError.status)


def _failed(failures: tuple[InputError, ...]) -> list[dict[str, Any]]:
    return [failure.as_json()["error"] for failure in failures]


def _points(landmarks: tuple[tuple[float, float], ...]) -> str:
    return " ".join(f"{round(x)},{round(y)}" for x, y in landmarks)
