"""Everything that is stored carries a schema version, and meets its older and newer selves.

The table below is the inventory. A module that writes and stands in no row fails the first test;
a version that is raised without a sample of the one before it fails the second.
"""

import ast
import json
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from athanor.corpus.v1 import events_pb2

from libs import artifacts, condemned, forgotten, formats, manifest
from libs.backup import archive, restore
from libs.blobs.folder import FolderBlobs
from libs.bus import events, sqlite, sqlite_file
from libs.bus.port import Message, Topic
from libs.clock import Clock
from libs.errors import Corrupt, InvalidInput, ServiceError
from libs.operations import record, store
from libs.schema import Schema
from libs.search import ledger
from services.evaluator import exams
from services.loop import garbage, pins, registry, rounds, store_age, summary, wear

ROOT = Path(__file__).parents[2]
ID = "ab" * 32
WRITES = re.compile(
    r"(blobs|self)\.(create|replace_if|_create)|write_(json|table|bytes|text|blocks)|sqlite3\.connect"
    r"|(torch|np|pq)\.(save|write_table)|save_(file|pretrained)|copyfile|bus\.publish|^swap$"
)
"""Calls that put bytes where another process, or a later one, reads them."""

FILES = "files of an artifact, under the version in its manifest; tables carry their own too"
SCRATCH = (
    "scratch of one operation, of no worth to another version: what it does not know it remakes"
)
ID_ONLY = "one artifact id and nothing else, under a name that is a digest"
WORD = "a number or an address that lives as long as the process that wrote it"
CALLER = "writes what its caller has versioned"
MODULES = {
    "libs/artifacts.py": manifest.SCHEMA,
    "libs/backup": "restore: the mark of a restore; what it restores keeps the version that it has",
    "libs/blobs/swap.py": CALLER,
    "libs/blocks.py": FILES,
    "libs/bus/claims.py": CALLER,
    "libs/bus/consume.py": "dead letters: the message as it came, with headers that say why",
    "libs/bus/dead_letters.py": "one word by the digest of a letter: a replay began, or is done",
    "libs/bus/events.py": events.SCHEMA,
    "libs/bus/sqlite_file.py": "the SQLite bus",
    "libs/condemned.py": condemned.SCHEMA,
    "libs/forgotten.py": forgotten.SCHEMA,
    "libs/formats.py": formats.SCHEMA,
    "libs/launcher": WORD,
    "libs/lm/triton/repository.py": "the manifest of a published version",
    "libs/lm/weights.py": ID_ONLY,
    "libs/operations/attempt.py": FILES,
    "libs/operations/store.py": record.SCHEMA,
    "libs/search/elastic": "an index whose name carries its format",
    "libs/search/ledger.py": ledger.SCHEMA,
    "libs/search/tantivy.py": "a copy of its ledger",
    "libs/service.py": WORD,
    "services/corpus/forget.py": FILES,
    "services/corpus/forgetting.py": SCRATCH,
    "services/corpus/journal.py": SCRATCH,
    "services/corpus/records.py": FILES,
    "services/corpus/worker.py": FILES,
    "services/evaluator/exam_files.py": FILES,
    "services/evaluator/exams.py": exams.SCHEMA,
    "services/evaluator/items.py": FILES,
    "services/evaluator/score.py": FILES,
    "services/evaluator/sitting.py": SCRATCH,
    "services/evaluator/worker.py": FILES,
    "services/loop/adapters.py": FILES,
    "services/loop/garbage.py": garbage.SCHEMA,
    "services/loop/pins.py": pins.SCHEMA,
    "services/loop/registry.py": registry.SCHEMA,
    "services/loop/rounds.py": rounds.SCHEMA,
    "services/loop/store_age.py": store_age.SCHEMA,
    "services/loop/wear.py": wear.SCHEMA,
    "services/loop/worker.py": FILES,
    "services/sampler/labels.py": FILES,
    "services/sampler/tokens.py": FILES,
    "services/sampler/worker.py": FILES,
    "services/trainer/checkpoint.py": FILES,
    "services/trainer/foreign.py": FILES,
    "services/trainer/report.py": FILES,
    "services/trainer/snapshot.py": SCRATCH,
    "services/trainer/tokenizer.py": FILES,
}
"""Module, or folder of modules, to the format that it writes, or why what it writes has none."""


class Format(NamedTuple):
    """One stored format: how a sample is read, and a sample of each version that ever was."""

    schema: Schema
    read: Callable[[Path, dict[str, Any]], object]
    """Reads the fields as they are stored; a folder for whoever needs files."""
    samples: dict[int, dict[str, Any]]


def stored(path: str, read: Callable[[FolderBlobs], object]) -> Callable[..., object]:
    """Return how a blob of that name is read."""

    def act(folder: Path, fields: dict[str, Any]) -> object:
        blobs = FolderBlobs(folder)
        blobs.create(path, json.dumps(fields).encode())
        return read(blobs)

    return act


def parsed(read: Callable[[bytes], object]) -> Callable[..., object]:
    return lambda folder, fields: read(json.dumps(fields).encode())


def table(folder: Path, fields: dict[str, Any]) -> object:
    metadata = {"athanor_schema": str(fields["schema_version"])} if fields else None
    columns = pa.table({"passage_id": [ID]}).replace_schema_metadata(metadata)
    pq.write_table(columns, folder / "t.parquet")
    return formats.read_rows(folder / "t.parquet", formats.HOLDOUT)


def event(folder: Path, fields: dict[str, Any]) -> object:
    headers = {"ce_type": "athanor.corpus.v1.DocumentsRead"}
    if fields:
        headers["ce_schemaversion"] = str(fields["schema_version"])
    value = events_pb2.DocumentsRead(artifact_id=ID).SerializeToString()
    message = Message(topic="t", key="k", value=value, headers=headers)
    return events.parse(message, events_pb2.DocumentsRead).payload.artifact_id


def command(folder: Path, fields: dict[str, Any]) -> object:
    value = json.dumps(fields).encode()
    return store.name_of(Message(topic="t", key="k", value=value, headers={}))


def entries(folder: Path, fields: dict[str, Any]) -> object:
    path = folder / "ledger.sqlite"
    with_version = f"PRAGMA user_version={fields.get('schema_version', 0)}"
    opened = ledger.Ledger(path)
    opened.put([("a", "b c")])
    opened._database.execute(with_version)
    opened.close()
    again = ledger.Ledger(path)
    again.close()
    return len(again)


OPERATION = {
    "name": "operations/corpus/ab",
    "service": "corpus",
    "method": "Crawl",
    "request_id": "r",
    "request": "",
    "request_sha256": "x",
    "create_time": 1.5,
    "trace": {},
    "trace_id": "",
    "state": "queued",
    "progress": {"completed": 0.0, "total": 0.0, "unit": "", "message": ""},
    "holder": "",
    "epoch": 0,
    "revision": 0,
    "cancel_requested": False,
    "answered": None,
    "retries": 0,
    "faults": 0,
    "deaths": 0,
    "result": None,
    "error": None,
    "run_time_s": 0.0,
}
ROUND = {
    "id": "ab",
    "recipe": "r",
    "text": "",
    "as_of": "",
    "who": "",
    "operation": "o",
    "create_time": 1.5,
    "steps": [],
    "outcome": None,
    "error": None,
}
MANIFEST = {"kind": "plan", "inputs": {}, "parameters": {}, "recipe_version": 1, "files": []}
EXAM = {"name": "e", "exam_id": ID, "num_items": 1, "max_decisions": 5, "sequence": 1}
CERTIFICATE = {
    "exam_set_id": ID,
    "passages_sha256": "p",
    "texts_sha256": "t",
    "num_passages": 1,
    "num_items": 1,
    "num_dropped": 0,
}


def certificate(folder: Path, fields: dict[str, Any]) -> object:
    formats.write_json(folder / "certificate.json", fields)
    return formats.Certificate.read(folder / "certificate.json")


def surveyed(blobs: FolderBlobs) -> object:
    return garbage.Survey(blobs, clock=Clock(), age=store_age.StoreAge(blobs)).garbage()


def v(version: int, fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields as they were stored by that version."""
    return {**fields, "schema_version": version}


FORMATS = [
    Format(
        record.SCHEMA,
        parsed(record.Record.from_json),
        {1: v(1, OPERATION), 2: v(2, OPERATION | {"holds": ID})},
    ),
    Format(store.COMMAND, command, {0: {"operation": "o"}, 1: v(1, {"operation": "o"})}),
    Format(rounds.SCHEMA, parsed(rounds.RoundRecord.from_json), {1: v(1, ROUND)}),
    Format(
        registry.SCHEMA,
        stored("registry/models.json", lambda blobs: registry.Models(blobs).read()),
        {1: v(1, {"models": [], "history": [], "audit": [], "revision": 1})},
    ),
    Format(
        exams.SCHEMA,
        stored("registry/exams/e.json", exams.registered),
        {0: EXAM, 1: v(1, EXAM)},
    ),
    Format(
        wear.SCHEMA,
        stored("registry/decisions/e.json", lambda blobs: wear.spend(blobs, "e", "key", limit=2)),
        {
            0: {"revision": 1, "decisions": ["other"]},
            1: v(1, {"revision": 1, "decisions": ["other"]}),
        },
    ),
    Format(
        pins.SCHEMA,
        stored(
            "registry/pins.json", lambda blobs: pins.Pins(blobs, artifacts.Artifacts(blobs)).all()
        ),
        {1: v(1, {"pins": [], "revision": 1})},
    ),
    Format(manifest.SCHEMA, parsed(manifest.Manifest.from_json), {1: v(1, MANIFEST)}),
    Format(formats.SCHEMA, table, {0: {}, 1: v(1, {})}),
    Format(formats.CERTIFICATE, certificate, {1: v(1, CERTIFICATE)}),
    Format(events.SCHEMA, event, {0: {}, 1: v(1, {})}),
    Format(ledger.SCHEMA, entries, {0: {}, 1: v(1, {})}),
    Format(
        condemned.SCHEMA,
        stored(condemned.BLOB, lambda blobs: condemned.Condemned(blobs).read()),
        {1: v(1, {"owner": "", "ids": [], "revision": 1})},
    ),
    Format(
        garbage.SCHEMA,
        stored(garbage.MARKS, surveyed),
        {1: v(1, {"marks": {}, "revision": 1})},
    ),
    Format(
        store_age.SCHEMA,
        stored(store_age.BLOB, lambda blobs: store_age.StoreAge(blobs).look()),
        {1: v(1, {"age_s": 1.0, "boot_id": "b", "boot_s": 2.0, "revision": 1})},
    ),
    Format(
        forgotten.SCHEMA,
        parsed(forgotten.from_json),
        {1: v(1, {"replacement_id": ID, "document_ids": [ID], "files": ["a"]})},
    ),
    Format(
        restore.SCHEMA,
        stored(restore.MARK, restore.mark),
        {1: v(1, {"backup_sha256": ID, "done": True, "revision": 1})},
    ),
    Format(
        archive.SCHEMA,
        lambda folder, fields: archive.SCHEMA.migrated(fields),
        {1: v(1, {"blobs": {}})},
    ),
    Format(
        summary.SCHEMA,
        lambda folder, fields: summary.SCHEMA.migrated(fields),
        {1: v(1, {"steps": {}})},
    ),
]
SAMPLES = [
    pytest.param(each, version, id=f"{each.schema.name} {version}")
    for each in FORMATS
    for version in each.samples
]


def writers() -> set[str]:
    """Return the modules that call something of `WRITES`."""
    paths = [path for top in ("libs", "services") for path in (ROOT / top).rglob("*.py")]
    return {str(path.relative_to(ROOT)) for path in paths if any(map(WRITES.search, calls(path)))}


def calls(path: Path) -> list[str]:
    tree = ast.walk(ast.parse(path.read_text("utf-8")))
    return [ast.unparse(each.func) for each in tree if isinstance(each, ast.Call)]


def test_every_module_that_writes_stands_in_the_inventory():
    strangers = {
        module
        for module in writers()
        if not any(module == known or module.startswith(f"{known}/") for known in MODULES)
    }
    assert strangers == set(), "say in MODULES which format it writes, or why that needs no version"


def test_no_row_of_the_inventory_is_of_a_module_that_writes_nothing():
    found = writers()
    assert [row for row in MODULES if not any(row in (m, m[: len(row)]) for m in found)] == []


def test_every_format_of_the_inventory_has_samples():
    named = {id(each) for each in MODULES.values() if isinstance(each, Schema)}
    assert named <= {id(each.schema) for each in FORMATS}


@pytest.mark.parametrize("stored_format", FORMATS, ids=lambda each: each.schema.name)
def test_there_is_a_sample_of_every_version_that_is_read(stored_format):
    schema = stored_format.schema
    assert [*stored_format.samples] == [*range(schema.oldest, schema.version + 1)]
    assert [*schema.migrations] == [*range(schema.oldest, schema.version)]


@pytest.mark.parametrize(("stored_format", "version"), SAMPLES)
def test_every_version_is_read(stored_format, version, tmp_path):
    stored_format.read(tmp_path, stored_format.samples[version])


@pytest.mark.parametrize("stored_format", FORMATS, ids=lambda each: each.schema.name)
def test_a_newer_version_is_refused_naming_both(stored_format, tmp_path):
    newest = stored_format.schema.version
    newer = stored_format.samples[newest] | {"schema_version": newest + 1}
    with pytest.raises(
        (InvalidInput, Corrupt), match=rf"schema {newest + 1}, newer than .*{newest}"
    ):
        stored_format.read(tmp_path, newer)


@pytest.mark.parametrize("stored_format", FORMATS, ids=lambda each: each.schema.name)
def test_the_version_after_this_one_needs_a_migration_and_no_more(stored_format):
    schema = stored_format.schema
    after = replace(
        schema,
        version=schema.version + 1,
        migrations={**schema.migrations, schema.version: lambda fields: fields | {"new": 1}},
    )
    for sample in stored_format.samples.values():
        assert after.migrated(sample)["new"] == 1


def test_the_bus_takes_up_every_older_file_and_refuses_a_newer_one(tmp_path):
    for version in range(sqlite_file.SCHEMA_VERSION + 1):
        path = tmp_path / f"{version}.sqlite"
        with closing(sqlite3.connect(path)) as database:
            database.executescript(";".join(sqlite_file._MIGRATIONS[:version]))
            database.execute(f"PRAGMA user_version = {version}")
        sqlite.SqliteBus(path).declare([Topic(name="t", key="k")])
    newer = sqlite_file.SqliteFile(tmp_path / "newer.sqlite", durable=False, busy_timeout_s=5.0)
    newer.change(f"PRAGMA user_version = {sqlite_file.SCHEMA_VERSION + 1}")
    newer.close()
    expected = f"schema {sqlite_file.SCHEMA_VERSION + 1} is newer than {sqlite_file.SCHEMA_VERSION}"
    with pytest.raises(ServiceError, match=expected):
        sqlite_file.SqliteFile(tmp_path / "newer.sqlite", durable=False, busy_timeout_s=5.0)
