"""Serve the rendered pages on loopback as a real site would: with a few oddities on purpose.

`robots.txt` with a forbidden corner, a sitemap, a redirect, a duplicate page, a broken link, a page
in another encoding and a compressed response. Run: `python -m deploy.demo.site FOLDER PORT`.
"""

import gzip
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

LOGICAL_PREFIX = "http://docs.demo.athanor/"
"""What documents carry instead of the loopback address, so that the port is in no digest."""
ENTRY = "start.html"
"""Where a crawl begins: one page that leads to everything, broken links included."""
_LATIN = "<html><head><title>Caf\xe9</title></head><body><p>{}</p></body></html>"
_PROSE = (
    "A caf\xe9 page, na\xefvely encoded as Latin-1 and saying so in its header, as pages of the "
    "nineties did. It is here so that a crawler that assumes UTF-8 is found out at once."
)


class Reply(NamedTuple):
    """What one address answers."""

    body: bytes
    status: int = 200
    content_type: str = "text/html; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


def replies(folder: Path) -> Callable[[str], Reply]:
    """Return what the site answers for a path."""
    special = _special(folder)

    def reply(path: str) -> Reply:
        page = folder / path.lstrip("/")
        if path in special:
            return special[path]
        if page.parent == folder and page.suffix == ".html" and page.is_file():
            return Reply(page.read_bytes())
        return Reply(b"<html><body><p>Not here.</p></body></html>", status=404)

    return reply


def _special(folder: Path) -> dict[str, Reply]:
    pages = sorted(page.name for page in folder.glob("*.html"))
    urls = "".join(f"<url><loc>{LOGICAL_PREFIX}{name}</loc></url>" for name in pages)
    sitemap = f'<?xml version="1.0"?><urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{urls}</urlset>'
    links = (
        "index.html",
        "moved",
        "json-copy.html",
        "missing.html",
        "latin.html",
        "packed.html",
        "private/",
    )
    start = "".join(f'<li><a href="/{link}">{link}</a></li>' for link in links)
    return {
        "/robots.txt": Reply(
            b"User-agent: *\nDisallow: /private/\nSitemap: /sitemap.xml\n", 200, "text/plain"
        ),
        "/sitemap.xml": Reply(sitemap.encode(), 200, "application/xml"),
        f"/{ENTRY}": Reply(f"<html><body><ul>{start}</ul></body></html>".encode()),
        "/moved": Reply(b"", 301, headers=(("Location", "/index.html"),)),
        "/json-copy.html": Reply((folder / "json.html").read_bytes()),
        "/latin.html": Reply(
            _LATIN.format(_PROSE).encode("latin-1"), 200, "text/html; charset=iso-8859-1"
        ),
        "/packed.html": Reply(
            gzip.compress((folder / "gzip.html").read_bytes(), mtime=0),
            headers=(("Content-Encoding", "gzip"),),
        ),
        "/private/": Reply(b"<html><body><p>robots.txt forbids this page.</p></body></html>"),
    }


def server(folder: Path, port: int) -> ThreadingHTTPServer:
    """Return a server bound to loopback; 0 picks a free port."""
    answer = replies(folder)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            reply = answer(self.path)
            body = reply.body.replace(LOGICAL_PREFIX.encode(), self._here())
            self.send_response(reply.status)
            self.send_header("Content-Type", reply.content_type)
            self.send_header("Content-Length", str(len(body)))
            for name, value in reply.headers:
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def _here(self) -> bytes:
            return f"http://{self.headers['Host']}/".encode()

        def log_message(self, format: str, *args: object) -> None:
            """Stay quiet: the crawler keeps the record."""

    class Site(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """Say nothing of a client that went away, as a crawler that is killed does."""
            if not isinstance(sys.exception(), ConnectionError):
                super().handle_error(request, client_address)  # type: ignore[arg-type]

    return Site(("127.0.0.1", port), Handler)


if __name__ == "__main__":
    site = server(Path(sys.argv[1]), int(sys.argv[2]))
    site.serve_forever()
