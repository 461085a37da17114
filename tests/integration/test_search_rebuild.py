"""An Elasticsearch index is filled again while others search and write it, or die at it."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event, Semaphore

import pytest
from elasticsearch import Elasticsearch

from libs.clock import Clock
from libs.errors import Conflict, InvalidInput, NotFound
from libs.search.elastic import bulk, documents, versions
from libs.search.elasticsearch import ElasticsearchSearch
from libs.search.port import Entry
from tests import indexes

MANY = ["common", "common word7", "word3 word5", "absent"] * 40
"""So many that a search asks several times, and an index may be swapped in between."""


class Killed(BaseException):
    """What ends a process at once."""


class Ahead(Clock):
    """A clock two hours from now."""

    def now(self):
        return time.time() + 7200


@pytest.fixture(scope="module")
def url(stack):
    return stack["ATHANOR_ELASTICSEARCH"]


@pytest.fixture
def namespace(url):
    with indexes.fresh_namespace(url) as namespace:
        yield namespace


@pytest.fixture
def search(url, namespace):
    return ElasticsearchSearch(url, namespace=namespace)


def entries(seed, count=120):
    return [Entry(f"{seed}-{n}", f"common word{(n * seed) % 11} seed{seed}") for n in range(count)]


def ids(search, query):
    return {hit.id for hit in search.index("i").search([query], top_k=500)[0]}


@pytest.mark.parametrize("grace_s", [0.0, 5.0])
def test_a_rebuild_under_load_loses_no_query_and_mixes_none(url, namespace, grace_s):
    search = ElasticsearchSearch(url, namespace=namespace, grace_s=grace_s)
    contents = [entries(1), entries(2, count=90)]
    expected = []
    for content in contents:
        search.rebuild("i", content)
        expected.append(search.index("i").search(MANY, top_k=20))
    assert expected[0] != expected[1]
    enough, answered = Event(), Semaphore(0)

    def ask():
        index = ElasticsearchSearch(url, namespace=namespace).index("i")
        answers = []
        while not enough.is_set():
            answers.append(index.search(MANY, top_k=20))
            answered.release()
        return answers

    with ThreadPoolExecutor(3) as threads:
        asking = [threads.submit(ask) for _ in range(3)]
        for number in range(6):
            search.rebuild("i", contents[number % 2])
            assert all(answered.acquire(timeout=60) for _ in asking)
        enough.set()
        answers = [answer for each in asking for answer in each.result(timeout=60)]
    assert all(answer in expected for answer in answers)
    assert all(each in answers for each in expected)
    assert len(indexes.stored(url, namespace)) == 1


def test_a_rebuild_that_died_changes_nothing_and_is_swept_when_it_is_old(
    url, namespace, search, monkeypatch
):
    search.rebuild("i", entries(1))

    def die(*_):
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(versions.Versions, "_swap", die)
        search.rebuild("i", entries(2))
    assert ids(search, "common") == {entry.id for entry in entries(1)}
    search.index("i")
    assert len(indexes.stored(url, namespace)) == 2  # another may be filling it
    ahead = ElasticsearchSearch(url, namespace=namespace, clock=Ahead())
    assert ids(ahead, "common") == {entry.id for entry in entries(1)}
    assert len(indexes.stored(url, namespace)) == 1


def test_a_rebuild_that_fails_leaves_nothing(url, namespace, search, monkeypatch):
    search.rebuild("i", entries(1))

    def refuse(*_):
        raise Conflict("no")

    with monkeypatch.context() as patched, pytest.raises(Conflict):
        patched.setattr(versions.Versions, "_swap", refuse)
        search.rebuild("i", entries(2))
    assert ids(search, "common") == {entry.id for entry in entries(1)}
    assert len(indexes.stored(url, namespace)) == 1


def test_a_version_is_kept_while_somebody_reads_it_for_the_grace_at_most(url, namespace):
    search = ElasticsearchSearch(url, namespace=namespace, grace_s=0.3)
    search.rebuild("i", entries(1))
    with Elasticsearch(url) as client:
        held = client.open_point_in_time(index=f"{namespace}i", keep_alive="1m")["id"]
        begin = time.monotonic()
        search.rebuild("i", entries(2))
        assert time.monotonic() - begin > 0.3
        assert len(indexes.stored(url, namespace)) == 1
        client.options(ignore_status=404).close_point_in_time(id=held)


def test_two_that_rebuild_at_once_leave_one_whole_index(url, namespace, search):
    with ThreadPoolExecutor(2) as threads:
        content = {1: entries(1), 2: entries(2)}
        list(threads.map(lambda seed: search.rebuild("i", content[seed]), [1, 2]))
    assert ids(search, "common") in [{each.id for each in content[seed]} for seed in (1, 2)]
    assert len(indexes.stored(url, namespace)) == 1


def test_many_that_begin_an_index_at_once_write_the_same_one(url, namespace, search):
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(lambda seed: search.index("i").add(entries(seed, 9)), range(1, 7)))
    assert len(search.index("i")) == 6 * 9
    assert len(indexes.stored(url, namespace)) == 1


def test_what_is_added_during_a_swap_is_in_the_index_that_stays(search, monkeypatch):
    index = search.index("i")
    index.add(entries(1))
    write = bulk.write

    def swapped_once(*arguments):
        write(*arguments)
        monkeypatch.setattr(bulk, "write", write)
        search.rebuild("i", entries(2))

    monkeypatch.setattr(bulk, "write", swapped_once)
    index.add([Entry("late", "common")])
    assert ids(search, "common") == {"late", *(entry.id for entry in entries(2))}


def test_an_index_that_is_dropped_while_it_is_written_is_made_anew(search, monkeypatch):
    index = search.index("i")
    index.add(entries(1))
    write = bulk.write

    def dropped_once(*arguments):
        monkeypatch.setattr(bulk, "write", write)
        search.drop("i")
        write(*arguments)

    monkeypatch.setattr(bulk, "write", dropped_once)
    index.add([Entry("late", "common")])
    assert ids(search, "common") == {"late"}


def test_who_holds_an_index_is_told_that_it_was_dropped(search):
    search.rebuild("i", entries(1))
    index = search.index("i")
    search.drop("i")
    with pytest.raises(NotFound, match="dropped"):
        index.search(["common"], top_k=1)
    with pytest.raises(NotFound, match="dropped"):
        len(index)


@pytest.mark.parametrize("step", [-1, 1])
def test_an_index_of_an_older_format_is_begun_anew_and_one_of_a_newer_refused(
    search, monkeypatch, step
):
    with monkeypatch.context() as patched:
        other = replace(documents.SCHEMA, version=documents.SCHEMA.version + step)
        patched.setattr(documents, "SCHEMA", other)
        search.rebuild("i", entries(1))
    if step < 0:
        assert len(search.index("i")) == 0
    else:
        with pytest.raises(InvalidInput, match="newer"):
            search.index("i")
