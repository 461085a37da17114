"""Dead letters: what could never be handled, looked at and sent once more.

A letter is replayed once, however often it is asked and whoever crashes meanwhile: a record in the
object store says so, and where a crash left that open, the origin topic does.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

from libs.blobs.port import Blobs
from libs.bus.port import DEAD, Bus, Message
from libs.errors import Conflict, InvalidInput, NotFound

_CAUSE, _ORIGIN, _REPLAY = "cause", "origin", "replay-of"
_FOLDER = "registry/replays/"


class Replay(StrEnum):
    """What asking for a replay came to."""

    DONE = "replayed"
    BEFORE = "was replayed before"
    WOULD = "would be replayed"


@dataclass(frozen=True, kw_only=True)
class Letter:
    """One dead letter."""

    message: Message
    """As it lies on the dead-letter topic; a large value is still in the object store."""

    @property
    def name(self) -> str:
        """`<dead-letter topic>/<partition>/<offset>`."""
        return f"{self.message.topic}/{self.message.partition}/{self.message.offset}"

    @property
    def cause(self) -> str:
        """The error, `Kind: message`."""
        return self.message.headers.get(_CAUSE, "")

    @property
    def origin(self) -> str:
        """Where it was before: `<topic>/<partition>/<offset>`."""
        return self.message.headers.get(_ORIGIN, "")

    @property
    def headers(self) -> Mapping[str, str]:
        """Those it was published with."""
        return {
            name: text
            for name, text in self.message.headers.items()
            if name not in (_CAUSE, _ORIGIN)
        }

    @property
    def identity(self) -> str:
        """The same for two letters of one message: its burial may be repeated after a crash."""
        parts = [self.origin, self.message.key, self.message.value.hex(), dict(self.headers)]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class DeadLetters:
    """The letters of every topic of a bus."""

    def __init__(self, bus: Bus, blobs: Blobs) -> None:
        self._bus = bus
        self._blobs = blobs

    def newest(self, topic: str = "", limit: int = 100) -> list[Letter]:
        """Return the newest letters of a topic, or of all, newest first.

        Raises:
            NotFound: there is no such topic.
        """
        letters = [letter for name in self._topics(topic) for letter in self._of(name)]
        return sorted(letters, key=lambda letter: letter.message.age_s)[:limit]

    def get(self, name: str) -> Letter:
        """Return one letter by its name.

        Raises:
            NotFound: there is none; it may be older than its topic's retention.
        """
        for letter in self._of(name.split("/")[0]):
            if letter.name == name:
                return letter
        raise NotFound(f"expected a dead letter <topic>{DEAD}/<partition>/<offset>, got {name}")

    def was_replayed(self, letter: Letter) -> bool:
        """Return whether its message is on the way again."""
        return self._state(letter) == Replay.DONE

    def replay(self, name: str, *, dry_run: bool = False) -> Replay:
        """Publish a letter's message again where it came from, once.

        Raises:
            NotFound: there is no such letter, or no longer the topic that it came from.
            InvalidInput: it does not say where it came from.
        """
        letter = self.get(name)
        topic = letter.origin.split("/")[0]
        if not topic:
            raise InvalidInput(f"{name}: expected a letter with its origin, got none")
        if self.was_replayed(letter):
            return Replay.BEFORE
        if dry_run:
            return Replay.WOULD
        if not self._begun_before(letter) or not self._is_on(topic, letter):
            self._bus.publish(
                topic,
                key=letter.message.key,
                value=letter.message.value,
                headers={**letter.headers, _REPLAY: letter.identity},
            )
        self._conclude(letter)
        return Replay.DONE

    def _topics(self, topic: str) -> list[str]:
        found = [name for name in self._bus.topics.existing() if name.endswith(DEAD)]
        wanted = topic.removesuffix(DEAD) + DEAD
        if topic and wanted not in found:
            raise NotFound(f"expected a topic with dead letters, got {topic}")
        return [wanted] if topic else sorted(found)

    def _of(self, dead_topic: str) -> Iterator[Letter]:
        if not dead_topic.endswith(DEAD):
            raise NotFound(f"expected a topic that ends in {DEAD}, got {dead_topic}")
        return (Letter(message=message) for message in self._bus.scan(dead_topic))

    def _is_on(self, topic: str, letter: Letter) -> bool:
        """Return whether an attempt that crashed got as far as publishing."""
        return any(
            message.headers.get(_REPLAY) == letter.identity for message in self._bus.scan(topic)
        )

    def _record(self, letter: Letter) -> str:
        return _FOLDER + letter.identity

    def _state(self, letter: Letter) -> str:
        try:
            return self._blobs.read(self._record(letter)).data.decode()
        except NotFound:
            return ""

    def _begun_before(self, letter: Letter) -> bool:
        try:
            self._blobs.create(self._record(letter), b"begun")
        except Conflict:
            return True
        return False

    def _conclude(self, letter: Letter) -> None:
        data, etag = self._blobs.read(self._record(letter))
        if data != Replay.DONE.encode():
            with suppress(Conflict):  # another one concluded it
                self._blobs.replace_if(self._record(letter), Replay.DONE.encode(), etag=etag)
