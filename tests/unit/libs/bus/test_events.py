from collections.abc import Iterator
from pathlib import Path

import pytest
from athanor.corpus.v1.corpus_pb2 import CrawlRequest
from athanor.corpus.v1.events_pb2 import DocumentsRead

from libs import telemetry
from libs.bus import events
from libs.bus.port import Message, Topic
from libs.bus.sqlite import SqliteBus
from libs.errors import InvalidInput

TOPIC = "corpus.documents-read.v1"
EVENT = DocumentsRead(artifact_id="a", num_documents=2, num_refused_by_reason={"empty": 1})


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[SqliteBus]:
    opened = SqliteBus(tmp_path / "bus.sqlite")
    opened.declare([Topic(name=TOPIC, key="artifact id")])
    yield opened
    opened.close()


def publish(bus: SqliteBus, **given: str) -> Message:
    """Publish the event and read it back."""
    with bus.subscribe([TOPIC], group="readers") as consumer:
        events.publish(bus, TOPIC, "a", EVENT, source="corpus", **given)
        message = consumer.poll(1.0)
        assert message is not None
        consumer.commit(message)
    return message


def test_an_event_is_a_cloud_event_in_binary_mode(bus: SqliteBus) -> None:
    message = publish(bus)
    assert message.value == EVENT.SerializeToString(deterministic=True)
    assert message.key == "a"
    headers = dict(message.headers)
    assert len(headers.pop("ce_id")) == 32
    assert headers.pop("ce_time").endswith("+00:00")
    assert headers == {
        "ce_specversion": "1.0",
        "ce_type": "athanor.corpus.v1.DocumentsRead",
        "ce_source": "corpus",
        "ce_schemaversion": "1",
        "content-type": "application/protobuf",
    }


def test_what_was_published_can_be_parsed(bus: SqliteBus) -> None:
    event = events.parse(publish(bus, event_id="7"), DocumentsRead)
    assert (event.id, event.source, event.payload) == ("7", "corpus", EVENT)


def test_the_same_event_again_has_the_same_id(bus: SqliteBus) -> None:
    assert publish(bus).headers["ce_id"] == publish(bus).headers["ce_id"]


def test_an_event_carries_the_trace_of_its_publisher(bus: SqliteBus) -> None:
    with telemetry.span("publisher") as trace_id:
        message = publish(bus)
    with telemetry.span("reader", telemetry.extract(message.headers)) as read:
        assert read == trace_id


def test_another_type_of_event_is_invalid(bus: SqliteBus) -> None:
    with pytest.raises(InvalidInput, match=r"expected an event athanor\.corpus\.v1\.CrawlRequest"):
        events.parse(publish(bus), CrawlRequest)


def test_bytes_that_are_no_message_are_invalid() -> None:
    headers = {"ce_type": "athanor.corpus.v1.DocumentsRead"}
    message = Message(topic=TOPIC, key="a", value=b"\xff\xff", headers=headers)
    with pytest.raises(InvalidInput, match="expected a athanor"):
        events.parse(message, DocumentsRead)
