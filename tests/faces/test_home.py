"""Where models are looked for."""

from pathlib import Path

import pytest

from facespace.faces.home import home, models_folder


def test_home_is_what_the_environment_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FACESPACE_HOME", str(tmp_path / "дом"))
    assert home() == tmp_path / "дом"
    assert models_folder() == tmp_path / "дом" / "models"


def test_without_the_variable_home_is_the_users_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FACESPACE_HOME", raising=False)
    assert home().is_absolute()
    assert home().name == "facespace"


def test_an_empty_variable_counts_as_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACESPACE_HOME", "")
    assert home().is_absolute()


def test_asking_for_the_folder_creates_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FACESPACE_HOME", str(tmp_path / "absent"))
    models_folder()
    assert not (tmp_path / "absent").exists()
