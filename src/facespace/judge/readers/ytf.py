"""YouTube Faces: pairs of videos, each a folder of frames. Wolf, Hassner and Maoz, CVPR 2011."""

import csv
import re
from pathlib import Path

import numpy as np

from facespace.data.folder import SUFFIXES
from facespace.errors import DataError, UsageError
from facespace.judge.pooling import Average, Templates
from facespace.judge.protocols import NamedPair, PairProtocol, names_and_labels
from facespace.judge.readers.files import lines_of, photo_reader

FOLDERS = ("frame_images_DB", "aligned_images_DB")
"""Where frames are looked for, the first that is there."""
MOST_FRAMES = 1000
_COLUMNS = ("split", "first", "second", "same")


def ytf(data: Path, frames: int = 100, average: Average = "embedding", listed: Path | None = None) -> PairProtocol:
    """The pairs of videos in `splits.txt`, in its ten splits; `data` holds it beside `frame_images_DB/person/video/`.

    `listed` is another list of the same form: the set's errata are `splits_corrected.txt`, whose labels differ.
    The protocol's name says which was taken: `ytf-splits`, `ytf-splits_corrected`.

    A video is a template of its first `frames` photos in the order of their numbers, as FaceNet takes them (100 or
    1000), so that figures can be compared; those without a face are left out, where FaceNet takes later ones instead.
    `average` compares videos by the mean of their vectors, or by the mean score over all pairs of a frame of each, as
    FaceNet does. Raises DataError that names the line of what is wrong, or where videos are missing.
    """
    if not 1 <= frames <= MOST_FRAMES:
        raise UsageError(f"{frames} frames of a video", hint=f"1 to {MOST_FRAMES}")
    listed = listed or data / "splits.txt"
    pairs, folds = _pairs(listed)
    root = next((data / name for name in FOLDERS if (data / name).is_dir()), data / FOLDERS[0])
    videos = {name: at for at, name in enumerate(dict.fromkeys(name for a, b, _ in pairs for name in (a, b)))}
    shown = [_frames(root, video)[:frames] for video in videos]
    photos = tuple(name for names in shown for name in names)
    templates = Templates(
        photos,
        photo_reader(root),
        photo=np.arange(len(photos)),
        template=np.repeat(np.arange(len(videos)), [len(names) for names in shown]),
        media=np.zeros(len(photos), np.int64),
        average=average,
    )
    names, labels = names_and_labels([video.split("/")[0] for video in videos])
    return PairProtocol(
        f"ytf-{listed.stem}",
        photos=tuple(videos),
        labels=labels,
        first=np.array([videos[a] for a, _, _ in pairs], np.int64),
        second=np.array([videos[b] for _, b, _ in pairs], np.int64),
        same=np.array([same for _, _, same in pairs], np.bool_),
        folds=np.array(folds, np.int64),
        read=templates.read,
        names=names,
        templates=templates,
    )


def _pairs(path: Path) -> tuple[list[NamedPair], list[int]]:
    """Pairs of videos `person/number` and their splits; columns are known by the words of the header."""
    rows = csv.reader((line for _, line in lines_of(path)), skipinitialspace=True)
    header = [name.lower() for name in next(rows, [])]
    at = [next((i for i, name in enumerate(header) if word in name), -1) for word in _COLUMNS]
    if -1 in at:
        hint = "such as: split number, pair number, first name, second name, is same"
        raise DataError(f"line 1 has not the columns {', '.join(_COLUMNS)}", file=path, hint=hint)
    pairs: list[NamedPair] = []
    folds: list[int] = []
    for row in rows:
        fold, first, second, same = (row[i].strip() if i < len(row) else "" for i in at)
        videos = all(re.fullmatch(r"[^/\\]+/\d+", name) and not name.startswith(".") for name in (first, second))
        if not (fold.isdecimal() and 0 < int(fold) < 1000 and videos and same in ("0", "1")):
            raise DataError(f"line {rows.line_num} is not: split, ..., person/video, person/video, 1 or 0", file=path)
        pairs.append((first, second, same == "1"))
        folds.append(int(fold))
    if not pairs:
        raise DataError("an empty list", file=path)
    return pairs, folds


def _frames(root: Path, video: str) -> list[str]:
    """The photos of a video below `root`, in the order of the numbers in their names."""
    try:
        names = [path.name for path in (root / video).iterdir() if path.suffix.lower() in SUFFIXES]
    except OSError as error:
        hint = f"give the folder that holds splits.txt and {FOLDERS[0]}"
        raise DataError(f"the video {video} cannot be listed ({error.strerror})", file=root, hint=hint) from error
    if not names:
        raise DataError(f"the video {video} has no frame", file=root)
    return [f"{video}/{name}" for name in sorted(names, key=lambda name: (_numbers(name), name))]


def _numbers(name: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", name)]
