"""Whether a server answers: asked in its own protocol, with a deadline."""

import http.server
import socket
import struct
import threading
from contextlib import contextmanager

import pytest

from deploy.local.stack import look


@contextmanager
def listening(answer):
    """Yield the address of a server that reads a request and sends `answer`."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            connection, _ = server.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        thread.join(20)


def metadata(*brokers):
    """Write by hand what Kafka answers: correlation, brokers, controller, topics."""
    body = struct.pack(">ii", 7, len(brokers))
    for number, (host, port) in enumerate(brokers):
        rack = struct.pack(">h1s", 1, b"r") if number else struct.pack(">h", -1)
        body += struct.pack(f">ih{len(host)}si", number, len(host), host.encode(), port) + rack
    body += struct.pack(">ii", 0, 0)
    return struct.pack(">i", len(body)) + body


def test_the_brokers_of_kafka_are_read_from_its_answer():
    brokers = (("a.example", 9092), ("127.0.0.1", 9093), ("b.example", 9094))
    with listening(metadata(*brokers)) as address:
        assert look.kafka_brokers(address) == [f"{host}:{port}" for host, port in brokers]


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0\0", b""])
def test_what_is_not_kafka_is_told_from_it(answer):
    with listening(answer) as address, pytest.raises(OSError, match="answer"):
        look.kafka_brokers(address)


def test_a_server_that_accepts_and_says_nothing_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(TimeoutError):
            look.kafka_brokers(address, timeout_s=0.05)
        with pytest.raises(TimeoutError):
            look.get(f"http://{address}/", timeout_s=0.05)


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/ready?now=1" else 503)
        self.end_headers()
        self.wfile.write(b'{"status": "green"}')

    def log_message(self, *_):
        pass


@pytest.fixture
def url():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_page_is_asked_with_its_query_and_past_any_proxy(url, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    answer = look.get(f"{url}/ready?now=1")
    assert (answer.status, answer.json()) == (200, {"status": "green"})
    assert "date" in answer.headers


def test_only_a_page_that_is_there_is_ok(url):
    assert look.says_ok(f"{url}/ready?now=1")
    assert not look.says_ok(f"{url}/ready")
    assert not look.says_ok("http://127.0.0.1:1/")


def test_what_speaks_no_http_is_an_os_error():
    with listening(b"\0\1\2\3") as address, pytest.raises(OSError, match="answered no HTTP"):
        look.get(f"http://{address}/")
