"""Feed messages to a function: commit, retry or dead-letter, never lose.

    the handler returns              commit
    InvalidInput, NotFound,          dead-letter, commit
    Forbidden, Conflict, Corrupt
    Busy                             pause, then the same message again
    Unavailable, DeadlineExceeded    back off, then the same message again
    anything else                    a bug: raise, nothing committed

Delivery is at least once, so handlers are idempotent; one whose effect exists already returns
instead of raising `Conflict`. A handler has a thread of its own, and while it runs, and while the
loop waits, the member polls, paused: a handler of hours does not lose the partition.
"""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Self

from libs import telemetry
from libs.bus.port import DEAD, Bus, Consumer, Message
from libs.clock import pause_s
from libs.errors import (
    Busy,
    Conflict,
    Corrupt,
    DeadlineExceeded,
    ErrorRecord,
    ServiceError,
    Unavailable,
)

_POLL_S = 0.2
_ALIVE_S = 0.05
"""How often the member polls while a handler runs."""
_LONGEST_WAIT_S = 30.0
_log = logging.getLogger(__name__)


def consume(
    bus: Bus,
    consumer: Consumer,
    handle: Callable[[Message], None],
    *,
    stopped: threading.Event,
    each_poll: Callable[[], None] = lambda: None,
) -> None:
    """Hand messages to `handle` one after the other until `stopped` is set.

    `each_poll` is called with every poll in this thread, the only one that may ask `consumer`;
    `handle` is called in another one.
    """
    member = _Member(consumer=consumer, each_poll=each_poll, stopped=stopped)
    failures = 0
    with _Hand(bus, handle) as hand:
        while not stopped.is_set():
            try:
                each_poll()
                message = consumer.poll(_POLL_S)
                failures = 0
            except (Unavailable, Busy) as error:
                failures += 1
                telemetry.DEPENDENCY_ERRORS.labels("bus").inc()
                _log.warning("the bus does not answer, trying again: %s", error)
                stopped.wait(delay_s(error, failures))
                continue
            if message is not None:
                _settle(member, hand, message)


def _span(message: Message) -> AbstractContextManager[str]:
    return telemetry.span(
        message.topic,
        telemetry.extract(message.headers),
        role=telemetry.Role.READS,
        attributes={
            "messaging.destination.name": message.topic,
            "messaging.destination.partition.id": message.partition,
            "messaging.offset": message.offset,
        },
    )


def delay_s(error: ServiceError, failures: int) -> float:
    """Seconds to wait after the given number of failures in a row: doubled each, at most 30.

    A `Busy` dependency said itself when to come again, so its delay does not grow.
    """
    first_s = error.retry_after_s or 0.5
    if isinstance(error, Busy):
        return first_s
    return pause_s(failures, first_s=first_s, longest_s=_LONGEST_WAIT_S)


def dead_letter(bus: Bus, message: Message, error: ServiceError) -> None:
    """Publish a message that can never be handled on its dead-letter topic, with the reason."""
    record = ErrorRecord.of(error)
    headers = dict(message.headers) | {
        "cause": f"{record.kind}: {record.message}",
        "origin": f"{message.topic}/{message.partition}/{message.offset}",
    }
    bus.publish(message.topic + DEAD, key=message.key, value=message.value, headers=headers)
    telemetry.DEAD_LETTERS.labels(message.topic, record.kind).inc()


@dataclass(kw_only=True)
class _Member:
    """The loop's side: who alone asks the consumer, and keeps it alive."""

    consumer: Consumer
    each_poll: Callable[[], None]
    stopped: threading.Event

    def wait(self, seconds: float) -> None:
        """Let time pass without losing membership."""
        give_up = time.monotonic() + seconds
        self.consumer.pause()
        while (left := give_up - time.monotonic()) > 0 and not self.stopped.is_set():
            self._stay(min(left, _POLL_S))
        self.consumer.resume()

    def wait_for(self, handled: "Future[None]") -> None:
        """Return once a handler has; a quick one costs no poll."""
        if wait_for([handled], _ALIVE_S).done:
            return
        self.consumer.pause()
        while not wait_for([handled], _ALIVE_S).done:
            self._stay(0.0)
        self.consumer.resume()

    def commit(self, message: Message) -> None:
        try:
            self.consumer.commit(message)
        except Conflict as moved:
            _log.info("not committed, it will be seen again: %s", moved)

    def _stay(self, timeout_s: float) -> None:
        try:
            self.each_poll()
            self.consumer.poll(timeout_s)
        except (Unavailable, Busy):
            self.stopped.wait(min(timeout_s, _POLL_S))


@dataclass
class _Hand:
    """One thread that handles messages, one after the other; it dies with the process."""

    bus: Bus
    handle: Callable[[Message], None]
    _given: "SimpleQueue[tuple[Message, Future[None]] | None]" = field(default_factory=SimpleQueue)

    def __enter__(self) -> Self:
        threading.Thread(target=self._work, name="handler", daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._given.put(None)

    def give(self, message: Message) -> "Future[None]":
        handled: Future[None] = Future()
        self._given.put((message, handled))
        return handled

    def _work(self) -> None:
        while (given := self._given.get()) is not None:
            message, handled = given
            try:
                with _span(message):
                    _handle_or_bury(self.bus, message, self.handle)
                handled.set_result(None)
            except BaseException as error:  # noqa: BLE001 - raised again in the loop's thread
                handled.set_exception(error)


def _settle(member: _Member, hand: _Hand, message: Message) -> None:
    """Handle one message until it can be committed, or until the loop is stopped."""
    failures = 0
    while not member.stopped.is_set():
        try:
            handled = hand.give(message)
            member.wait_for(handled)
            handled.result()
            member.commit(message)
            return
        except (Busy, Unavailable, DeadlineExceeded) as error:
            failures += 1
            if not isinstance(error, Busy):
                _log.warning("%s: trying again: %s", message.topic, error)
            member.wait(delay_s(error, failures))


def _handle_or_bury(bus: Bus, message: Message, handle: Callable[[Message], None]) -> None:
    try:
        handle(bus.redeem(message))
    except (Busy, Unavailable, DeadlineExceeded):
        raise
    except ServiceError as error:
        level = logging.CRITICAL if isinstance(error, Corrupt) else logging.ERROR
        _log.log(level, "%s: dead-lettered: %s", message.topic, error)
        dead_letter(bus, message, error)
