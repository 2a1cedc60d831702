"""Fixtures that every floor's tests share."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: small tensors, and as many test processes as cores

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, in one counted line, the tests that need real faces where they are absent."""
    if (SHARED / "data").is_dir():
        return
    absent = pytest.mark.skip(reason=f"real faces and public models are not at {SHARED}")
    for item in items:
        if item.get_closest_marker("shared"):
            item.add_marker(absent)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real faces and public models (see the marker `shared`)."""
    return SHARED
