"""What a figure was made with: versions, processor, threads, device, detector."""

import platform
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
    }


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
