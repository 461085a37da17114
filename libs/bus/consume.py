"""Feed messages to a function: commit, retry or dead-letter, never lose.

    the handler returns              commit
    InvalidInput, NotFound,          dead-letter, commit
    Forbidden, Conflict, Corrupt
    Busy                             pause, then the same message again
    Unavailable, DeadlineExceeded    back off, then the same message again
    anything else                    a bug: raise, nothing committed

Delivery is at least once, so handlers are idempotent; one whose effect exists already returns
instead of raising `Conflict`. While it waits, the member polls, paused: that keeps it alive.
"""

import logging
import threading
import time
from collections.abc import Callable

from libs import telemetry
from libs.bus.port import Bus, Consumer, Message
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

    `each_poll` is called once a turn in this thread, the only one that may ask `consumer`.
    """
    failures = 0
    while not stopped.is_set():
        try:
            each_poll()
            message = consumer.poll(_POLL_S)
            failures = 0
        except (Unavailable, Busy) as error:
            failures += 1
            _log.warning("the bus does not answer, trying again: %s", error)
            stopped.wait(delay_s(error, failures))
            continue
        if message is not None:
            _settle(bus, consumer, message, handle, stopped)


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
    bus.publish(f"{message.topic}.dead", key=message.key, value=message.value, headers=headers)


def _settle(
    bus: Bus,
    consumer: Consumer,
    message: Message,
    handle: Callable[[Message], None],
    stopped: threading.Event,
) -> None:
    """Handle one message until it can be committed, or until `stopped`."""
    failures = 0
    while not stopped.is_set():
        try:
            with telemetry.span(message.topic, telemetry.extract(message.headers)):
                _handle_or_bury(bus, message, handle)
            _commit(consumer, message)
            return
        except (Busy, Unavailable, DeadlineExceeded) as error:
            failures += 1
            if not isinstance(error, Busy):
                _log.warning("%s: trying again: %s", message.topic, error)
            _wait(consumer, delay_s(error, failures), stopped)


def _handle_or_bury(bus: Bus, message: Message, handle: Callable[[Message], None]) -> None:
    try:
        handle(message)
    except (Busy, Unavailable, DeadlineExceeded):
        raise
    except ServiceError as error:
        level = logging.CRITICAL if isinstance(error, Corrupt) else logging.ERROR
        _log.log(level, "%s: dead-lettered: %s", message.topic, error)
        dead_letter(bus, message, error)


def _commit(consumer: Consumer, message: Message) -> None:
    try:
        consumer.commit(message)
    except Conflict as moved:
        _log.info("not committed, it will be seen again: %s", moved)


def _wait(consumer: Consumer, seconds: float, stopped: threading.Event) -> None:
    """Let time pass without losing membership."""
    give_up = time.monotonic() + seconds
    consumer.pause()
    while (left := give_up - time.monotonic()) > 0 and not stopped.is_set():
        try:
            consumer.poll(min(left, _POLL_S))
        except (Unavailable, Busy):
            stopped.wait(min(left, _POLL_S))
    consumer.resume()
