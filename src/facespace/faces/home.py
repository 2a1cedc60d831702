"""Where facespace keeps what it fetches: `FACESPACE_HOME`, or the platform's data directory."""

import os
from pathlib import Path

import platformdirs


def home() -> Path:
    """The folder of models and caches: `$FACESPACE_HOME`, else the user's data directory; not created here."""
    chosen = os.environ.get("FACESPACE_HOME")
    return Path(chosen).expanduser() if chosen else platformdirs.user_data_path("facespace", appauthor=False)


def models_folder() -> Path:
    """The folder in which `facespace model pull` puts weights and cards. Not created here."""
    return home() / "models"
