"""What a figure was made with: versions, commit, processor, threads, device, detector; and the memory it took."""

import importlib
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("facespace", "numpy", "onnxruntime", "opencv-python-headless", "pillow", "torch", "openvino")


def describe_environment(threads: int, device: str, detector: str, policy: str) -> dict[str, Any]:
    """What may change a figure or its speed; packages that are not installed are left out."""
    return {
        "versions": {"python": platform.python_version(), **_versions()},
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu(),
        "threads": threads,
        "device": device,
        "detector": detector,
        "policy": policy,
        "git": git_state(Path()),
    }


def git_state(folder: Path) -> dict[str, Any] | None:
    """`{"commit", "changed"}` of the repository that holds `folder`: is anything of it not committed? None if none."""
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    changes = _git(folder, "--no-optional-locks", "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "changed": bool(changes)}


def _git(folder: Path, *arguments: str) -> str | None:
    """What git answers; None where there is no git, no repository, or no answer within ten seconds."""
    try:
        done = subprocess.run(("git", *arguments), cwd=folder, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def peak_memory_bytes() -> int | None:
    """The most memory that this process has held so far; None on Windows, which does not say."""
    if platform.system() == "Windows":
        return None
    peak = int(importlib.import_module("resource").getrusage(0).ru_maxrss)  # 0: of this process
    return peak if platform.system() == "Darwin" else 1024 * peak


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _cpu() -> str:
    """The processor's name; Python itself knows it only on some systems."""
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text(errors="replace").splitlines() if listing.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
