"""The documents tell the truth: their commands parse and run, their links resolve, the README's tree is the tree."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from facespace.cli import app
from tiny_onnx import save_tiny

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md")])
FENCE = re.compile(r"^```(\w*) ?(.*?)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> Iterator[tuple[str, str]]:
    """The rest of the opening line, and the content, of the fenced blocks in a language."""
    for kind, info, content in FENCE.findall(page.read_text(encoding="utf-8")):
        if kind == language:
            yield info, content


def lines(content: str) -> list[list[str]]:
    """The `facespace` commands of a block, as words without their comments."""
    split = (shlex.split(line, comments=True) for line in content.splitlines())
    return [words[1:] for words in split if words[:1] == ["facespace"]]


def quoted(page: Path) -> list[list[str]]:
    """The `facespace ...` commands quoted within sentences."""
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    return [shlex.split(command) for command in re.findall(r"`facespace ([^`]+)`", prose)]


def parse(words: list[str], *, whole: bool) -> None:
    """Let the real command line parse without running; a command that is not `whole` may lack arguments."""
    command, name = typer.main.get_command(app), "facespace"
    context = command.make_context(name, [], resilient_parsing=True)
    while hasattr(command, "commands"):
        name, *words = words
        found = command.get_command(context, name)
        assert found, f"no verb {name!r}"
        command = found
        if not words and not whole:
            return
    try:
        command.make_context(name, list(words))
    except Exception as error:
        if whole or type(error).__name__ != "MissingParameter":
            raise


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_parses(page: Path) -> None:
    for _, content in blocks(page, "sh"):
        for words in lines(content):
            parse(words, whole=True)
    for words in quoted(page):
        if words[-1] in ("--help", "--version") or words == ["VERB", "--help"]:
            continue
        parse(words, whole=False)


def test_the_parsing_of_commands_would_notice_a_lie() -> None:
    for words in (["verify", "a.jpg", "b.jpg", "--nonsense"], ["recognise", "a.jpg"], ["model", "push", "x"]):
        for whole in (True, False):
            with pytest.raises(Exception):  # noqa: B017 (of the parser's own many kinds)
                parse(words, whole=whole)
    with pytest.raises(Exception):  # noqa: B017
        parse(["verify", "a.jpg"], whole=True)


def verbs() -> list[str]:
    """Every verb there is, those of groups with the group's name."""
    top = typer.main.get_command(app)
    found = []
    for name, command in top.commands.items():  # type: ignore[attr-defined]
        found += [f"{name} {inner}" for inner in getattr(command, "commands", {})] or [name]
    return found


@pytest.mark.parametrize("verb", verbs())
def test_every_verb_has_an_example(verb: str) -> None:
    examples = [
        " ".join(words) + " " for _, content in blocks(ROOT / "docs/commands.md", "sh") for words in lines(content)
    ]
    assert any(example.startswith(verb + " ") for example in examples)


def test_the_examples_run_as_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order, in one empty folder, on drawn faces; a tiny network stands in for the packaged model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FACESPACE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("facespace.models.shelf.PACKAGED", tmp_path / "packaged")
    save_tiny(tmp_path / "packaged/compact.onnx", card={"commercial": False}, dim=16)
    page = ROOT / "docs/commands.md"
    for _, content in blocks(page, "python"):
        exec(compile(content, str(page), "exec"), {})
    commands = [words for info, content in blocks(page, "sh") if "not-run" not in info for words in lines(content)]
    assert commands
    for words in commands:
        done = CliRunner().invoke(app, words)
        answers = (0, 1) if words[0] in ("verify", "doctor", "audit") else (0,)
        assert done.exit_code in answers, f"facespace {' '.join(words)}\n{done.output}"
    for left in ("vectors.npz", "runs/first/model.onnx", "report.html", "first.onnx"):
        assert (tmp_path / left).is_file(), left


def test_every_recipe_is_named() -> None:
    from facespace.train.recipes import RECIPES

    page = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
    assert [name for name in RECIPES if f"`{name}`" not in page] == []


def tree() -> list[Path]:
    """The paths in the README's tree, by their indentation, in its order."""
    content = next(content for _, content in blocks(ROOT / "README.md", "text") if "src/facespace/" in content)
    found, above = [], [ROOT]
    for line in content.splitlines():
        name = line.split()[0]
        depth = (len(line) - len(line.lstrip())) // 2
        above[depth + 1 :] = [above[depth] / name]
        assert len(line.split()) > 2 or name == "src/facespace/", f"{name} needs a phrase"
        found.append(above[-1])
    return found


def test_the_tree_shows_what_is_there_and_all_of_it() -> None:
    rooms = [path for path in (ROOT / "src").rglob("*.py") if not path.name.startswith("__")]
    rooms += [*(ROOT / "benchmarks").glob("*.py"), *(ROOT / "docs").glob("*.md")]
    shown = set(tree())
    assert [str(path.relative_to(ROOT)) for path in sorted(shown) if not path.exists()] == []
    assert [str(path.relative_to(ROOT)) for path in sorted(set(rooms) - shown)] == []


def imported(room: Path) -> set[Path]:
    """The rooms of ours that a room imports anywhere, within functions and for types as well."""
    found = set()
    for node in ast.walk(ast.parse(room.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("facespace"):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
            found |= {ROOT / "src" / (name.replace(".", "/") + ".py") for name in names}
    return found


def test_every_room_imports_only_what_the_tree_lists_before_it() -> None:
    place = {path: number for number, path in enumerate(tree())}
    rooms = [path for path in place if ROOT / "src" in path.parents and path.suffix == ".py"]
    wrong = [
        f"{room.name} -> {other.name}"
        for room in rooms
        for other in imported(room) & place.keys()
        if place[other] >= place[room]
    ]
    assert rooms
    assert wrong == []


def headings(page: Path) -> set[str]:
    """The anchors of a page, as GitHub makes them."""
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_project_resolve(page: Path) -> None:
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    for link in re.findall(r"\]\(([^)\s]+)\)", prose):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in headings(target), link


def test_make_has_the_targets_that_the_pages_name() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {name for page in PAGES for name in re.findall(r"`make (\w+)", page.read_text(encoding="utf-8"))}
    assert {"demo", "test"} <= named <= targets


def test_the_readme_names_every_exit_status() -> None:
    """Those of the error family, and the two that are answers."""
    from facespace import errors

    family = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.FacespaceError)
    ]
    shown = {
        int(status) for status in re.findall(r"^\| (\d+) \|", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)
    }
    assert {kind.status for kind in family} | {0, 1} <= shown


def test_the_python_of_the_readme_uses_public_names() -> None:
    import facespace

    content = "".join(content for _, content in blocks(ROOT / "README.md", "python"))
    names = set(re.findall(r"facespace\.(\w+)", content))
    assert names
    assert names <= set(facespace.__all__)
