"""Render the standard library's documentation to HTML pages: real text that every machine has.

Reproducible and without leaks: a subprocess with an empty environment and a fixed hash seed, an
explicit list of modules (`chapters.tsv`), no values of module-level data, no addresses, no paths.
Not protected against: a standard library that was itself changed on this machine.
"""

import hashlib
import html
import importlib
import os
import pydoc
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

VERSION = 1
"""Raised when the same Python would give other pages."""
LANGUAGE_CHAPTER = "language reference"
_CHAPTERS = Path(__file__).with_name("chapters.tsv")
_ADDRESS = re.compile(r" at 0x[0-9A-Fa-f]+")
_PLAIN = (
    ('<span class="code">', "<div>"),
    ("</span></dd>", "</div>"),
    ("<dl><dt>", "<p>"),
    ("</dt></dl>", "</p>"),
    ("</dt>", "</p>"),
    ("<dd>", ""),
    ("</dd>", ""),
    ("</dl>", ""),
    ("<tt>", ""),
    ("</tt>", ""),
)
"""pydoc's definition lists, which extractors drop, as paragraphs."""
_STREAM = re.compile(r"<_io\.\w+[^<>]*(?:<\w+>)?[^<>]*>")


def chapters() -> dict[str, str]:
    """Return the committed table: module to a group of chapters of the Library Reference.

    Groups, since a chapter alone has too few items for its accuracy to mean anything.
    """
    rows = (line.split("\t") for line in _CHAPTERS.read_text(encoding="utf-8").splitlines())
    return dict(rows)


def render(folder: Path) -> str:
    """Write the pages into `folder` in a clean process and return the digest of all of them.

    Pages that are there already from the same Python and version are kept.
    """
    mark = folder / ".rendered"
    key = f"{sys.version}\n{VERSION}\n{sha256(_CHAPTERS.read_bytes())}\n"
    if mark.exists() and mark.read_text().startswith(key):
        return mark.read_text()[len(key) :]
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [sys.executable, "-I", "-X", "utf8", __file__, str(folder.resolve())],
        env={"PYTHONHASHSEED": "0", "PATH": "/usr/bin:/bin"},
        cwd="/",
        stdin=subprocess.DEVNULL,
        check=True,
        timeout=300,
    )
    pages = sorted(folder.glob("*.html"))
    digest = sha256(
        "\n".join(f"{page.name} {sha256(page.read_bytes())}" for page in pages).encode()
    )
    mark.write_text(key + digest)
    return digest


def sha256(data: bytes) -> str:
    """Return the digest, 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def topics(folder: Path) -> dict[str, str]:
    """Return page name to chapter for the pages in `folder`."""
    table = chapters()
    return {
        page.name: table.get(page.stem, LANGUAGE_CHAPTER)
        for page in sorted(folder.glob("*.html"))
        if page.name != "index.html"
    }


class _Pages(pydoc.HTMLDoc):
    """pydoc's pages, less everything that belongs to one machine or one run."""

    known = frozenset(chapters())

    def markup(self, text: str, *_: object, **__: object) -> str:
        """Return paragraphs: the text is what matters here, not its cross-references."""
        paragraphs = re.split(r"\n\s*\n", text.strip())
        return "".join(f"<p>{html.escape(each)}</p>\n" for each in paragraphs if each.strip())

    def docother(self, object: object, name: str | None = None, *_: object) -> str:
        """Return the name: a value may hold the environment, a path or a secret."""
        return f"<strong>{html.escape(name)}</strong>" if name else ""

    def heading(self, title: str, extras: str = "") -> str:
        return f"<h1>{title}</h1>\n"

    def section(self, title: str, cls: str, contents: str, *_: object, **more: Any) -> str:
        """Return a section without pydoc's layout tables: extractors take those for navigation."""
        prelude = more.get("prelude", "").replace("<br>", "")
        return f"<h2>{title}</h2>\n{prelude}{contents}\n"

    def modpkglink(self, modpkginfo: tuple[str, str, bool, bool]) -> str:
        """Return a link to a module of a package, if it has a page."""
        name, package, *_ = modpkginfo
        full = f"{package}.{name}"
        return f'<a href="{full}.html">{name}</a>' if full in self.known else name

    def modulelink(self, object: Any) -> str:
        """Return a link to a module, if it has a page."""
        name = object.__name__
        return f'<a href="{name}.html">{name}</a>' if name in self.known else name

    def formattree(self, tree: Any, modname: str, parent: object = None) -> str:
        return ""

    def filelink(self, url: str, path: str) -> str:
        return ""

    def getdocloc(self, object: object, basedir: str = "") -> None:
        return None

    def page(self, title: str, contents: str) -> str:
        """Wrap a page, its body cleaned of what differs between runs."""
        return (
            f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            f"<title>{html.escape(title)}</title></head>\n<body>\n{clean(contents)}\n</body></html>\n"
        )


def clean(text: str) -> str:
    """Remove addresses, open streams and this installation's paths."""
    text = _STREAM.sub("stream", html_unstreamed(_ADDRESS.sub("", text)))
    for path in _machine_paths():
        text = text.replace(path, "")
    for old, new in _PLAIN:
        text = text.replace(old, new)
    return text


def html_unstreamed(text: str) -> str:
    """Remove open streams that stand escaped in a signature."""
    return re.sub(r"&lt;_io\.\w+.*?(?:&#x27;|')utf-?8(?:&#x27;|')&gt;", "stream", text)


def _machine_paths() -> list[str]:
    roots = {
        sys.prefix,
        sys.base_prefix,
        str(Path(os.__file__).parent),
        str(Path(sys.executable).parent),
    }
    return sorted((root for root in roots if len(root) > 1), key=len, reverse=True)


def _modules() -> Iterator[tuple[str, Any]]:
    """Yield the modules of the table that this Python has."""
    for name in chapters():
        try:
            yield name, importlib.import_module(name)
        except ImportError:
            continue  # other Pythons lack a few; the digest of the site tells them apart


def _language_pages(pages: _Pages) -> Iterator[tuple[str, str]]:
    texts = importlib.import_module("pydoc_data.topics").topics
    for name in sorted(texts):
        yield f"topic-{name}", pages.page(name, f"<h1>{name}</h1>\n" + pages.markup(texts[name]))


def _main(folder: Path) -> None:
    """Write every page and an index; runs in the clean process."""
    warnings.simplefilter("ignore")
    pages = _Pages()
    written = dict(_language_pages(pages))
    for name, module in _modules():
        written[name] = pages.page(name, pages.docmodule(module, name))
    for name, text in written.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    links = "\n".join(f'<li><a href="{name}.html">{name}</a></li>' for name in sorted(written))
    (folder / "index.html").write_text(pages.page("Modules", f"<ul>\n{links}\n</ul>"), "utf-8")


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
