"""Takes commands from the bus, holds leases, and runs each operation in a thread of its own.

Three more threads serve them all: one reads commands, one keeps leases, one sweeps. Heavy
computation in a step cannot starve them for long: they sleep, and need the interpreter for
milliseconds.
"""

import logging
import os
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from libs import telemetry
from libs.artifacts import Artifacts
from libs.bus.consume import consume
from libs.bus.port import Consumer, Message
from libs.errors import Busy, Conflict, ServiceError, Unavailable
from libs.operations.attempt import Folders
from libs.operations.lease import Lease, Stillness, take
from libs.operations.record import Record, State
from libs.operations.runner import Runner
from libs.operations.step import Step
from libs.operations.store import Operations, Stored, name_of
from libs.operations.sweeper import Sweeper

_KEEP_S = 0.4
"""How often leases are looked at, so that a cancellation is seen within a second."""
_MEASURE_S = 1.0
_TEND_S = 60.0
_log = logging.getLogger(__name__)


class Full(Busy):
    """Every slot is taken; the command stays in the queue."""

    retry_after_s = 0.1


class Worker:
    """The worker of one service in one process."""

    def __init__(
        self,
        operations: Operations,
        artifacts: Artifacts,
        steps: Sequence[Step],
        *,
        home: Path,
        max_operations: int = 4,
        lease_s: float = 10.0,
        tend: Callable[[], None] | None = None,
    ) -> None:
        """`tend` is called every minute in a thread of its own; it may raise what is retryable."""
        self._home = home
        folders = Folders(home, operations.service)
        self._operations = operations
        self._steps = {step.method: step for step in steps}
        self._runner = Runner(self._steps, artifacts, folders)
        self._lease_s = lease_s
        self._keep_s = min(_KEEP_S, lease_s / 8)
        self._holder = f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:8]}"
        self._stillness = Stillness(operations.clock)
        self._sweeper = Sweeper(operations, folders, self._stillness, lease_s=lease_s)
        self._slots = threading.BoundedSemaphore(max_operations)
        self._running: dict[Lease, threading.Thread] = {}
        self._tend = tend
        self._stopped = threading.Event()
        self._left = threading.Event()
        self._threads: list[threading.Thread] = []
        self._group = f"{operations.service}.workers"
        self._measure_at = 0.0
        self.crashed = threading.Event()
        """Set when a bug stopped one of the worker's own threads: the process should end."""

    def start(self) -> None:
        """Join the group of workers and begin. Raises `NotFound` if the topic is not declared."""
        self._home.mkdir(parents=True, exist_ok=True)  # whose disk is measured
        consumer = self._operations.bus.subscribe([self._operations.commands], group=self._group)
        self._start("commands", partial(self._consume, consumer))
        self._start("leases", partial(self._every, self._keep_s, self._keep, self._left))
        self._start(
            "sweeper", partial(self._every, self._lease_s / 4, self._sweeper.sweep, self._stopped)
        )
        if self._tend is not None:
            self._start("tending", partial(self._every, _TEND_S, self._tend, self._stopped))

    def stop(self, grace_s: float = 5.0, *, release: bool = True) -> None:
        """Take nothing more, let operations end within `grace_s`, give the others back.

        Without `release` everything is left as a kill would leave it. Idempotent.
        """
        self._stopped.set()
        give_up = time.monotonic() + grace_s
        for thread in [*self._running.values()]:
            thread.join(max(0.0, give_up - time.monotonic()))
        for lease in [*self._running]:
            if release:
                self._give_back(lease)
            lease.abandon()
        self._left.set()
        for thread in self._threads:
            thread.join()

    def _give_back(self, lease: Lease) -> None:
        try:
            lease.release()
            self._operations.wake(lease.record)
        except ServiceError as error:
            # The lease runs out by itself.
            _log.warning("%s: not given back: %s", lease.record.name, error)

    def _start(self, name: str, run: Callable[[], None]) -> None:
        def guarded() -> None:
            try:
                run()
            except Exception:  # noqa: BLE001 - a thread's edge; the process ends for it
                _log.critical("bug in the worker's thread %s", name, exc_info=True)
                self.crashed.set()

        thread = threading.Thread(target=guarded, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _every(self, pause_s: float, act: Callable[[], None], until: threading.Event) -> None:
        while not until.is_set():
            try:
                act()
            except (Unavailable, Busy) as error:
                telemetry.DEPENDENCY_ERRORS.labels("store").inc()
                _log.warning("trying again: %s", error)
            until.wait(pause_s)

    def _keep(self) -> None:
        for lease in [*self._running]:
            try:
                lease.keep()
            except ServiceError as error:
                # Lost: its step is told at its next progress. Else: the next turn tries again.
                _log.warning("%s: not kept: %s", lease.record.name, error)

    # Commands.

    def _consume(self, consumer: Consumer) -> None:
        with consumer:
            consume(
                self._operations.bus,
                consumer,
                self._handle,
                stopped=self._stopped,
                each_poll=partial(self._measure, consumer),
            )

    def _handle(self, message: Message) -> None:
        """Take the operation and start its thread; the command is committed once this returns.

        A command whose operation ended, or whose holder is alive, is dropped: the record and the
        sweeper carry the rest.

        Raises:
            Full: there is no slot; the consumer pauses and the command stays in the queue.
            InvalidInput, NotFound: no command, or no record; it is dead-lettered.
        """
        stored = self._operations.read(name_of(message))
        if not self._is_free(stored):
            return
        give_slot_back = self._take_slot(stored.record)
        try:
            lease = take(self._operations, stored, holder=self._holder, lease_s=self._lease_s)
        except ServiceError as error:
            give_slot_back()
            if not isinstance(error, Conflict):
                raise
            _log.info("another worker was faster: %s", error)
        else:
            self._run_apart(lease, give_slot_back)

    def _is_free(self, stored: Stored) -> bool:
        record, etag = stored
        still_s = self._stillness.seconds(record.name, etag)
        return record.state is State.QUEUED or (not record.ended and still_s >= self._lease_s)

    def _take_slot(self, record: Record) -> Callable[[], None]:
        """Take a slot where the step needs one, and return what gives it back."""
        step = self._steps.get(record.method)
        if step is not None and step.waits:
            return lambda: None
        if not self._slots.acquire(blocking=False):
            raise Full(f"{self._operations.service}: every slot is taken")
        return self._slots.release

    def _run_apart(self, lease: Lease, give_slot_back: Callable[[], None]) -> None:
        def run() -> None:
            try:
                self._runner.run(lease)
            finally:
                self._running.pop(lease, None)
                give_slot_back()

        thread = threading.Thread(target=run, name=lease.record.name, daemon=True)
        self._running[lease] = thread
        thread.start()

    def _measure(self, consumer: Consumer) -> None:
        now = self._operations.clock.monotonic()
        if now < self._measure_at:
            return
        self._measure_at = now + _MEASURE_S
        labels = (self._operations.service, self._group)
        telemetry.BUS_DEPTH.labels(*labels).set(consumer.depth)
        telemetry.BUS_OLDEST_AGE.labels(*labels).set(consumer.oldest_age_s)
        free_bytes = shutil.disk_usage(self._home).free
        telemetry.DISK_FREE.labels(self._operations.service).set(free_bytes)
