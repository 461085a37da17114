"""Indexes on demand."""

from pathlib import Path

import pytest

from libs.artifacts import Artifact, Artifacts, Request
from libs.blobs.folder import FolderBlobs
from libs.formats import PASSAGES, write_table
from libs.search.tantivy import TantivySearch
from services.corpus.shelf import Shelf

from .test_collect import row, text


def artifact(root: Path, topic: str) -> Artifact:
    artifacts = Artifacts(FolderBlobs(root / "blobs"))
    folder = root / topic
    folder.mkdir()
    rows = sorted((row(topic, text(topic, n)) for n in range(5)), key=lambda r: r["passage_id"])
    write_table(folder / "passages.parquet", PASSAGES, rows)
    asked = Request(kind="passages", inputs={}, parameters={"topic": topic}, recipe_version=1)
    return artifacts.open(artifacts.create(asked, folder, run={}))


@pytest.fixture
def search(tmp_path) -> TantivySearch:
    return TantivySearch(tmp_path / "index")


def test_an_index_holds_exactly_the_artifacts_passages(tmp_path, search):
    opened = Shelf(search, max_indexes=2).open(artifact(tmp_path, "files"))
    (hits,) = opened.index.search([text("files", 3)], top_k=9)
    assert opened.passages[hits[0].id]["text"] == text("files", 3)
    assert len(opened.index) == len(opened.passages) == 5


def test_an_index_is_built_once_and_again_when_it_lacks_something(tmp_path, search):
    files = artifact(tmp_path, "files")
    shelf = Shelf(search, max_indexes=2)
    assert shelf.open(files) is shelf.open(files)
    search.index(files.id).delete(list(shelf.open(files).passages)[:1])
    assert len(Shelf(search, max_indexes=2).open(files).index) == 5


def test_the_index_not_used_for_longest_goes_and_comes_back(tmp_path, search):
    shelf = Shelf(search, max_indexes=2)
    one, two, three = (artifact(tmp_path, topic) for topic in ("one", "two", "three"))
    held = shelf.open(one)
    shelf.open(two)
    shelf.open(one)
    shelf.open(three)
    assert {path.name for path in (tmp_path / "index").iterdir()} == {one.id, three.id}
    shelf.open(two)
    # Whoever still holds a removed index can go on with it.
    assert held.index.search([text("one", 1)], top_k=1)[0]
    assert len(shelf.open(one).index) == 5
