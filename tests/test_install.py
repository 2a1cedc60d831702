"""The plain install, in an environment of its own: small, without torch, and able to verify."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from facespace.models.shelf import PACKAGED
from tiny_onnx import save_tiny

SCRIPT = Path(__file__).parents[1] / "benchmarks/install.py"


@pytest.mark.nightly
def test_plain_install_is_small_and_verifies_two_photos_without_torch(tmp_path: Path) -> None:
    packaged = (PACKAGED / "compact.onnx").is_file()
    model = "compact" if packaged else save_tiny(tmp_path / "tiny.onnx", card={}, dim=64)
    done = subprocess.run([sys.executable, SCRIPT, "--model", str(model)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["torch_absent"]
    assert found["megabytes"] <= 400
    answer = found["verify"]["answer"]
    assert found["verify"]["status"] == (0 if answer["same"] else 1)
    assert len(answer["faces"]) == 2
