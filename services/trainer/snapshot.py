"""Keeps a training's state in a folder, so that a killed one goes on where it was.

One file, replaced by rename: there is always a whole one or none. A snapshot of another version
of this code, or one that a broken disk cut, counts as none: the training then begins anew and ends
with the same bits.
"""

import logging
import os
import pickle
from pathlib import Path
from typing import Any

import torch

VERSION = 1
_log = logging.getLogger(__name__)


def save(folder: Path, state: dict[str, Any]) -> None:
    """Replace the folder's snapshot; durable when this returns."""
    temporary = folder / f"snapshot.{os.getpid()}.tmp"
    with temporary.open("wb") as file:
        torch.save({"version": VERSION, **state}, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / "snapshot.pt")


def load(folder: Path) -> dict[str, Any] | None:
    """Return the state that was saved last, None when there is none that can be used."""
    for left in folder.glob("snapshot.*.tmp"):
        left.unlink(missing_ok=True)
    path = folder / "snapshot.pt"
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        _log.warning("%s cannot be read, training begins anew: %s", path.name, error)
        return None
    return state if state.pop("version", None) == VERSION else None
