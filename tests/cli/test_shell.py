"""What the shell around every verb does with what a verb raises; and that starting it is light."""

import json
import os
import subprocess
import sys
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

import facespace
from facespace import cli, errors
from facespace.cli import shell


def raising(error: BaseException) -> typer.Typer:
    """An application whose verb `boom` raises `error`."""
    app = typer.Typer(cls=shell.Shell, pretty_exceptions_enable=False)

    @app.command()
    def boom(number: int = 0, as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
        raise error

    @app.command()
    def other() -> None:
        """A second verb, so that the first is named."""

    return app


def family(root: type[errors.FacespaceError] = errors.FacespaceError) -> list[type[errors.FacespaceError]]:
    return [root, *(kind for child in root.__subclasses__() for kind in family(child))]


@pytest.mark.parametrize("kind", family(), ids=lambda kind: kind.code)
def test_every_error_of_the_family_is_a_sentence_a_hint_and_its_status(kind: type[errors.FacespaceError]) -> None:
    error = kind("it does not work", hint="do the other thing", file="päth.jpg")
    plain = CliRunner().invoke(raising(error), ["boom"])
    assert plain.exit_code == kind.status
    assert plain.stdout == ""
    assert plain.stderr == "Error: päth.jpg: it does not work.\n  do the other thing\n"
    document = CliRunner().invoke(raising(error), ["boom", "--json"])
    assert document.exit_code == kind.status
    assert document.stderr == ""
    assert json.loads(document.stdout) == {
        "error": {"code": kind.code, "message": "it does not work", "hint": "do the other thing", "file": "päth.jpg"}
    }


def test_the_statuses_are_those_of_the_contract() -> None:
    statuses = {kind.__name__: kind.status for kind in family()}
    groups = {"UsageError": 2, "InputError": 3, "ModelError": 4, "DataError": 5, "TrainingError": 5, "GalleryError": 6}
    assert {name: statuses[name] for name in groups} == groups
    assert (statuses["FacespaceError"], statuses["Refused"]) == (70, 7)


def test_a_fault_of_ours_is_short_and_70(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FACESPACE_LOG", raising=False)
    result = CliRunner().invoke(raising(ZeroDivisionError("by zero")), ["boom"])
    assert result.exit_code == 70
    assert "ZeroDivisionError: by zero" in result.stderr
    assert "Traceback" not in result.stderr
    document = CliRunner().invoke(raising(MemoryError()), ["boom", "--json"])
    assert document.exit_code == 70
    assert json.loads(document.stdout)["error"]["code"] == "internal"


def test_ctrl_c_is_130() -> None:
    result = CliRunner().invoke(raising(KeyboardInterrupt()), ["boom"])
    assert (result.exit_code, result.stdout) == (130, "")


@pytest.mark.parametrize("status", [0, 1, 9])
def test_a_verb_may_leave_with_a_status_of_its_own(status: int) -> None:
    assert CliRunner().invoke(raising(typer.Exit(status)), ["boom"]).exit_code == status


@pytest.mark.parametrize("args", [["boom", "--number", "x"], ["boom", "--nonsense"], ["nonsense"]])
def test_wrong_usage_is_2_also_as_json(args: list[str]) -> None:
    app = raising(AssertionError("never reached"))
    assert CliRunner().invoke(app, args).exit_code == 2
    result = CliRunner().invoke(app, [*args, "--json"])
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"]["code"] == "usage"


def test_a_bar_appears_only_in_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with shell.progress("Working", quiet=False) as told:
        told(1, 2)
    assert capsys.readouterr() == ("", "")


def test_a_table_shows_names_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """Square brackets in a name are no markup."""
    shell.show_table(["name"], [["[red]x[/red]"]])
    assert "[red]x[/red]" in capsys.readouterr().out


def command(*args: str, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "facespace", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )


def test_a_reader_who_has_seen_enough_causes_no_noise() -> None:
    process = command("model", "show", "sface", "--json")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    noise = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 141
    assert noise == ""


def test_debugging_shows_where() -> None:
    out, noise = command("model", "show", "nobody", "--json", FACESPACE_LOG="debug").communicate()
    assert "Traceback" in noise
    assert json.loads(out)["error"]["code"] == "model_not_found"


def test_the_version_is_printed() -> None:
    result = CliRunner().invoke(cli.app, ["--version"])
    assert result.stdout.strip() == facespace.__version__


HEAVY = {"numpy", "cv2", "onnxruntime", "torch", "PIL", "sqlalchemy", "matplotlib", "scipy", "sklearn"}


@pytest.mark.parametrize("program", ["import facespace", "from facespace.cli import app; app(['--help'])"])
def test_starting_imports_nothing_heavy(program: str) -> None:
    """What makes `import facespace` and `facespace --help` instant."""
    show = "import sys, atexit; atexit.register(lambda: sys.stderr.write(' '.join(sys.modules)))\n"
    done = subprocess.run([sys.executable, "-c", show + program], capture_output=True, text=True, check=True)
    assert HEAVY & set(done.stderr.split()) == set()
    assert "facespace" in done.stderr.split()


def test_every_verb_is_there_and_says_what_it_does() -> None:
    text = CliRunner().invoke(cli.app, ["--help"]).stdout
    for verb in ("train", "evaluate", "embed", "detect", "verify", "export", "model"):
        assert f" {verb} " in text
        assert CliRunner().invoke(cli.app, [verb, "--help"]).exit_code == 0


def test_public_names_are_there_sorted_and_lazy() -> None:
    assert facespace.__all__ == sorted(facespace.__all__)
    for name in facespace.__all__:
        assert getattr(facespace, name) is not None
        assert name in dir(facespace)
    with pytest.raises(AttributeError, match="nonsense"):
        facespace.nonsense  # noqa: B018
