"""A document that is forgotten is in nothing that the corpus holds, and nothing else is lost."""

import itertools
from types import SimpleNamespace

import pytest

from libs import forgotten
from libs.artifacts import Artifacts
from libs.backup.restore import restore
from libs.backup.take import take
from libs.blobs.folder import FolderBlobs
from libs.errors import NotFound
from libs.formats import (
    HITS,
    PASSAGES,
    QUERIES,
    Certificate,
    ids_sha256,
    read_json,
    read_rows,
    write_json,
    write_table,
)
from libs.manifest import Request
from services.corpus.forgetting import Forgetting, document_of
from services.corpus.passages import Lengths
from services.corpus.records import Document, reading, write_refusals
from services.corpus.refusals import Reason, Refusal
from tests.mortal import Killed, Mortal

LENGTHS = Lengths(min_words=3, max_words=40)
SECRET = "the harbour pilot of dunmore keeps a lighthouse diary in green ink"
SHARED = "all visitors sign the book that lies beside the door of the museum"
DOCUMENTS = (
    Document(url="http://e/a", title="A", text=f"{SECRET}\n\n{SHARED}", source="crawl"),
    Document(url="http://e/b", title="B", text="bread rises best in a warm room", source="crawl"),
    Document(url="http://e/c", title="C", text=f"{SHARED}\n\nc stands alone", source="crawl"),
)


class World:
    """Documents of three pages, passages collected from them, a plan and a checkpoint."""

    def __init__(self, root):
        self.root, self.numbers = root, itertools.count()
        self.blobs = FolderBlobs(root / "blobs")
        self.artifacts = Artifacts(self.blobs)
        self.dropped = []
        self.documents = self.make("documents", self.write_documents)
        self.passages = self.make("passages", self.write_passages, documents=self.documents)
        self.plan = self.make("plan", self.write_nothing, passages=self.passages)
        self.checkpoint = self.make("checkpoint", self.write_nothing, plan=self.plan)
        self.other = self.make("plan", self.write_nothing)

    def request(self, kind, **inputs):
        return Request(kind=kind, inputs=inputs, parameters={}, recipe_version=1)

    def make(self, kind, write, **inputs):
        folder = self.root / f"out{next(self.numbers)}"
        folder.mkdir(parents=True)
        write(folder)
        return self.artifacts.create(self.request(kind, **inputs), folder, run={"seconds": 1})

    def write_nothing(self, folder):
        write_json(folder / "plan.json", {})

    def write_documents(self, folder):
        made = reading(DOCUMENTS, [], LENGTHS)
        made.write(folder)
        figures = {"num_documents": 3, "num_passages": len(made.passages)}
        write_json(folder / "result.json", {"outcome": "", "reason": "", "figures": figures})

    def write_passages(self, folder):
        rows = {row["passage_id"]: row for row in reading(DOCUMENTS, [], LENGTHS).passages}
        rows = [rows[id_] for id_ in sorted(rows)]
        (secret,) = [row["passage_id"] for row in rows if row["text"] == SECRET]
        write_table(folder / "passages.parquet", PASSAGES, rows)
        queries = [
            query("q1", "bread", "seed"),
            query("q2", "dunmore lighthouse", "feedback", parent="q1", depth=1),
            query("q3", "lighthouse what is", "template", parent="q2", depth=2),
        ]
        write_table(folder / "queries.parquet", QUERIES, queries)
        hits = [
            {"passage_id": secret, "query_id": each, "rank": 0, "score": 1.0}
            for each in ("q1", "q2")
        ]
        write_table(folder / "hits.parquet", HITS, hits)
        write_refusals(folder, [Refusal("x" * 64, Reason.TOO_SHORT, "of http://e/b")])
        Certificate(
            exam_set_id="e" * 64,
            passages_sha256="",
            texts_sha256="t",
            num_passages=len(rows),
            num_items=1,
            num_dropped=0,
        ).write(folder)
        write_json(folder / "blocks.json", [])
        figures = {"num_passages": len(rows), "num_queries": 3}
        write_json(folder / "result.json", {"outcome": "", "reason": "", "figures": figures})

    def forget(self, document="http://e/a", operation="operations/corpus/f", blobs=None):
        blobs = blobs or self.blobs
        work = SimpleNamespace(operation=operation, progress=lambda *_: None, check=lambda: None)
        artifacts = Artifacts(blobs)
        return Forgetting(blobs, artifacts, self.dropped.append).forget(document, work)

    def answer(self, kind, **inputs):
        return self.artifacts.open(self.artifacts.find(self.request(kind, **inputs)))

    def texts(self):
        """Return every text that stands in any table of passages."""
        found = set()
        for artifact in self.artifacts.every():
            for file in artifact.manifest.files:
                if file.name == "passages.parquet" and not self.is_gone(artifact.id, file.name):
                    found |= {row["text"] for row in read_rows(artifact.path(file.name), PASSAGES)}
        return found

    def is_gone(self, artifact_id, file):
        return not [*self.blobs.list(f"artifacts/{artifact_id}/{file}")]


def query(id_, text, kind, parent="", depth=0):
    return {
        "query_id": id_,
        "text": text,
        "kind": kind,
        "parent_id": parent,
        "topic": "t",
        "item_id": "",
        "depth": depth,
    }


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def test_the_text_is_in_no_artifact_and_the_texts_of_others_are(world):
    assert SECRET in world.texts()
    before = world.texts()
    world.forget()
    assert world.texts() == before - {SECRET}


@pytest.mark.parametrize("by_id", [False, True])
def test_a_document_is_named_by_its_address_or_its_id(world, by_id):
    document = DOCUMENTS[0].id if by_id else DOCUMENTS[0].url
    assert list(world.forget(document).document_ids) == [DOCUMENTS[0].id]


def test_the_replacements_answer_the_same_requests_and_follow_each_other(world):
    world.forget()
    documents = world.answer("documents")
    passages = world.answer("passages", documents=world.documents)
    assert passages.manifest.inputs == {"documents": documents.id}
    assert passages.manifest.parameters == {"forgotten": [DOCUMENTS[0].id]}
    assert read_json(documents.path("result.json"))["figures"]["num_documents"] == 2
    assert {each.problem for each in world.artifacts.verify(passages.id)} == {""}


def test_what_was_fed_back_from_it_goes_and_the_certificate_is_of_what_is_left(world):
    world.forget()
    passages = world.answer("passages", documents=world.documents)
    queries = read_rows(passages.path("queries.parquet"), QUERIES)
    assert [row["query_id"] for row in queries] == ["q1"]
    assert read_rows(passages.path("hits.parquet"), HITS) == []
    rows = read_rows(passages.path("passages.parquet"), PASSAGES)
    certificate = Certificate.read(passages.path("certificate.json"))
    assert certificate.passages_sha256 == ids_sha256(row["passage_id"] for row in rows)
    assert certificate.num_passages == len(rows)


def test_the_old_artifact_says_that_it_was_forgotten_and_is_not_called_corrupt(world):
    world.forget()
    findings = [*world.artifacts.verify(world.checkpoint)]
    assert {each.problem for each in findings} == {""}
    new = world.answer("documents").id
    notes = {each.file: each.note for each in findings if each.artifact_id == world.documents}
    assert notes["passages.parquet"] == f"was forgotten; artifact {new} stands in its place"
    with pytest.raises(NotFound, match=f"was forgotten; artifact {new}"):
        world.artifacts.open(world.documents).path("passages.parquet")


def test_plans_and_checkpoints_that_were_made_from_it_are_named_and_others_are_not(world):
    assert world.forget().held_by == {"plan": [world.plan], "checkpoint": [world.checkpoint]}


def test_the_indexes_of_what_held_it_are_dropped(world):
    world.forget()
    assert {*world.dropped} >= {world.documents, world.passages}


def test_making_the_same_again_does_not_bring_it_back(world):
    world.forget()
    new = world.answer("documents").id
    assert world.make("documents", world.write_documents) == new
    for blob in [*world.blobs.list("requests/")]:
        world.blobs.delete(blob.name)
    assert world.make("documents", world.write_documents) == new
    assert SECRET not in world.texts()


def test_another_document_is_forgotten_after_it(world):
    world.forget()
    world.forget("http://e/b", operation="operations/corpus/g")
    assert world.texts() == {SHARED, "c stands alone"}
    assert world.make("documents", world.write_documents) == world.answer("documents").id
    assert forgotten.replacement(world.blobs, world.documents) == world.answer("documents").id


def test_what_nothing_holds_is_not_found(world):
    with pytest.raises(NotFound, match="http://e/absent"):
        world.forget("http://e/absent")
    world.forget()
    with pytest.raises(NotFound):
        world.forget(operation="operations/corpus/again")


def test_killed_anywhere_it_goes_on_and_ends_the_same(tmp_path):
    whole = World(tmp_path / "whole")
    expected = document_of(whole.forget())
    for calls in itertools.count():
        world = World(tmp_path / str(calls))
        try:
            world.forget(blobs=Mortal(world.blobs, calls))
            break
        except Killed:
            assert document_of(world.forget()) == expected
            assert SECRET not in world.texts()
    assert calls > 20


def test_a_backup_of_a_store_that_forgot_is_restored(world, tmp_path):
    world.forget()
    take(world.blobs, tmp_path / "b.tar", with_files=True)
    assert SECRET[:20].encode() not in (tmp_path / "b.tar").read_bytes()
    restored = FolderBlobs(tmp_path / "restored")
    restore(restored, tmp_path / "b.tar")
    assert {each.problem for each in Artifacts(restored).verify(world.checkpoint)} == {""}
