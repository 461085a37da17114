import json

import pytest

from libs.errors import Corrupt, ErrorRecord, InvalidInput
from libs.operations.record import Progress, Record, Result, State, operation_name

RECORD = Record(
    name=operation_name("corpus", "Crawl", "one"),
    service="corpus",
    method="Crawl",
    request_id="one",
    request=b"\x00\xff",
    request_sha256="ab",
    create_time=1.5,
    trace={"traceparent": "00-1-2-01"},
    state=State.FAILED,
    progress=Progress(completed=1, total=2, unit="pages"),
    result=Result(artifact_id="a", figures={"pages": 1.0}),
    error=ErrorRecord(kind="Busy", message="full"),
)


def test_a_record_survives_its_json() -> None:
    assert Record.from_json(RECORD.to_json()) == RECORD


def test_a_name_depends_on_service_method_and_request_id_and_on_where_they_end() -> None:
    names = {
        operation_name(*parts)
        for parts in [("a", "b", "c"), ("a", "b", "d"), ("a", "bc", ""), ("ab", "", "c")]
    }
    assert len(names) == 4
    assert all(len(name.rpartition("/")[2]) == 32 for name in names)
    assert operation_name("a", "b", "c") == operation_name("a", "b", "c")


def test_a_newer_schema_is_refused() -> None:
    newer = json.loads(RECORD.to_json()) | {"schema_version": 3}
    with pytest.raises(InvalidInput, match="schema 3, newer than 1-2"):
        Record.from_json(json.dumps(newer).encode())


@pytest.mark.parametrize("data", [b"", b"[]", b'{"schema_version": 1}', b"\xff"])
def test_other_bytes_are_corrupt(data: bytes) -> None:
    with pytest.raises(Corrupt, match="operation's record"):
        Record.from_json(data)


@pytest.mark.parametrize("state", list(State))
def test_only_the_last_three_states_are_ends(state: State) -> None:
    ended = Record.from_json(RECORD.to_json().replace(b'"failed"', f'"{state}"'.encode())).ended
    assert ended == (state not in (State.QUEUED, State.RUNNING))
