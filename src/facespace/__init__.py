"""facespace: photos of people as points of a space in which distance means identity.

Public names are imported when they are first used: `import facespace` itself is instant.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from facespace.errors import FacespaceError
    from facespace.faces.align import aligned_faces
    from facespace.faces.detect import Aligned, YuNet
    from facespace.faces.photo import read_photo
    from facespace.models.embedder import load
    from facespace.models.matching import verify
    from facespace.models.photos import embed_photos

_HOMES = {
    "Aligned": "facespace.faces.detect",
    "FacespaceError": "facespace.errors",
    "YuNet": "facespace.faces.detect",
    "aligned_faces": "facespace.faces.align",
    "embed_photos": "facespace.models.photos",
    "load": "facespace.models.embedder",
    "read_photo": "facespace.faces.photo",
    "verify": "facespace.models.matching",
}

__all__ = [
    "Aligned",
    "FacespaceError",
    "YuNet",
    "__version__",
    "aligned_faces",
    "embed_photos",
    "load",
    "read_photo",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
