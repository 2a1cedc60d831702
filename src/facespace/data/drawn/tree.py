"""Drawn people as a folder of photos."""

import shutil
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import mkdtemp

import cv2

from facespace.data.drawn.population import person
from facespace.data.drawn.scene import draw_crop
from facespace.errors import DataError, UsageError

_QUALITY = 95  # of the JPEG files; the camera's own compression is drawn already


def write_people(folder: Path, *, people: int = 80, photos: int = 24, seed: int = 0, workers: int = 1) -> int:
    """Write aligned crops `drawn-0000/0001.jpg` (JPEG) of drawn people and give their number.

    The files depend on `people`, `photos` and `seed` alone, and the folder appears complete or not at all. `workers`
    processes share the work. Raises UsageError for a number below 1 (seed: below 0), DataError where `folder` exists
    and is not empty.
    """
    if min(people, photos, workers) < 1 or seed < 0:
        raise UsageError("drawn people need people, photos and workers of 1 or more, and a seed of 0 or more")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError("the place for drawn faces is taken", file=folder, hint="name a new or empty folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _write_all(unfinished, people, photos, seed, workers)
        unfinished.chmod(0o755)  # mkdtemp keeps others out
        unfinished.replace(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return people * photos


def _write_all(folder: Path, people: int, photos: int, seed: int, workers: int) -> None:
    if workers == 1:
        for index in range(people):
            _write_person(folder, seed, index, photos)
        return
    with ProcessPoolExecutor(min(workers, people), mp_context=get_context("spawn")) as pool:
        for done in [pool.submit(_write_person, folder, seed, index, photos) for index in range(people)]:
            done.result()


def _write_person(folder: Path, seed: int, index: int, photos: int) -> None:
    home = folder / f"drawn-{index:04d}"
    home.mkdir()
    identity = person(seed, index)
    for photo in range(photos):
        crop = draw_crop(identity, photo)
        _, data = cv2.imencode(".jpg", crop[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
        (home / f"{photo + 1:04d}.jpg").write_bytes(data.tobytes())
