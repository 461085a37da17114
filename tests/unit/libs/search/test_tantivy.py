"""An index survives what happens to its files."""

import shutil

import pytest

from libs.errors import Unavailable
from libs.search import tantivy
from libs.search.port import Entry
from libs.search.tantivy import TantivySearch

ENTRIES = [Entry("a", "apple pie"), Entry("b", "apple"), Entry("c", "cherry pie")]


def ids(search: TantivySearch, query: str) -> list[str]:
    return [hit.id for hit in search.index("i").search([query], top_k=5)[0]]


@pytest.fixture
def filled(tmp_path):
    TantivySearch(tmp_path).index("i").add(ENTRIES)
    return tmp_path


def test_an_index_is_there_after_a_restart(filled):
    assert ids(TantivySearch(filled), "pie") == ["a", "c"]


def test_a_lost_or_torn_engine_is_filled_again_from_the_ledger(filled):
    shutil.rmtree(filled / "i" / "engine")
    assert ids(TantivySearch(filled), "pie") == ["a", "c"]
    (filled / "i" / "engine" / "meta.json").write_bytes(b"{torn")
    assert ids(TantivySearch(filled), "pie") == ["a", "c"]


def test_a_change_that_stopped_before_the_engine_had_it_is_caught_up(filled, monkeypatch):
    def full(*_: object) -> None:
        raise OSError("no space left on device")

    search = TantivySearch(filled)
    index = search.index("i")
    with monkeypatch.context() as patched:
        patched.setattr(tantivy.TantivyIndex, "_commit", full)
        with pytest.raises(Unavailable, match="no space"):
            index.add([Entry("d", "pie")])
    assert ids(TantivySearch(filled), "pie") == ["d", "a", "c"]


def test_a_failed_change_can_be_repeated_in_the_same_process(filled, monkeypatch):
    search = TantivySearch(filled)
    index = search.index("i")
    original = tantivy.TantivyIndex._follow
    with monkeypatch.context() as patched:
        patched.setattr(
            tantivy.TantivyIndex, "_follow", lambda self, _: setattr(self, "_behind", True)
        )
        index.add([Entry("d", "pie")])
    assert tantivy.TantivyIndex._follow is original
    assert ids(search, "pie") == ["d", "a", "c"]


def test_an_unreadable_ledger_gives_an_empty_index(filled):
    for path in (filled / "i").glob("ledger.sqlite*"):
        path.write_bytes(b"not a database " * 100)
    search = TantivySearch(filled)
    assert len(search.index("i")) == 0
    search.index("i").add(ENTRIES)
    assert ids(search, "cherry") == ["c"]
