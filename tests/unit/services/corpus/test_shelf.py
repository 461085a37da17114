"""Indexes on demand."""

from pathlib import Path

import pytest

from libs.artifacts import Artifact, Artifacts
from libs.blobs.folder import FolderBlobs
from libs.formats import PASSAGES, write_table
from libs.manifest import Request
from libs.search.port import Entry
from services.corpus.shelf import Shelf
from tests import indexes

from .test_collect import row, text


def artifact(root: Path, topic: str) -> Artifact:
    artifacts = Artifacts(FolderBlobs(root / "blobs"))
    folder = root / topic
    folder.mkdir()
    rows = sorted((row(topic, text(topic, n)) for n in range(5)), key=lambda r: r["passage_id"])
    write_table(folder / "passages.parquet", PASSAGES, rows)
    asked = Request(kind="passages", inputs={}, parameters={"topic": topic}, recipe_version=1)
    return artifacts.open(artifacts.create(asked, folder, run={}))


@pytest.fixture(params=indexes.ADAPTERS)
def search(request, tmp_path):
    with indexes.opened(request.param, request, tmp_path) as search:
        yield search


def test_an_index_holds_exactly_the_artifacts_passages(tmp_path, search):
    files = artifact(tmp_path, "files")
    opened = Shelf(search, max_indexes=2).open(files)
    (hits,) = opened.index.search([text("files", 3)], top_k=9)
    assert opened.passages[hits[0].id]["text"] == text("files", 3)
    assert len(search.index(files.id)) == len(opened.passages) == 5


def test_an_index_is_built_once_and_again_when_it_lacks_something(tmp_path, search):
    files = artifact(tmp_path, "files")
    shelf = Shelf(search, max_indexes=2)
    assert shelf.open(files) is shelf.open(files)
    search.index(files.id).delete(list(shelf.open(files).passages)[:1])
    Shelf(search, max_indexes=2).open(files)
    assert len(search.index(files.id)) == 5


def test_an_index_with_more_than_the_artifact_is_built_again(tmp_path, search):
    files = artifact(tmp_path, "files")
    search.index(files.id).add(Entry(f"other{number}", "common1") for number in range(9))
    opened = Shelf(search, max_indexes=2).open(files)
    (hits,) = opened.index.search(["common1 files1"], top_k=20)
    assert {hit.id for hit in hits} <= opened.passages.keys()


def test_the_index_not_used_for_longest_goes_and_comes_back(tmp_path, search):
    shelf = Shelf(search, max_indexes=2)
    one, two, three = (artifact(tmp_path, topic) for topic in ("one", "two", "three"))
    held = shelf.open(one)
    shelf.open(two)
    shelf.open(one)
    shelf.open(three)
    assert [len(search.index(each.id)) for each in (one, two, three)] == [5, 0, 5]
    shelf.open(two)
    # Whoever still holds a removed index can go on with it.
    assert held.index.search([text("one", 1)], top_k=1)[0]
    shelf.open(one)
    assert len(search.index(one.id)) == 5


def test_an_index_that_another_process_dropped_is_built_again(tmp_path, stack):
    files = artifact(tmp_path, "files")
    with indexes.elasticsearch(stack["ATHANOR_ELASTICSEARCH"]) as search:
        ours, others = (Shelf(search, max_indexes=1) for _ in range(2))
        opened = ours.open(files)
        before = opened.index.search([text("files", 3)], top_k=5)
        others.open(files)
        others.open(artifact(tmp_path, "other"))
        assert opened.index.search([text("files", 3)], top_k=5) == before
