import json

import pytest

from libs.errors import Corrupt, InvalidInput
from libs.schema import Schema, unchanged

NOTE = Schema(
    name="a note",
    version=3,
    migrations={1: unchanged, 2: lambda fields: {"text": fields["txt"]}},
)


def test_the_present_version_is_read_as_it_is():
    assert NOTE.read(json.dumps(NOTE.stamped({"text": "a"})).encode()) == {"text": "a"}


@pytest.mark.parametrize("version", [1, 2])
def test_an_older_version_is_migrated_step_by_step(version):
    data = json.dumps({"txt": "a", "schema_version": version}).encode()
    assert NOTE.read(data) == {"text": "a"}


def test_a_newer_version_is_refused_naming_both():
    with pytest.raises(InvalidInput, match=r"a note has schema 4, newer than 1-3"):
        NOTE.migrated({"schema_version": 4})


@pytest.mark.parametrize("version", [0, -1, "3", None, 2.0])
def test_a_version_that_never_was_is_corrupt(version):
    with pytest.raises(Corrupt, match="a note of schema 1-3"):
        NOTE.migrated({"schema_version": version})


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"\xff", b"{}"])
def test_bytes_that_are_no_document_are_corrupt(data):
    with pytest.raises(Corrupt, match="a note"):
        NOTE.read(data)


def test_what_carries_no_version_is_version_0_where_there_is_one():
    old = Schema(name="a note", version=1, migrations={0: unchanged})
    assert old.read(b'{"text": "a"}') == {"text": "a"}
