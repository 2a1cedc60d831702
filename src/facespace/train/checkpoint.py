"""Checkpoints that survive a kill at any moment: written aside, synced, then renamed; damaged ones are passed over.

A file is the SHA-256 (32 bytes) of what follows, then what `torch.save` writes, read with `weights_only=True`.
"""

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import torch

from facespace.errors import TrainingError
from facespace.models.card import write_atomic

KEEP = 3
"""How many of the newest checkpoints stay."""


def save(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Save `state` after `step` steps as `step-0000123.ckpt`, and drop all but the newest few."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    path = folder / f"step-{step:07d}.ckpt"
    write_atomic(path, hashlib.sha256(content).digest() + content)
    for old in sorted(folder.glob("step-*.ckpt"))[:-KEEP]:
        old.unlink()
    return path


def load(path: Path) -> dict[str, Any]:
    """The state of one checkpoint; TrainingError where it is damaged."""
    try:
        content = path.read_bytes()
        if hashlib.sha256(content[32:]).digest() != content[:32]:
            raise TrainingError("the digest does not fit: the checkpoint is damaged", file=path)
        state: dict[str, Any] = torch.load(io.BytesIO(content[32:]), map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise TrainingError(f"cannot be read ({error})", file=path) from error
    return state


def newest(folder: Path) -> tuple[dict[str, Any] | None, list[str]]:
    """(state of the newest sound checkpoint or None, a sentence for each damaged one passed over)."""
    passed: list[str] = []
    for path in sorted(folder.glob("step-*.ckpt"), reverse=True):
        try:
            return load(path), passed
        except TrainingError as error:
            passed.append(f"{error}; falling back to the one before")
    if passed:
        passed.append("no checkpoint is sound: the training begins anew")
    return None, passed
