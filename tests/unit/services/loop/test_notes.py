"""Lineages say what a person wants to read, and go through a round to its steps."""

import pytest

from libs.artifacts import Artifacts
from libs.formats import HITS, QUERIES, write_json, write_table
from libs.manifest import Request
from services.loop.lineage import Lineage
from services.loop.notes import notes_of
from services.loop.summary import SCHEMA

CERTIFICATE = {"num_passages": 9, "num_dropped": 2, "num_items": 70}
QUERY = {
    "query_id": "q",
    "text": "how do sockets close",
    "kind": "seed",
    "parent_id": "",
    "depth": 0,
}


@pytest.fixture
def make(blobs, tmp_path):
    artifacts = Artifacts(blobs)

    def make(kind, inputs=None, tables=(), **files):
        folder = tmp_path / kind
        folder.mkdir()
        for name, value in files.items():
            write_json(folder / f"{name}.json", value)
        for name, schema, rows in tables:
            write_table(folder / name, schema, rows)
        request = Request(kind=kind, inputs=inputs or {}, parameters={}, recipe_version=1)
        return artifacts.open(artifacts.create(request, folder, run={}))

    return make


def test_collected_passages_name_queries_and_the_exam_items_that_asked(make):
    queries = [
        QUERY | {"topic": "net", "item_id": "item7"},
        QUERY | {"query_id": "r", "kind": "feedback", "topic": "net", "item_id": ""},
    ]
    hits = [{"passage_id": "p", "query_id": "q", "rank": 0, "score": 1.0}]
    tables = [("queries.parquet", QUERIES, queries), ("hits.parquet", HITS, hits)]
    notes = notes_of(make("passages", tables=tables, certificate=CERTIFICATE))
    assert notes[0].startswith("9 passages kept, 2 dropped")
    assert notes[1] == "found by 2 queries with 1 hits"
    assert notes[2] == "seed query on net, asked for by exam item item7: how do sockets close"


def test_a_long_list_is_cut_and_says_so(make):
    clusters = [{"cluster": place, "share": 0.5} for place in range(20)]
    plan = {"budget_tokens": 9, "weighting": "cluster_clip", "clip": 5, "replay_share": 0.1}
    notes = notes_of(make("plan", plan=plan | {"seed": 1, "clusters": clusters}))
    assert notes[1] == "cluster 0: share 0.5"
    assert notes[-1] == "and 8 more clusters"


def test_a_kind_without_notes_has_none(make):
    assert notes_of(make("tokenizer")) == []


def test_a_file_of_another_form_is_a_note_and_no_end(make):
    assert "cannot be read" in notes_of(make("exam", exam={}))[0]


def test_a_round_leads_to_the_artifacts_of_its_steps(make, blobs):
    exam = make("exam", exam={"name": "demo", "num_items": 70})
    base = make("tokenizer", inputs={"exam": exam.id})
    steps = {"base": {"artifact_id": base.id}, "later": {"artifact_id": ""}}
    said = {"recipe": "small", "outcome": "promoted", "reason": "Better.", "steps": steps}
    document = SCHEMA.stamped(said)
    round_ = make("round", round=document)
    nodes = Lineage(Artifacts(blobs)).walk(round_.id)
    assert [node.kind for node in nodes] == ["round", "tokenizer", "exam"]
    assert nodes[0].inputs == {"base": base.id}
    assert nodes[2].notes == ["exam demo, 70 items"]


def test_verifying_a_round_verifies_its_steps_and_names_the_bad_file(make, blobs, tmp_path):
    exam = make("exam", exam={"name": "demo", "num_items": 70})
    document = SCHEMA.stamped({"steps": {"exam": {"artifact_id": exam.id}}})
    round_ = make("round", round=document)
    lineage = Lineage(Artifacts(blobs))
    good = list(lineage.verify(round_.id))
    assert [finding.problem for finding in good] == [""] * 4
    path = blobs.local(f"artifacts/{exam.id}/exam.json")
    path.chmod(0o600)
    path.write_bytes(b"{}")
    bad = [finding for finding in lineage.verify(round_.id) if finding.problem]
    assert [(finding.artifact_id, finding.file) for finding in bad] == [(exam.id, "exam.json")]
