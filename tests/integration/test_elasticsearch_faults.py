"""What a real Elasticsearch does in bad hours, and that no entry is lost or is there by half."""

import threading
import time

import pytest
from elasticsearch import Elasticsearch

from libs.errors import Busy, InvalidInput, Unavailable
from libs.launcher.home import unused_port
from libs.search.elastic import bulk, documents
from libs.search.elasticsearch import ElasticsearchSearch
from libs.search.port import Entry
from tests import indexes
from tests.own_server import OwnServer

BATCH = 60
DEADLINE_S = 1.0


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with OwnServer("elasticsearch", tmp_path_factory.mktemp("elasticsearch")) as server:
        yield server


@pytest.fixture(scope="module")
def url(server):
    return server.settings["ATHANOR_ELASTICSEARCH"]


@pytest.fixture
def search(url):
    with indexes.elasticsearch(url) as search:
        yield search


@pytest.fixture
def impatient(url):
    with indexes.elasticsearch(url, deadline_s=DEADLINE_S) as search:
        yield search


def batch(number):
    return [Entry(f"{number}-{n}", f"word batch{number} only{number}x{n}") for n in range(BATCH)]


class Adding(threading.Thread):
    """Adds batch after batch, each until it is told that it is there."""

    def __init__(self, index):
        super().__init__(daemon=True)
        self._index = index
        self._enough = threading.Event()
        self._progress = threading.Condition()
        self.done = 0
        self.num_refused = 0

    def run(self):
        while not self._enough.is_set():
            try:
                self._index.add(batch(self.done))
            except (Unavailable, Busy):
                self.num_refused += 1
                self._enough.wait(0.05)
                continue
            with self._progress:
                self.done += 1
                self._progress.notify()

    def await_done(self, count):
        with self._progress:
            assert self._progress.wait_for(lambda: self.done >= count, timeout=120)

    def end(self):
        self._enough.set()
        self.join(timeout=60)


def test_what_was_added_is_there_after_a_kill_in_the_midst_of_adding(server, search):
    index = search.index("i")
    adding = Adding(index)
    adding.start()
    adding.await_done(5)
    server.kill()
    server.start()
    adding.await_done(adding.done + 5)
    adding.end()
    assert adding.num_refused
    queries = [f"only{number}x{n}" for number in range(adding.done) for n in (0, BATCH - 1)]
    found = index.search(queries, top_k=2)
    assert [[hit.id for hit in hits] for hits in found] == [
        [query.removeprefix("only").replace("x", "-")] for query in queries
    ]
    assert adding.done * BATCH <= len(index) <= (adding.done + 1) * BATCH


def test_a_server_that_hangs_ends_every_call_in_time_and_goes_on_later(server, impatient):
    search, index = impatient, impatient.index("i")
    index.add(batch(0))
    before = index.search(["word"], top_k=5)
    with server.stopped():
        calls = {
            "search": lambda: index.search(["word"], top_k=5),
            "add": lambda: index.add(batch(1)),
            "delete": lambda: index.delete(["0-0"]),
            "len": lambda: len(index),
            "open": lambda: search.index("other"),
            "rebuild": lambda: search.rebuild("i", batch(2)),
            "drop": lambda: search.drop("i"),
        }
        for name, call in calls.items():
            begin = time.monotonic()
            with pytest.raises(Unavailable, match=r"Elasticsearch at 127.* did not answer within"):
                call()
            assert time.monotonic() - begin < 2 * DEADLINE_S + 1, name
    assert index.search(["word"], top_k=5) == before


def test_a_server_that_is_down_is_named_without_its_password():
    port = unused_port(set())
    search = ElasticsearchSearch(f"http://name:hidden@127.0.0.1:{port}")
    with pytest.raises(Unavailable, match=f"Elasticsearch at 127.0.0.1:{port}") as caught:
        search.index("i")
    assert "hidden" not in str(caught.value)


def test_an_entry_that_the_index_cannot_take_is_named_and_the_others_are_there(url):
    mappings = documents.mappings()
    mappings["properties"]["length"] = {"type": "byte"}
    with indexes.fresh_namespace(url) as namespace, Elasticsearch(url) as client:
        alias = f"{namespace}i"
        aliases = {alias: {"is_write_index": True}}
        client.indices.create(
            index=f"{alias}@v000001",
            settings=documents.settings(1),
            mappings=mappings,
            aliases=aliases,
        )
        index = ElasticsearchSearch(url, namespace=namespace).index("i")
        with pytest.raises(InvalidInput, match=r"entry 'long' of .*: Elasticsearch at"):
            index.add([Entry("a", "word"), Entry("long", "word " * 128), Entry("b", "word")])
        index.add([Entry("c", "word")])
        assert len(index) == 3


def test_a_full_disk_is_busy_and_what_waits_for_room_goes_on(url, search, monkeypatch):
    index = search.index("i")
    index.add(batch(0))
    with Elasticsearch(url) as client:

        def block(on):
            (name,) = client.indices.get(index="t*@v*").body
            settings = {"index.blocks.read_only_allow_delete": on or None}
            client.indices.put_settings(index=name, settings=settings)

        block(on=True)
        monkeypatch.setattr(bulk, "_pause", lambda refusals: None)
        with pytest.raises(Busy, match="flood-stage"):
            index.add(batch(1))
        monkeypatch.setattr(bulk, "_pause", lambda refusals: block(on=refusals < 3))
        index.add(batch(1))
    assert len(index) == 2 * BATCH
