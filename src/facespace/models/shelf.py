"""Where weights lie: inside the package, and in the folder that `facespace model pull` fills."""

from pathlib import Path

from facespace.errors import ModelNotFound
from facespace.faces.home import models_folder

SUFFIXES = (".onnx", ".safetensors")
PACKAGED = Path(__file__).with_name("weights")


def shelf() -> dict[str, Path]:
    """Name and weights of every model that needs no path; a name in the package hides the same name in the folder."""
    found: dict[str, Path] = {}
    for folder in (PACKAGED, models_folder()):
        for path in sorted(folder.glob("*")):
            if path.suffix in SUFFIXES and path.is_file():
                found.setdefault(path.stem, path)
    return found


def find_weights(name_or_path: str | Path) -> Path:
    """The weights that a name on the shelf, or a path to an `.onnx` or `.safetensors` file, stands for.

    Raises ModelNotFound with the names there are.
    """
    path = Path(name_or_path)
    if path.suffix in SUFFIXES or path.name != str(name_or_path):
        if path.suffix not in SUFFIXES:
            raise ModelNotFound("weights are .onnx or .safetensors files", file=path, hint=_names())
        if not path.is_file():
            raise ModelNotFound("no such file", file=path, hint=_names())
        return path
    if found := shelf().get(path.name):
        return found
    raise ModelNotFound(f"no model is called {path.name!r}", hint=_names())


def _names() -> str:
    names = ", ".join(shelf()) or "no model"
    return f"here are: {names}; `facespace model list` also shows what can be pulled"
