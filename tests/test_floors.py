"""The house stands: rooms import downwards only and in no circle, none is too long, and torch stays on its floors.

Read from the source by `ast`. "At module level" is what runs when a room is imported: functions are not entered, nor
what stands under `if TYPE_CHECKING:`, which never runs. The rules of floors and circles leave only the latter out.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

import facespace

ROOT = Path(facespace.__file__).parent
FLOORS = ("errors", "core", "faces", "models", "losses", "data", "judge", "train", "gallery", "service", "cli")
"""From the ground up."""
MOST_LINES = 500
DOORS = ("facespace", "facespace.__main__")
"""They belong to no floor, and may lead to any."""
TORCH_ROOMS = ("facespace.models.nets", "facespace.losses", "facespace.train")
"""Rooms that import torch when they are imported; from all others it is not reached, through whatever rooms."""
PLAIN = {"numpy", "cv2", "PIL", "onnxruntime", "typer", "rich", "platformdirs", "sqlalchemy", "jinja2"}
"""What a plain install brings; everything else but the standard library is an extra."""


class Import(NamedTuple):
    """One name imported in a room."""

    module: str
    """The module, in full."""
    name: str
    """What is taken from it; empty for `import module`."""
    top: bool
    """Whether importing the room imports it."""


class Room(NamedTuple):
    name: str
    path: Path
    imports: tuple[Import, ...]


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).removeprefix("typing.") == "TYPE_CHECKING"


def imports_in(body: list[ast.stmt], package: str, top: bool = True) -> Iterator[Import]:
    for node in body:
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, "", top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*base, node.module] if node.module else base)
            yield from (Import(module, alias.name, top) for alias in node.names)
        elif is_type_checking(node):
            assert isinstance(node, ast.If)
            yield from imports_in(node.orelse, package, top)
        else:
            inside = top and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.stmt):
                    yield from imports_in([child], package, inside)
                elif isinstance(child, ast.ExceptHandler | ast.match_case):
                    yield from imports_in(child.body, package, inside)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def read_room(path: Path) -> Room:
    name = module_name(path)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    return Room(name, path, tuple(imports_in(tree.body, package)))


@cache
def rooms() -> dict[str, Room]:
    return {room.name: room for room in map(read_room, sorted(ROOT.rglob("*.py")))}


def floor(room: str) -> str:
    """The floor of a room; empty for a door of the house."""
    return "" if room in DOORS else room.split(".")[1]


def met(taken: Import) -> str:
    """The room that an import names: `from package import room` means the room."""
    within = f"{taken.module}.{taken.name}"
    return within if within in rooms() else taken.module


def loaded(taken: Import) -> Iterator[str]:
    """All rooms that an import runs: those on the way to a room are run before it."""
    parts = met(taken).split(".")
    yield from (name for i in range(1, len(parts) + 1) if (name := ".".join(parts[:i])) in rooms())


def reached(room: str) -> dict[str, str]:
    """Modules that importing a room runs or asks for from outside, each with the room that does."""
    found: dict[str, str] = {}
    parts = room.split(".")
    waiting = [".".join(parts[:i]) for i in range(1, len(parts) + 1)]
    seen = set(waiting)
    while waiting:
        here = waiting.pop()
        for taken in rooms()[here].imports:
            if not taken.top:
                continue
            if taken.module.split(".")[0] != "facespace":
                found.setdefault(taken.module, here)
            for name in loaded(taken):
                if name not in seen:
                    seen.add(name)
                    waiting.append(name)
    return found


@pytest.mark.parametrize("name", rooms())
def test_a_room_imports_only_from_floors_below_and_its_own(name: str) -> None:
    here = floor(name)
    if name in DOORS:
        return  # what opening one costs is tested below
    assert here in FLOORS, f"{name} lies on no floor of the house"
    for taken in rooms()[name].imports:
        if taken.module.split(".")[0] == "facespace" and (there := floor(met(taken))):
            assert FLOORS.index(there) <= FLOORS.index(here), f"{name} imports {met(taken)} from a floor above"


def test_no_rooms_import_each_other_in_a_circle() -> None:
    """Imports inside functions count: a circle there is a circle of thought."""
    graph = {
        name: {met(taken) for taken in room.imports if met(taken) in rooms() and met(taken) != name}
        for name, room in rooms().items()
        if floor(name)
    }
    done: set[str] = set()

    def walk(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, "a circle: " + " -> ".join((*way[way.index(name) :], name))
        if name in done:
            return
        for there in sorted(graph.get(name, ())):
            walk(there, (*way, name))
        done.add(name)

    for name in graph:
        walk(name, ())


@pytest.mark.parametrize("name", rooms())
def test_no_room_is_too_long(name: str) -> None:
    lines = len(rooms()[name].path.read_text(encoding="utf-8").splitlines())
    assert lines <= MOST_LINES, f"{name} has {lines} lines"


@pytest.mark.parametrize("name", [name for name in rooms() if not name.startswith(TORCH_ROOMS)])
def test_torch_is_not_reached_by_importing(name: str) -> None:
    asked = {module: room for module, room in reached(name).items() if module.split(".")[0] == "torch"}
    assert not asked, f"importing {name} imports torch, in {sorted(set(asked.values()))}"


@pytest.mark.parametrize("name", rooms())
def test_extras_are_imported_inside_functions_only(name: str) -> None:
    """torch alone at the top of the rooms that are made of it."""
    allowed = PLAIN | set(sys.stdlib_module_names) | {"facespace"}
    if name.startswith(TORCH_ROOMS):
        allowed |= {"torch"}
    strange = {taken.module for taken in rooms()[name].imports if taken.top} - {""}
    strange = {module for module in strange if module.split(".")[0] not in allowed}
    assert not strange, f"{name} imports {sorted(strange)} at module level"


def test_the_reader_of_imports_sees_what_there_is_to_see() -> None:
    """Against a room written for it."""
    source = """
import a
from b.c import d, e
from . import f
from .g import h
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import never
else:
    import otherwise
try:
    import tried
except ImportError:
    import instead
class K:
    import of_class
    def method(self):
        import later
with x:
    import inside
match x:
    case 1:
        import matched
def function():
    if y:
        from z import w
"""
    found = list(imports_in(ast.parse(source).body, "facespace.core"))
    assert {f"{i.module}:{i.name}" for i in found if i.top} == {
        "a:", "b.c:d", "b.c:e", "facespace.core:f", "facespace.core.g:h", "typing:TYPE_CHECKING", "otherwise:",
        "tried:", "instead:", "of_class:", "inside:", "matched:",
    }  # fmt: skip
    assert {f"{i.module}:{i.name}" for i in found if not i.top} == {"later:", "z:w"}


def test_importing_all_rooms_but_those_of_torch_loads_neither_torch_nor_any_extra() -> None:
    """In a fresh process, every room of them; what `ast` cannot see, such as `importlib`, would show here."""
    names = [name for name in rooms() if not name.startswith(TORCH_ROOMS) and name != "facespace.__main__"]
    extras = {"torch", "safetensors", "onnx", "openvino", "pillow_heif", "fastapi", "uvicorn", "tensorboard", "psycopg"}
    program = (
        "import importlib, sys\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        f"print(sorted({extras!r} & {{name.split('.')[0] for name in sys.modules}}))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
