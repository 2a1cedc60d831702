"""The one error family.

    FacespaceError            70  a fault of ours when raised bare
    ├── UsageError             2  contradicting or missing settings
    │   └── MissingExtra       2  an optional part of the package is not installed
    ├── InputError             3  the photo cannot be used
    │   ├── BadImage           3  not an image, damaged, too large
    │   ├── NoFace             3  no face where one is needed
    │   └── SeveralFaces       3  several faces where one was asked
    ├── ModelError             4  a model, its card or its weights
    │   ├── ModelNotFound      4  no such model
    │   ├── BadCard            4  a card that is malformed or contradicts its weights
    │   ├── ContractMismatch   4  vectors of two different models meet
    │   ├── DeviceUnavailable  4  the asked device is not there; nothing falls back silently
    │   └── DownloadFailed     4  weights could not be fetched or have the wrong digest
    ├── DataError              5  a folder, archive, list or protocol
    ├── TrainingError          5  training cannot go on: non-finite loss, a run folder of another recipe
    ├── GalleryError           6  the gallery or its database
    └── Refused                7  the data cannot support the claim; a licence or consent forbids it

Each error carries a `code` (stable, for programs), a `status` (exit status of the command line), a message that names
the file where there is one, and a `hint` that says what to do next.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, get_args


class FacespaceError(Exception):
    """Root of the family; raised bare only for a fault of facespace itself."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 70

    def __init__(self, message: str, *, hint: str = "", file: str | Path | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.file = None if file is None else str(file)

    def __str__(self) -> str:
        where = f"{self.file}: " if self.file and self.file not in self.message else ""
        return f"{where}{self.message}"

    def as_json(self) -> dict[str, dict[str, str | None]]:
        """The error as the document that `--json` prints: `{"error": {"code", "message", "hint", "file"}}`."""
        return {"error": {"code": self.code, "message": self.message, "hint": self.hint, "file": self.file}}


class UsageError(FacespaceError):
    """Settings contradict each other, or one is missing."""

    code, status = "usage", 2


class MissingExtra(UsageError):
    """A feature needs an optional part of the package; the hint names the `pip install` that brings it."""

    code = "missing_extra"


class InputError(FacespaceError):
    """A photo cannot be used."""

    code, status = "bad_input", 3


class BadImage(InputError):
    """The bytes are not an image of an allowed format, are damaged, or exceed a limit."""

    code = "bad_image"


class NoFace(InputError):
    """The photo shows no face that the detector finds."""

    code = "no_face"


class SeveralFaces(InputError):
    """The photo shows several faces where exactly one was asked for."""

    code = "several_faces"


class ModelError(FacespaceError):
    """A model, its card or its weights cannot be used."""

    code, status = "bad_model", 4


class ModelNotFound(ModelError):
    """There is no model of that name or path."""

    code = "model_not_found"


class BadCard(ModelError):
    """A model's card is malformed, or contradicts the weights beside it."""

    code = "bad_card"


class ContractMismatch(ModelError):
    """Embeddings of two different contracts (weights, preprocessing, dimension) would be compared."""

    code = "contract_mismatch"


class DeviceUnavailable(ModelError):
    """The asked device is not present; nothing falls back silently."""

    code = "device_unavailable"


class DownloadFailed(ModelError):
    """Weights could not be fetched, or what arrived has another size or digest than promised."""

    code = "download_failed"


class DataError(FacespaceError):
    """A folder, archive, pair list or protocol is missing, malformed or too small."""

    code, status = "bad_data", 5


class TrainingError(FacespaceError):
    """Training cannot go on."""

    code, status = "training", 5


class GalleryError(FacespaceError):
    """The gallery or its database cannot do what was asked."""

    code, status = "gallery", 6


class Refused(FacespaceError):
    """The data cannot support the claim, or a licence or consent forbids the use."""

    code, status = "refused", 7


def check_choices(settings: object, kinds: Mapping[str, Any], of: str = "") -> None:
    """UsageError, naming the choices, where a field of `settings` is not one of its `Literal` in `kinds`.

    `of` stands before the field's name where that alone would not tell whose it is.
    """
    for name, kind in kinds.items():
        value = getattr(settings, name)
        if value not in get_args(kind):
            raise UsageError(f"{of}{name} = {value!r} is unknown", hint=f"one of {', '.join(get_args(kind))}")
