"""docs/options.md tells the truth: every setting is there, with the default and the choices that the page gives it."""

import ast
import dataclasses
import importlib
import inspect
import re
import typing
from enum import Enum
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

from test_docs import blocks

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/options.md"
SOURCE = ROOT / "src/facespace"
ONE = "one choice"
STATED = object()
"""The default of a setting that must be given."""


class Row(NamedTuple):
    """A row of the page."""

    number: int
    question: str
    setting: str
    default: str
    others: str


def rows() -> list[Row]:
    """Those of all tables, in order."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if re.match(r"\| \d", line)]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [Row(int(number), *rest) for number, *rest in cells]


def code(cell: str) -> list[str]:
    """What a cell quotes."""
    return re.findall(r"`([^`]+)`", cell)


@cache
def modules() -> dict[str, ModuleType]:
    """All rooms by their names without the folder, where they are unique."""
    paths = [path.relative_to(SOURCE.parent).with_suffix("") for path in SOURCE.rglob("*.py")]
    names = [".".join(path.parts) for path in paths if not path.name.startswith("__")]
    return {name: importlib.import_module(name) for name in names}


def named(name: str) -> Any:
    """The one public thing of that name that some room defines."""
    found = [
        vars(module)[name]
        for module in modules().values()
        if getattr(vars(module).get(name), "__module__", None) == module.__name__
    ]
    assert len(found) == 1, f"{len(found)} things are called {name}"
    return found[0]


class Setting(NamedTuple):
    """What the code says of a setting."""

    default: Any
    choices: tuple[Any, ...]
    """Where the code lists them."""


def listed(kind: Any) -> tuple[Any, ...]:
    """The choices of a type."""
    return (False, True) if kind is bool else typing.get_args(kind) if typing.get_origin(kind) is typing.Literal else ()


def found(setting: str) -> Setting:
    """A setting as `Class.field`, `function(parameter)`, `verb --option` or `room.CONSTANT`."""
    if match := re.fullmatch(r"(\w+) (--\w+)", setting):
        return of_command(*match.groups())
    if match := re.fullmatch(r"(\w+)\((\w+)\)", setting):
        what, parameter = named(match[1]), match[2]
        kinds = typing.get_type_hints(what.__init__ if inspect.isclass(what) else what)
        return Setting(inspect.signature(what).parameters[parameter].default, listed(kinds.get(parameter)))
    owner, name = setting.split(".")
    if name.isupper() or name[-1].isdigit():
        (module,) = (room for key, room in modules().items() if key.endswith("." + owner) and name in vars(room))
        return Setting(vars(module)[name], ())
    (field,) = (field for field in dataclasses.fields(named(owner)) if field.name == name)
    default = STATED if field.default is dataclasses.MISSING else field.default
    return Setting(default, listed(typing.get_type_hints(named(owner))[name]))


def of_command(verb: str, option: str) -> Setting:
    """An option of the command line."""
    (function,) = (
        vars(module)[verb]
        for name, module in modules().items()
        if name.startswith("facespace.cli.") and inspect.isfunction(vars(module).get(verb))
    )
    parameter = option[2:].replace("-", "_")
    default = inspect.signature(function).parameters[parameter].default
    kind = typing.get_type_hints(function)[parameter]
    choices = tuple(choice.value for choice in kind) if isinstance(kind, type) and issubclass(kind, Enum) else ()
    return Setting(getattr(default, "value", default), choices)


def settings() -> list[Row]:
    """Rows with a setting whose value is compared."""
    return [row for row in rows() if row.setting != ONE and "[" not in row.setting]


def check(row: Row) -> None:
    """AssertionError where the page and the code differ."""
    setting = found(row.setting.strip("`"))
    if setting.default is STATED:
        assert row.default.startswith("stated"), row
        return
    said = row.default.split("`")[1]
    if said.startswith("without_five"):
        assert eval(said, vars(modules()["facespace.models.nets.facenet"])) == setting.default
        return
    default = eval(said, {"__builtins__": {}})
    assert (type(default), default) == (type(setting.default), setting.default), row
    if setting.choices:
        quoted = [ast.literal_eval(text) for text in code(row.others) if text[0] == '"' or text in ("True", "False")]
        assert sorted([default, *quoted]) == sorted(setting.choices), row


def test_every_question_is_answered_in_order() -> None:
    numbers = [row.number for row in rows()]
    assert sorted(set(numbers)) == list(range(1, 38))
    assert numbers == sorted(numbers)


@pytest.mark.parametrize("row", settings(), ids=lambda row: row.setting)
def test_a_setting_is_what_the_page_says(row: Row) -> None:
    check(row)


def test_where_there_is_one_choice_the_page_says_which_and_why() -> None:
    alone = [row for row in rows() if row.setting == ONE]
    assert alone
    assert all(len(row.default) > 10 and len(row.others) > 20 for row in alone), alone


def test_margins_that_are_chosen_by_name() -> None:
    from facespace.losses import ADAPTIVE, MARGINS

    by_name = [row for row in rows() if "[" in row.setting]
    assert [row.number for row in by_name] == [15]
    (row,) = by_name
    assert eval(code(row.setting)[0], {"ADAPTIVE": ADAPTIVE}).__name__ == code(row.default)[0]
    assert eval(code(row.others)[0], {"MARGINS": MARGINS}).__name__ == code(row.others)[1]


def test_the_page_quotes_no_setting_that_is_none() -> None:
    """Names in sentences and explanations are looked up too."""
    for text in ("Flipped", "Ranges", "NN1", "Inception"):
        assert f"`{text}" in PAGE.read_text(encoding="utf-8")
        assert named(text)


@pytest.mark.parametrize(
    "lie",
    [
        Row(1, "", "`Triplet.reduction`", '`"sum"`', '`"mean_active"`; `"mean_all"`'),
        Row(1, "", "`Triplet.reduction`", '`"mean_active"`', '`"sum"`'),
        Row(1, "", "`Triplet.reductions`", '`"mean_active"`', '`"sum"`; `"mean_all"`'),
        Row(22, "", "`Groups.shared_relu`", "`0`", "`1`"),
        Row(11, "", "`evaluate --ties`", '`"reject"`', '`"accept"`'),
        Row(9, "", "`facenet.NN4`", '`without_five(NN2, ("5a",))`', ""),
    ],
)
def test_a_lie_would_be_noticed(lie: Row) -> None:
    with pytest.raises((AssertionError, ValueError)):
        check(lie)


def test_the_example_makes_a_recipe() -> None:
    scope: dict[str, Any] = {}
    for _, content in blocks(PAGE, "python"):
        exec(compile(content, str(PAGE), "exec"), scope)
    assert scope["mine"].triplet.reduction == "sum"
