"""Where weights lie: inside the package, and in the folder that `facespace model pull` fills."""

from pathlib import Path

from facespace.errors import ModelNotFound
from facespace.faces.home import models_folder

SUFFIXES = (".onnx", ".safetensors")
RESULT = "model.onnx"
"""The file in the folder of a run that a training leaves to be used."""
PULLABLE = ("sface", "sface-int8")
"""Recognisers of the zoo (`models.zoo`, which knows this room), here so that a missing one is told how it comes."""
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
    """The weights that are meant by a name on the shelf, a path to them, or the folder of a training run.

    Raises ModelNotFound with the names there are, or with the command that brings the one that is missing.
    """
    if found := shelf().get(str(name_or_path)):
        return found
    path = Path(name_or_path)
    if path.is_dir():
        path = path / RESULT
    if path.suffix in SUFFIXES and path.is_file():
        return path
    if str(name_or_path) in PULLABLE:
        raise ModelNotFound(f"the model {path.name!r} is not here yet", hint=f"run `facespace model pull {path.name}`")
    if path.suffix in SUFFIXES or path.name != str(name_or_path):
        raise ModelNotFound("there are no .onnx or .safetensors weights here", file=path, hint=_names())
    raise ModelNotFound(f"no model is called {path.name!r}", hint=_names())


def _names() -> str:
    names = ", ".join(shelf())
    here = f"here are: {names}" if names else "no model is here yet"
    return f"{here}; `facespace model list` also shows what can be pulled"
