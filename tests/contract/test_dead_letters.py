"""Dead letters are found, told, and replayed once, on every bus."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from libs.blobs.folder import FolderBlobs
from libs.bus.consume import dead_letter
from libs.bus.dead_letters import DeadLetters, Letter, Replay
from libs.bus.port import Bus, Message, Topic
from libs.errors import InvalidInput, NotFound
from tests import buses

TOPIC = "test.things-happened.v1"


@pytest.fixture(params=buses.ADAPTERS)
def bus(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bus]:
    with buses.opener(request.param, request, tmp_path, session_s=2.0) as open_bus:
        opened = open_bus(blobs=FolderBlobs(tmp_path / "blobs"))
        opened.declare([Topic(name=TOPIC, key="thing", partitions=2)])
        yield opened
        opened.close()


@pytest.fixture
def blobs(tmp_path: Path) -> FolderBlobs:
    return FolderBlobs(tmp_path / "records")


@pytest.fixture
def letters(bus: Bus, blobs: FolderBlobs) -> DeadLetters:
    return DeadLetters(bus, blobs)


def bury(bus: Bus, value: bytes = b"bad", key: str = "a") -> None:
    """Publish a message and give it up, as `consume` does."""
    bus.publish(TOPIC, key=key, value=value, headers={"ce_id": "7"})
    *_, message = (each for each in bus.scan(TOPIC) if each.key == key)
    dead_letter(bus, message, InvalidInput("expected good"))


def on_topic(bus: Bus) -> list[Message]:
    return list(bus.scan(TOPIC))


def test_a_scan_yields_everything_outside_of_any_group(bus: Bus) -> None:
    for number in range(20):
        bus.publish(TOPIC, key=str(number), value=str(number).encode())
    found = list(bus.scan(TOPIC))
    assert sorted(int(each.value) for each in found) == list(range(20))
    assert [each.offset for each in found if each.partition == 0] == list(
        range(sum(each.partition == 0 for each in found))
    )
    assert list(bus.scan(f"{TOPIC}.dead")) == []
    with pytest.raises(NotFound, match="typo"):
        bus.scan("test.typos-made.v1")


def test_letters_are_told_newest_first_with_cause_and_origin(
    bus: Bus, letters: DeadLetters
) -> None:
    bury(bus, key="old")
    bury(bus, key="new")
    new, old = letters.newest(TOPIC)
    assert (new.message.key, old.message.key) == ("new", "old")
    assert new.cause == "InvalidInput: expected good"
    assert new.origin.rpartition("/")[0].rpartition("/")[0] == TOPIC
    assert new.headers == {"ce_id": "7"}
    assert letters.newest(limit=1) == [new] or letters.get(new.name).name == new.name
    with pytest.raises(NotFound, match="typo"):
        letters.newest("test.typos-made.v1")
    with pytest.raises(NotFound, match=r"got test\.things-happened\.v1\.dead/9/9"):
        letters.get(f"{TOPIC}.dead/9/9")


def test_a_letter_is_replayed_once_with_its_own_headers(bus: Bus, letters: DeadLetters) -> None:
    bury(bus)
    (letter,) = letters.newest()
    assert letters.replay(letter.name, dry_run=True) is Replay.WOULD
    assert len(on_topic(bus)) == 1
    assert letters.replay(letter.name) is Replay.DONE
    assert letters.replay(letter.name) is Replay.BEFORE
    original, again = on_topic(bus)
    assert (again.key, again.value, again.partition) == ("a", b"bad", original.partition)
    assert again.headers == {"ce_id": "7", "replay-of": letter.identity}
    assert letters.was_replayed(letter)


def test_a_message_buried_twice_is_replayed_once(bus: Bus, letters: DeadLetters) -> None:
    bury(bus)
    (first,) = letters.newest()
    bus.publish(
        f"{TOPIC}.dead",
        key="a",
        value=first.message.value,
        headers=first.message.headers,
    )
    outcomes = [letters.replay(each.name) for each in letters.newest()]
    assert outcomes == [Replay.DONE, Replay.BEFORE]
    assert len(on_topic(bus)) == 2


@pytest.mark.parametrize("published", [False, True])
def test_a_replay_that_a_crash_cut_off_is_finished_once(
    bus: Bus, letters: DeadLetters, blobs: FolderBlobs, published: bool
) -> None:
    bury(bus)
    (letter,) = letters.newest()

    class Crash(Exception):
        pass

    class Crashing(FolderBlobs):
        def replace_if(self, name: str, content: bytes, *, etag: str):  # type: ignore[no-untyped-def]
            raise Crash

    class Mute:
        topics, scan = bus.topics, bus.scan

        def publish(self, *_args: object, **_more: object) -> None:
            raise Crash

    crashing = DeadLetters(bus if published else Mute(), Crashing(blobs._root))  # type: ignore[arg-type]
    with pytest.raises(Crash):
        crashing.replay(letter.name)
    assert len(on_topic(bus)) == 1 + published
    assert letters.replay(letter.name) is Replay.DONE
    assert len(on_topic(bus)) == 2


def test_a_large_letter_keeps_its_claim_on_the_way_back(bus: Bus, letters: DeadLetters) -> None:
    value = bytes(400_000)
    bury(bus, value=value)
    (letter,) = letters.newest()
    letters.replay(letter.name)
    assert [bus.redeem(each).value for each in on_topic(bus)] == [value, value]


def test_a_letter_without_an_origin_cannot_be_replayed(bus: Bus, letters: DeadLetters) -> None:
    bus.publish(f"{TOPIC}.dead", key="a", value=b"")
    (letter,) = letters.newest()
    assert letter == Letter(message=letter.message)
    with pytest.raises(InvalidInput, match="origin"):
        letters.replay(letter.name)
