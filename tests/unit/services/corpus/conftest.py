"""A small web site in this process, whose answers a test writes, and which notes what was asked."""

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

import pytest


class Reply(NamedTuple):
    """One answer; `stream` writes the body itself."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = {}
    stream: Callable[[Callable[[bytes], object]], None] | None = None


def page(title: str, *paragraphs: str, links: tuple[str, ...] = ()) -> Reply:
    """An ordinary page."""
    text = "".join(f"<p>{paragraph}</p>" for paragraph in paragraphs)
    anchors = "".join(f'<a href="{link}">{link}</a> ' for link in links)
    html = (
        f"<html><head><title>{title}</title></head><body>{text}<div>{anchors}</div></body></html>"
    )
    return Reply(html.encode(), headers={"Content-Type": "text/html; charset=utf-8"})


def prose(number: int, num_words: int = 60) -> str:
    """Sentences that no other number gives."""
    return " ".join(f"word{number}x{i}" for i in range(num_words)) + "."


@dataclass
class Site:
    """The site as a test sees it."""

    replies: dict[str, Reply] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    port: int = 0
    released: threading.Event = field(default_factory=threading.Event)
    """Set when the test is over: a page that hangs waits for it."""

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def url(self, path: str = "/") -> str:
        return f"http://{self.host}{path}"


@pytest.fixture
def site() -> Iterator[Site]:
    found = Site()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            found.asked.append(self.path)
            reply = found.replies.get(self.path, Reply(b"not here", 404))
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            if reply.stream is not None:
                self.send_header("Connection", "close")
                self.end_headers()
                self.close_connection = True
                reply.stream(self.wfile.write)
                return
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """A client that hangs up is what some tests are about."""

    server = Server(("127.0.0.1", 0), Handler)
    found.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield found
    found.released.set()
    server.shutdown()
    thread.join()
    server.server_close()
