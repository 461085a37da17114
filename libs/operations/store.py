"""The operations of one service: submitted, read, watched, cancelled.

A submit writes the record first and the command after it, so a command never names nothing, and a
record whose command got lost is found by the sweeper.
"""

import hashlib
import json
import logging
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

from google.protobuf.message import Message

from libs import telemetry
from libs.blobs.port import Blob, Blobs
from libs.bus.port import Bus
from libs.bus.port import Message as Letter
from libs.clock import Clock
from libs.errors import Conflict, Corrupt, DeadlineExceeded, InvalidInput, NotFound
from libs.operations.record import Record, State, operation_name
from libs.schema import Schema, unchanged

COMMAND = Schema(name="a command", version=1, migrations={0: unchanged})
_log = logging.getLogger(__name__)
_TICK_S = 0.1
"""How often a watcher looks whether the record's etag changed."""


class Stored(NamedTuple):
    """A record and the etag it was read or written under."""

    record: Record
    etag: str


class Operations:
    """The operations of `service`. Every call raises as `Blobs` and `Bus` do, besides its own."""

    def __init__(self, service: str, *, blobs: Blobs, bus: Bus, clock: Clock) -> None:
        self.service = service
        self.clock = clock
        self._blobs = blobs
        self.bus = bus

    @property
    def commands(self) -> str:
        """The topic on which this service's workers are woken."""
        return f"{self.service}.commands.v1"

    def find(self, method: str, request: Message) -> Record | None:
        """Return the operation that this request started already, or None.

        Raises:
            Conflict: its id was used for another request.
        """
        request_id = getattr(request, "request_id", "")
        if not request_id:
            return None
        try:
            record = self.get(operation_name(self.service, method, request_id))
        except NotFound:
            return None
        return _same(record, _digest(request))

    def submit(self, method: str, request: Message) -> Record:
        """Record the operation and wake a worker; the same request again is the same operation.

        Without a `request_id` one is made up.

        Raises:
            Conflict: the id was used for another request.
        """
        with telemetry.span(f"submit {self.service}.{method}"):
            record = self._new(method, request)
            telemetry.note({"athanor.operation": record.name})
            try:
                self._blobs.create(_blob(record.name), record.to_json())
            except Conflict:
                record = _same(self.get(record.name), record.request_sha256)
            if record.state is State.QUEUED:
                self.wake(record)
        return record

    def wake(self, record: Record) -> None:
        """Publish the command for a worker to take the operation; harmless to repeat."""
        value = json.dumps(COMMAND.stamped({"operation": record.name})).encode()
        headers = dict(record.trace) | {"content-type": "application/json"}
        self.bus.publish(self.commands, key=record.name, value=value, headers=headers)

    def get(self, name: str) -> Record:
        """Return an operation.

        Raises:
            NotFound: this service has none of that name.
        """
        return self.read(name).record

    def list(self) -> Iterator[Record]:
        """Return every operation of the service, newest first; a damaged record is left out."""
        records = []
        for blob in self.blobs():
            try:
                records.append(self.get(name_of_blob(blob)))
            except (NotFound, Corrupt, InvalidInput) as error:
                _log.warning("%s is left out of the list: %s", blob.name, error)
        yield from sorted(records, key=lambda record: (-record.create_time, record.name))

    def cancel(self, name: str) -> Record:
        """Ask for an operation's cancellation; one that nobody holds is cancelled at once.

        Raises:
            NotFound: this service has none of that name.
        """
        while True:
            stored = self.read(name)
            record = stored.record
            if record.ended or record.cancel_requested:
                return record
            state = State.CANCELLED if record.state is State.QUEUED else record.state
            try:
                return self.write(
                    stored, replace(record, cancel_requested=True, state=state)
                ).record
            except Conflict:
                continue  # a worker took it or told its progress in between

    def watch(
        self, name: str, *, timeout_s: float, stopped: Callable[[], bool] = lambda: False
    ) -> Iterator[Record]:
        """Yield the operation now, whenever something of it changes, and last when it ended.

        Ends early once `stopped` returns True.

        Raises:
            NotFound: this service has none of that name.
            DeadlineExceeded: it did not end within `timeout_s`.
        """
        give_up = self.clock.monotonic() + timeout_s
        stored, shown = Stored(self.get(name), ""), None
        while not stopped():
            if self.stat(name).etag != stored.etag:
                stored = self.read(name)
            if _visible(stored.record) != shown:
                shown = _visible(stored.record)
                yield stored.record
            if stored.record.ended:
                return
            if self.clock.monotonic() >= give_up:
                raise DeadlineExceeded(f"{name} did not end within {timeout_s:g} s")
            time.sleep(_TICK_S)

    def wait(
        self, name: str, *, timeout_s: float, stopped: Callable[[], bool] = lambda: False
    ) -> Record:
        """Return the operation once it ended, or as it is after `timeout_s` or when `stopped`.

        Raises:
            NotFound: this service has none of that name.
        """
        with suppress(DeadlineExceeded):
            for _ in self.watch(name, timeout_s=timeout_s, stopped=stopped):
                pass
        return self.get(name)

    # For workers.

    def read(self, name: str) -> Stored:
        """Return a record with its etag. Raises `NotFound`."""
        self._check_name(name)
        try:
            data, etag = self._blobs.read(_blob(name))
        except NotFound:
            raise NotFound(f"there is no operation {name}") from None
        return Stored(Record.from_json(data), etag)

    def stat(self, name: str) -> Blob:
        """Return the record's blob without reading it. Raises `NotFound`."""
        return self._blobs.stat(_blob(name))

    def blobs(self) -> Iterator[Blob]:
        """Yield the blobs of all records of the service."""
        return self._blobs.list(f"operations/{self.service}/")

    def write(self, stored: Stored, record: Record) -> Stored:
        """Replace what was stored by `record` under the next revision.

        Raises:
            Conflict: somebody else has replaced it.
        """
        raised = replace(record, revision=stored.record.revision + 1)
        blob = self._blobs.replace_if(_blob(record.name), raised.to_json(), etag=stored.etag)
        return Stored(raised, blob.etag)

    def _new(self, method: str, request: Message) -> Record:
        request_id = getattr(request, "request_id", "") or uuid.uuid4().hex
        trace: dict[str, str] = {}
        telemetry.inject(trace)
        return Record(
            name=operation_name(self.service, method, request_id),
            service=self.service,
            method=method,
            request_id=request_id,
            request=_bytes(request),
            request_sha256=_digest(request),
            create_time=self.clock.now(),
            trace=trace,
            trace_id=telemetry.trace_id(),
        )

    def _check_name(self, name: str) -> None:
        prefix = f"operations/{self.service}/"
        if not name.startswith(prefix) or not name.removeprefix(prefix).isalnum():
            raise NotFound(f"{self.service} has operations named {prefix}<id>, got {name!r}")


def name_of(letter: Letter) -> str:
    """Return the operation that a command names.

    Raises:
        InvalidInput: the message is no command, or a newer Athanor's.
    """
    try:
        return str(COMMAND.read(letter.value)["operation"])
    except (Corrupt, KeyError) as error:
        raise InvalidInput(f"{letter.topic}: expected a command, got {error!r}") from error


def name_of_blob(blob: Blob) -> str:
    """Return the operation whose record the blob is."""
    return blob.name.removesuffix(".json")


def _blob(name: str) -> str:
    return f"{name}.json"


def _bytes(request: Message) -> bytes:
    return request.SerializeToString(deterministic=True)


def _digest(request: Message) -> str:
    return hashlib.sha256(_bytes(request)).hexdigest()


def _same(record: Record, request_sha256: str) -> Record:
    """Return the record if it is of this request, else raise `Conflict`."""
    if record.request_sha256 != request_sha256:
        raise Conflict(
            f"request id {record.request_id!r} was used for another {record.method} request: "
            f"expected sha256 {record.request_sha256}, got {request_sha256}"
        )
    return record


def _visible(record: Record) -> Record:
    """Return the record without what changes at every heartbeat."""
    return replace(record, revision=0, run_time_s=0.0)
