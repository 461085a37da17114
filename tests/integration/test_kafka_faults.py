"""What a real broker does in bad hours: no call hangs, no message is lost, members come back."""

import gc
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from libs.bus.consume import consume
from libs.bus.kafka import KafkaBus
from libs.bus.port import Consumer, Message, Topic, and_dead_letters
from libs.errors import Conflict, InvalidInput, Unavailable
from tests.own_server import OwnServer

# kafka-python leaves sockets that could not connect to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
DEADLINE_S = 3.0
PATIENCE_S = 60.0
TOPIC = Topic(name="test.things-happened.v1", key="thing", partitions=4)


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    with OwnServer("kafka", tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


@pytest.fixture
def bus(kafka: OwnServer, request: pytest.FixtureRequest) -> Iterator[KafkaBus]:
    opened = KafkaBus(
        kafka.settings["ATHANOR_KAFKA"],
        namespace=f"{request.node.name.replace('[', '-').replace(']', '')}-",
        session_s=2.0,
        deadline_s=DEADLINE_S,
    )
    opened.declare([TOPIC])
    yield opened
    opened.close()
    gc.collect()


def publish(bus: KafkaBus, *values: int) -> None:
    for value in values:
        bus.publish(TOPIC.name, key=str(value), value=str(value).encode())


def publish_until_taken(bus: KafkaBus, *values: int) -> None:
    """Publish as a caller would that tries again; a message may then be there twice."""
    give_up = time.monotonic() + PATIENCE_S
    for value in values:
        while True:
            try:
                publish(bus, value)
                break
            except Unavailable:
                assert time.monotonic() < give_up


def take(consumer: Consumer, count: int) -> list[Message]:
    """Poll and commit until `count` different messages came, through whatever happens."""
    taken: dict[bytes, Message] = {}
    give_up = time.monotonic() + PATIENCE_S
    while len(taken) < count:
        assert time.monotonic() < give_up, f"{len(taken)} of {count} messages came"
        try:
            if message := consumer.poll(0.2):
                consumer.commit(message)
                taken[message.value] = message
        except (Unavailable, Conflict):
            continue
    return list(taken.values())


def test_a_killed_broker_loses_nothing_and_members_go_on(kafka: OwnServer, bus: KafkaBus) -> None:
    publish(bus, *range(20))
    with bus.subscribe([TOPIC.name], group="readers") as consumer:
        first = take(consumer, 5)
        kafka.restart()
        publish_until_taken(bus, *range(20, 40))
        rest = take(consumer, 40 - len(first))
    assert {int(each.value) for each in (*first, *rest)} == set(range(40))


def test_a_broker_that_is_down_is_named_within_the_deadline(
    kafka: OwnServer, bus: KafkaBus
) -> None:
    publish(bus, 1)
    kafka.kill()
    try:
        started = time.monotonic()
        with pytest.raises(Unavailable, match=rf"kafka 127.0.0.1:{kafka.port}: could not publish"):
            publish(bus, 2)
        assert time.monotonic() - started < DEADLINE_S + 2
    finally:
        kafka.start()
    publish_until_taken(bus, 3)


def calls(bus: KafkaBus, consumer: Consumer, message: Message) -> dict[str, Callable[[], object]]:
    def poll_until_it_tells() -> None:
        while True:
            consumer.poll(0.1)

    return {
        "publish": lambda: publish(bus, 1),
        "commit": lambda: consumer.commit(message),
        "depth": lambda: consumer.depth,
        "declare": lambda: bus.declare([TOPIC]),
        "declare another": lambda: bus.declare([Topic(name="test.others-happened.v1", key="it")]),
        "subscribe": lambda: bus.subscribe([TOPIC.name], group="late"),
        "poll": poll_until_it_tells,
    }


def test_no_call_outlasts_its_deadline_while_the_broker_hangs(
    kafka: OwnServer, bus: KafkaBus
) -> None:
    publish(bus, 0)
    took_s = {}
    with bus.subscribe([TOPIC.name], group="readers") as consumer:
        message = None
        while message is None:
            message = consumer.poll(1.0)
        with kafka.stopped():
            for name, call in calls(bus, consumer, message).items():
                started = time.monotonic()
                with pytest.raises(Unavailable, match=r"kafka 127\.0\.0\.1"):
                    call()
                took_s[name] = time.monotonic() - started
        publish_until_taken(bus, 1)
        assert [each.value for each in take(consumer, 1)]
    # Polling asks only after a silence of one deadline.
    assert max(took_s.values()) == took_s["poll"] < 3 * DEADLINE_S
    assert sorted(took_s.values())[-2] < DEADLINE_S + 2, took_s


def test_a_member_takes_up_partitions_that_were_added(kafka: OwnServer, bus: KafkaBus) -> None:
    more = replace(TOPIC, partitions=8)
    with bus.subscribe([TOPIC.name], group="readers") as consumer:
        publish(bus, *range(16))
        assert {each.partition for each in take(consumer, 16)} == set(range(4))
        for each in and_dead_letters([more]):
            bus.topics.grow(each)
        late = KafkaBus(kafka.settings["ATHANOR_KAFKA"], namespace=bus.topics.full(""))
        publish(late, *range(100, 164))
        late.close()
        assert {each.partition for each in take(consumer, 64)} == set(range(8))
    bus.declare([more])
    with pytest.raises(Conflict, match=r"expected 4 partitions, it has 8"):
        bus.declare([TOPIC])


def test_a_poisoned_message_is_buried_and_those_behind_it_are_handled(bus: KafkaBus) -> None:
    handled: list[bytes] = []
    stopped = threading.Event()

    def handle(message: Message) -> None:
        if message.value == b"poison":
            raise InvalidInput("expected no poison")
        handled.append(message.value)
        if message.value == b"last":
            stopped.set()

    for value in (b"first", b"poison", b"last"):
        bus.publish(TOPIC.name, key="same", value=value)
    with bus.subscribe([TOPIC.name], group="handlers") as consumer:
        consume(bus, consumer, handle, stopped=stopped)
        assert consumer.depth == 0
    assert handled == [b"first", b"last"]
    with bus.subscribe([f"{TOPIC.name}.dead"], group="doctors") as consumer:
        (letter,) = take(consumer, 1)
    assert letter.headers["cause"] == "InvalidInput: expected no poison"
