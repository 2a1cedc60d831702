"""What `facespace model pull` knows: one table of public weights with pinned size and digest, and how they are fetched.

A fetched file gets its name only when its size and SHA-256 are right; an interrupted download is continued.
"""

import hashlib
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

from facespace.errors import DownloadFailed, ModelError, ModelNotFound, Refused
from facespace.faces.home import models_folder
from facespace.models.card import Card, Input, card_path, read_card, require_commercial, settle, write_card
from facespace.models.shelf import find_weights, shelf

Told = Callable[[int, int], None]
"""Hears of progress: bytes that are here, bytes of the whole file."""

_OPENCV_ZOO = "https://github.com/opencv/opencv_zoo/raw/main/models"
_CHUNK = 1 << 18
_PATIENCE_S = 30.0
_CLEAN = "`facespace model pull yunet` and `facespace model pull sface` bring weights that allow it"


@dataclass(frozen=True)
class Pullable:
    """Weights with a public home: their card, where they are, and how long the file is."""

    card: Card
    url: str
    size_bytes: int


def _yunet() -> Pullable:
    file = "face_detection_yunet_2023mar.onnx"  # under this name `faces.detect` looks for it
    return Pullable(
        Card(
            name="yunet",
            file=file,
            sha256="8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
            input=Input(size=0, channels="bgr", mean=0.0, std=1.0),
            dim=0,
            licence="MIT",
            commercial=True,
            trained_on="WIDER FACE",
            source=f"opencv/opencv_zoo, {file}",
        ),
        f"{_OPENCV_ZOO}/face_detection_yunet/{file}",
        232_589,
    )


def _sface(name: str, file: str, sha256: str, size_bytes: int) -> Pullable:
    """SFace (Zhong et al., 2021): its normalisation is inside the network."""
    return Pullable(
        Card(
            name=name,
            file=f"{name}.onnx",
            sha256=sha256,
            input=Input(size=112, channels="rgb", mean=0.0, std=1.0),
            dim=128,
            licence="Apache-2.0",
            commercial=True,
            source=f"opencv/opencv_zoo, {file}",
        ),
        f"{_OPENCV_ZOO}/face_recognition_sface/{file}",
        size_bytes,
    )


ZOO: dict[str, Pullable] = {
    "yunet": _yunet(),
    "sface": _sface(
        "sface",
        "face_recognition_sface_2021dec.onnx",
        "0ba9fbfa01b5270c96627c4ef784da859931e02f04419c829e83484087c34e79",
        38_696_353,
    ),
    "sface-int8": _sface(
        "sface-int8",
        "face_recognition_sface_2021dec_int8.onnx",
        "2b0e941e6f16cc048c20aee0c8e31f569118f65d702914540f7bfdc14048d78a",
        9_896_933,
    ),
}


def pull(
    name: str,
    *,
    source: str | None = None,
    folder: Path | None = None,
    commercial: bool = False,
    told: Told = lambda here, whole: None,
) -> Path:
    """Fetch weights and their card into `folder`, by default that of `FACESPACE_HOME`; the path of the weights.

    `source` is another URL of the same file, or a local path to it. What is here already is not fetched again. Raises
    ModelNotFound, DownloadFailed (nothing is left under the name), or, with `commercial`, Refused where the card does
    not say that such use is allowed.
    """
    if commercial:
        require_commercial(card_of(name))
    if name not in ZOO and name in shelf():
        return find_weights(name)
    entry = pullable(name)
    weights = (folder or models_folder()) / entry.card.file
    if not (weights.is_file() and _sha256(weights) == entry.card.sha256):
        weights.parent.mkdir(parents=True, exist_ok=True)
        url = source or entry.url
        if url.startswith(("https://", "http://")):
            _fetch(entry, url, weights, told)
        else:
            _copy(entry, Path(url), weights)
    write_card(entry.card, weights)
    return weights


def pullable(name: str) -> Pullable:
    """The row of the zoo; ModelNotFound with the names there are."""
    if name not in ZOO:
        raise ModelNotFound(f"the zoo has no {name!r}", hint="it has: " + ", ".join(ZOO))
    return ZOO[name]


def card_of(name_or_path: str | Path) -> Card:
    """The card of a model that is here or can be pulled; its weights are not opened."""
    if str(name_or_path) in ZOO:
        return ZOO[str(name_or_path)].card
    weights = find_weights(name_or_path)
    if not card_path(weights).is_file() and (pinned := _pinned(weights)):
        return pinned
    return read_card(card_path(weights))


@dataclass(frozen=True)
class Listed:
    """A model that is here (`path`) or can be pulled; `card` None where none can be read, `problem` saying why."""

    name: str
    card: Card | None
    path: Path | None
    size_bytes: int
    problem: str = ""

    def as_json(self) -> dict[str, Any]:
        """Name, card, path and size as a JSON object."""
        card = self.card.as_json() if self.card else None
        path = str(self.path) if self.path else None
        return {"name": self.name, "path": path, "size_bytes": self.size_bytes, "card": card, "problem": self.problem}


def require_commercial_weights(weights: Path) -> None:
    """Raise Refused unless a card, beside the weights or of the zoo, says that commercial use is allowed."""
    try:
        card = card_of(weights)
    except ModelNotFound as error:
        raise Refused("no card says that commercial use is allowed", file=weights, hint=_CLEAN) from error
    require_commercial(card)


def listed() -> list[Listed]:
    """Every model that is here, and then the rows of the zoo that are not."""
    names = {entry.card.file: name for name, entry in ZOO.items()}
    here = [_listed(names.get(path.name, path.stem), path) for path in shelf().values()]
    known = {row.name for row in here}
    return here + [Listed(name, e.card, None, e.size_bytes) for name, e in ZOO.items() if name not in known]


def _listed(name: str, path: Path) -> Listed:
    size_bytes = path.stat().st_size
    try:
        return Listed(name, card_of(path), path, size_bytes)
    except ModelError as error:
        return Listed(name, None, path, size_bytes, str(error))


def _pinned(weights: Path) -> Card | None:
    """The zoo's card of exactly these weights, wherever they lie and whatever they are called."""
    digest = _sha256(weights)
    return next((entry.card for entry in ZOO.values() if entry.card.sha256 == digest), None)


def _copy(entry: Pullable, source: Path, weights: Path) -> None:
    """Take a local copy of the file, if it is one."""
    hint = f"name the file itself, or leave out --from: it is fetched from {entry.url}"
    if not source.is_file():
        raise DownloadFailed("there is no such file", file=source, hint=hint)
    if (size_bytes := source.stat().st_size) != entry.size_bytes:
        said = f"is not {entry.card.name}: {size_bytes:,} bytes instead of {entry.size_bytes:,}"
        raise DownloadFailed(said, file=source, hint=hint)
    if _sha256(source) != entry.card.sha256:
        raise DownloadFailed(f"is not {entry.card.name}: its SHA-256 is another", file=source, hint=hint)
    part = weights.with_name(f".{weights.name}.part")
    shutil.copyfile(source, part)
    settle(part, weights)


def _fetch(entry: Pullable, source: str, weights: Path, told: Told) -> None:
    """Download beside the name, continuing what is there, check, and give it the name."""
    part = weights.with_name(f".{weights.name}.part")
    try:
        _download(source, part, entry.size_bytes, told)
    except (OSError, HTTPException, ValueError) as error:
        raise DownloadFailed(
            f"{entry.card.name} could not be fetched from {source}: {_reason(error)}",
            hint="run it again to continue, or fetch the file elsewhere and give it with --from",
        ) from error
    found = part.stat().st_size
    if found < entry.size_bytes:
        raise DownloadFailed(
            f"{entry.card.name} broke off after {found} of {entry.size_bytes} bytes", hint="run it again to continue"
        )
    if found > entry.size_bytes or _sha256(part) != entry.card.sha256:
        part.unlink()
        raise DownloadFailed(
            f"what {source} gave is not {entry.card.name}: its size or SHA-256 is another; it was thrown away",
            hint="a page instead of the file, or a changed file; give another copy with --from",
        )
    settle(part, weights)


def _download(url: str, part: Path, size_bytes: int, told: Told) -> None:
    """Append to `part` what is missing of `size_bytes`; start over where the server does not continue."""
    here = part.stat().st_size if part.is_file() else 0
    if here >= size_bytes:
        part.unlink()
        here = 0
    headers = {"User-Agent": "facespace", **({"Range": f"bytes={here}-"} if here else {})}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_PATIENCE_S) as answer:
        continues = here > 0 and (answer.headers.get("Content-Range") or "").startswith(f"bytes {here}-")
        here = here if continues else 0
        with part.open("ab" if continues else "wb") as file:
            while here <= size_bytes and (chunk := answer.read(_CHUNK)):
                file.write(chunk)
                here += len(chunk)
                told(min(here, size_bytes), size_bytes)


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answers {error.code} {error.reason}"
    return str(getattr(error, "reason", error)) or type(error).__name__


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
