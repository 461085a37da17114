"""Bulk requests of which a part fails, against a server that refuses as it is told."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from libs.errors import Busy, InvalidInput
from libs.search.elastic import bulk
from libs.search.elastic.server import Server
from libs.search.port import Entry

FULL = {"type": "es_rejected_execution_exception", "reason": "the queue is full"}
ODD = {"type": "document_parsing_exception", "reason": "it is odd"}


class Refusing:
    """Stands for Elasticsearch: `answer(id, times sent)` gives a status and an error or None."""

    def __init__(self):
        self.answer = lambda id_, times: (201, None)
        self.requests: list[list[str]] = []
        self.kept: list[str] = []
        self.num_refreshes = 0

    def bulk(self, body: bytes) -> dict[str, object]:
        lines = [json.loads(line) for line in body.splitlines()]
        ids = [line["id"] for line in lines if "id" in line]
        self.requests.append(ids)
        items = []
        for id_ in ids:
            times = sum(id_ in request for request in self.requests)
            status, error = self.answer(id_, times)
            items.append({"index": {"status": status} | ({"error": error} if error else {})})
            self.kept += [] if error else [id_]
        return {"errors": True, "items": items}


@pytest.fixture
def refusing():
    return Refusing()


@pytest.fixture
def server(refusing):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.reply(refusing.bulk(body))

        def do_POST(self):
            refusing.num_refreshes += 1
            self.reply({"_shards": {"total": 1, "successful": 1, "failed": 0}})

        def reply(self, answer):
            data = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.send_header("X-Elastic-Product", "Elasticsearch")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    server = Server(f"http://127.0.0.1:{http.server_port}", deadline_s=10)
    yield server
    server.client.close()
    http.shutdown()
    thread.join()
    http.server_close()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(bulk, "_pause", lambda refusals: None)


def write(server, ids):
    bulk.write(server, "i", [bulk.put(Entry(id_, "word")) for id_ in ids])


def test_only_what_was_refused_for_want_of_room_is_sent_again(server, refusing):
    refusing.answer = lambda id_, times: (429, FULL) if id_ in "bc" and times < 3 else (201, None)
    write(server, "abcd")
    assert refusing.requests == [["a", "b", "c", "d"], ["b", "c"], ["b", "c"]]
    assert refusing.num_refreshes == 1


def test_what_finds_no_room_in_the_end_is_busy_and_not_told_as_done(server, refusing):
    refusing.answer = lambda id_, times: (429, FULL) if id_ == "b" else (201, None)
    with pytest.raises(Busy, match=r"entry 'b' of i: .* the queue is full"):
        write(server, "abc")
    assert len(refusing.requests) == 7


def test_an_entry_that_cannot_be_taken_is_named_at_once(server, refusing):
    refusing.answer = lambda id_, times: (400, ODD) if id_ == "b" else (201, None)
    with pytest.raises(InvalidInput, match=r"entry 'b' of i: .* it is odd"):
        write(server, "abc")
    assert refusing.kept == ["a", "c"]


def test_many_and_large_entries_go_in_several_requests(server, refusing, monkeypatch):
    monkeypatch.setattr(bulk, "_CHUNK_ACTIONS", 3)
    write(server, "abcdefg")
    assert [len(ids) for ids in refusing.requests] == [3, 3, 1]
    monkeypatch.setattr(bulk, "_CHUNK_BYTES", 1)
    write(server, "ab")
    assert [len(ids) for ids in refusing.requests[3:]] == [1, 1]
