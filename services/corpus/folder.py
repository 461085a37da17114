"""Read a folder of text and Markdown files into documents.

Hidden files and folders are skipped, links are not followed out of the folder, and names are taken
relative to it, so that where it lies is in no digest.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

from libs.errors import NotFound
from services.corpus.extract import Page, read
from services.corpus.records import Document
from services.corpus.refusals import Reason, Refusal

SUFFIXES = {".txt": "text/plain", ".md": "text/markdown"}
MAX_BYTES = 64 << 20


def check(path: Path) -> None:
    """Raise `NotFound` unless the path is a folder."""
    if not path.is_dir():
        raise NotFound(f"{path} is no folder on this machine")


def read_folder(
    path: Path, report: Callable[[int, int], None]
) -> tuple[list[Document], list[Refusal]]:
    """Read every file, by name ascending; `report` is told files done and files in all.

    Raises:
        NotFound: the folder is not there, or has no such file.
    """
    check(path)
    files = sorted(_files(path))
    if not files:
        raise NotFound(f"{path} has no file that ends in {' or '.join(sorted(SUFFIXES))}")
    documents, refusals = [], []
    for number, file in enumerate(files, 1):
        found = _read(path, file)
        if isinstance(found, Document):
            documents.append(found)
        else:
            refusals.append(found)
        report(number, len(files))
    return documents, refusals


def _files(root: Path) -> Iterator[Path]:
    for path in root.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
        inside = path.resolve().is_relative_to(root.resolve())
        if not hidden and inside and path.suffix.lower() in SUFFIXES and path.is_file():
            yield path


def _read(root: Path, path: Path) -> Document | Refusal:
    url = "folder:" + quote(path.relative_to(root).as_posix())
    if path.stat().st_size > MAX_BYTES:
        return Refusal(url, Reason.TOO_LARGE, f"more than {MAX_BYTES} bytes")
    page = read(url, path.read_bytes(), SUFFIXES[path.suffix.lower()])
    if isinstance(page, Page):
        return Document(url=url, title=page.title, text=page.text, source="folder")
    return Refusal(url, page, "it has no readable text")
