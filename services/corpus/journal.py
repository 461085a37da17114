"""What a crawl has seen, on disk: an append-only list of visits, and the pages themselves.

A page's file is written before its line in the journal, and a line cut by a kill is dropped, so a
crawl that starts again knows exactly what it need not fetch again.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from threading import Lock
from typing import Any

from services.corpus.addresses import sha256
from services.corpus.crawl import Outcome, Visit
from services.corpus.extract import Page
from services.corpus.refusals import Reason
from services.corpus.robots import Site


class Journal:
    """The journal of one crawl in one folder; threads may share it."""

    def __init__(self, folder: Path) -> None:
        """Read what an earlier attempt has left."""
        self._pages = folder / "pages"
        self._pages.mkdir(parents=True, exist_ok=True)
        self._path = folder / "journal.jsonl"
        self._lock = Lock()
        self.visits: dict[str, Visit] = {}
        self.sites: dict[str, Site] = {}
        for line in self._lines():
            self._take(json.loads(line))
        self._file = self._path.open("ab")

    def close(self) -> None:
        """Release the file."""
        self._file.close()

    def add_site(self, site: Site) -> None:
        """Keep the rules of one site."""
        self._append({"site": asdict(site)})
        self.sites[site.origin] = site

    def add(self, visit: Visit, page: Page | None = None) -> None:
        """Keep a visit, and the page that it found."""
        if page is not None:
            path = self._page_path(visit.url)
            written = path.with_suffix(".tmp")
            written.write_text(json.dumps(page._replace(links=())))
            written.replace(path)
        self._append({"visit": asdict(visit)})
        with self._lock:
            self.visits[visit.url] = visit

    def page(self, url: str) -> Page:
        """Return the page of a visit, without its links: the visit has them."""
        title, text, _, forbidden = json.loads(self._page_path(url).read_text())
        return Page(title, text, (), forbidden)

    def _page_path(self, url: str) -> Path:
        return self._pages / f"{sha256(url)}.json"

    def _append(self, record: dict[str, Any]) -> None:
        line = json.dumps(record).encode() + b"\n"
        with self._lock:
            self._file.write(line)
            self._file.flush()

    def _lines(self) -> Iterator[bytes]:
        """Yield the whole lines, and cut the file behind the last of them."""
        data = self._path.read_bytes() if self._path.exists() else b""
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            with self._path.open("r+b") as file:
                file.truncate(len(whole))
        yield from whole.splitlines()

    def _take(self, record: dict[str, Any]) -> None:
        if "site" in record:
            fields = record["site"]
            barred = Reason(fields["barred"]) if fields["barred"] else None
            site = Site(**fields | {"barred": barred, "listed": tuple(fields["listed"])})
            self.sites[site.origin] = site
        else:
            fields = record["visit"]
            kept = {"outcome": Outcome(fields["outcome"]), "links": tuple(fields["links"])}
            self.visits[fields["url"]] = Visit(**fields | kept)
