"""Takes a folder that somebody else made in as a checkpoint's files.

Only what a checkpoint needs is copied, byte by byte, and the copy is judged: what is stored is
what was looked at.
"""

import shutil
from pathlib import Path

from libs.errors import InvalidInput, NotFound
from services.trainer import tokenizer

_PATTERNS = ("config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json")


def check_folder(path: str) -> Path:
    """Return the folder.

    Raises:
        NotFound: there is none on this machine.
        InvalidInput: it lacks a file that every checkpoint has, or the path is relative.
    """
    folder = Path(path)
    if not folder.is_absolute():
        raise InvalidInput(f"path must be absolute, got {path!r}")
    if not folder.is_dir():
        raise NotFound(f"there is no folder {path} on the trainer's machine")
    for needed in ("config.json", "tokenizer.json"):
        if not (folder / needed).is_file():
            raise InvalidInput(f"a checkpoint's folder needs {needed}, {folder.name} has none")
    if not list(folder.glob("*.safetensors")):
        raise InvalidInput(f"a checkpoint's folder needs *.safetensors, {folder.name} has none")
    return folder


def copy(folder: Path, out: Path) -> None:
    """Copy the files of a checkpoint; links are followed. Raises as `check_folder`."""
    for pattern in _PATTERNS:
        for path in sorted(check_folder(str(folder)).glob(pattern)):
            shutil.copyfile(path, out / path.name)
    tokenizer.copy(folder, out)
