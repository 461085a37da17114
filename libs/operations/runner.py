"""Runs one operation whose lease is held until it ends; what an error means is decided here.

Cancelled                        CANCELLED
LeaseLost                        nothing: another worker has it
Busy, Unavailable,               back off and try again, 8 times in all, then FAILED
DeadlineExceeded
any other of the eight           FAILED with it
anything else                    a bug: logged with its traceback; FAILED at the third
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from libs import telemetry
from libs.artifacts import Artifacts
from libs.clock import pause_s
from libs.errors import (
    KINDS,
    RETRYABLE,
    ErrorRecord,
    InvalidInput,
    ServiceError,
    kind_of,
    scarce,
)
from libs.masking import masked
from libs.operations.attempt import Attempt, Folders
from libs.operations.lease import Lease
from libs.operations.record import Record, Result, State
from libs.operations.step import Cancelled, LeaseLost, Step

MAX_RETRIES = 8
MAX_FAULTS = 3
MAX_DEATHS = 20
"""An operation that takes its worker down each time is given up after so many."""
INTERNAL = "Internal"
"""Kind of the error that a bug leaves in a record; none of the eight."""
_LONGEST_WAIT_S = 30.0
_CHECK_S = 0.2
T = TypeVar("T")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Ending:
    """What an operation ends with."""

    state: State
    result: Result | None = None
    error: ErrorRecord | None = None


class Runner:
    """Runs operations by the steps of one service; any number of threads."""

    def __init__(
        self,
        steps: Mapping[str, Step],
        artifacts: Artifacts,
        folders: Folders,
        *,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        """`wait` lets seconds pass, between attempts."""
        self._steps = steps
        self._artifacts = artifacts
        self._folders = folders
        self._wait = wait

    def run(self, lease: Lease) -> None:
        """Run the operation to its end, inside the trace of the call that submitted it."""
        record = lease.record
        parent = telemetry.extract(record.trace)
        about: dict[str, str | int] = {
            "athanor.service": record.service,
            "athanor.operation": record.name,
            "athanor.attempt": record.epoch,
        }
        with telemetry.span(f"{record.service}.{record.method}", parent, attributes=about):
            _log.info("%s %s: attempt %d", record.method, record.name, record.epoch)
            try:
                self._end(lease, self._ending(lease))
            except LeaseLost as lost:
                _log.warning("%s", lost)

    def _end(self, lease: Lease, ending: _Ending) -> None:
        self._patiently(
            lease, lambda: lease.finish(ending.state, result=ending.result, error=ending.error)
        )
        _count(lease.record)
        telemetry.note({"athanor.state": ending.state.value})
        self._folders.clear(lease.record)
        error_text = f": {ending.error.kind}: {ending.error.message}" if ending.error else ""
        _log.info("%s %s%s", lease.record.name, ending.state, error_text)

    def _patiently(self, lease: Lease, write: Callable[[], T]) -> T:
        """Write to the record, however long the store is away."""
        failures = 0
        while True:
            try:
                return write()
            except RETRYABLE as error:
                failures += 1
                _log.warning("%s: cannot be written yet: %s", lease.record.name, error)
                self._wait(_delay_s(error, failures))

    def _ending(self, lease: Lease) -> _Ending:
        if lease.record.deaths >= MAX_DEATHS:
            return _internal(f"its worker died {lease.record.deaths} times")
        while True:
            ending = self._try(lease)
            if ending is not None:
                return ending

    def _try(self, lease: Lease) -> _Ending | None:
        """Make one attempt; None when another is due, after the pause that it asks for."""
        try:
            return _Ending(state=State.SUCCEEDED, result=self._attempt(lease).result())
        except Cancelled:
            return _Ending(state=State.CANCELLED)
        except LeaseLost:
            raise
        except RETRYABLE as error:
            return self._back_off(lease, error)
        except KINDS as error:
            return _Ending(state=State.FAILED, error=ErrorRecord.of(error))
        except OSError as error:
            busy = scarce(error)
            return self._back_off(lease, busy) if busy else self._count_fault(lease, error)
        except Exception as bug:  # noqa: BLE001 - a step's bug must not take its neighbours down
            return self._count_fault(lease, bug)

    def _attempt(self, lease: Lease) -> Attempt:
        step = self._steps.get(lease.record.method)
        if step is None:
            raise InvalidInput(
                f"expected a method among {sorted(self._steps)}, got {lease.record.method}"
            )
        return Attempt(lease=lease, step=step, artifacts=self._artifacts, folders=self._folders)

    def _back_off(self, lease: Lease, error: ServiceError) -> _Ending | None:
        retries = self._patiently(lease, lambda: lease.count("retries"))
        if retries >= MAX_RETRIES:
            return _Ending(state=State.FAILED, error=ErrorRecord.of(error))
        _count_retry(lease.record, kind_of(error).__name__)
        _log.warning("%s: attempt %d failed: %s", lease.record.name, retries, error)
        return self._pause(lease, _delay_s(error, retries))

    def _count_fault(self, lease: Lease, bug: Exception) -> _Ending | None:
        # A late worker stumbles over what the new one does: that is no bug.
        faults = self._patiently(lease, lambda: lease.count("faults"))
        _log.error("%s: bug in %s", lease.record.name, lease.record.method, exc_info=bug)
        if faults >= MAX_FAULTS:
            return _internal(f"{type(bug).__name__}: {bug}")
        _count_retry(lease.record, INTERNAL)
        return self._pause(lease, 0.0)

    def _pause(self, lease: Lease, seconds: float) -> _Ending | None:
        """Let the time pass, or end earlier when a cancellation is asked for."""
        left = seconds
        try:
            while left > 0:
                lease.check()
                self._wait(min(left, _CHECK_S))
                left -= _CHECK_S
        except Cancelled:
            return _Ending(state=State.CANCELLED)
        return None


def _delay_s(error: ServiceError, failures: int) -> float:
    return pause_s(failures, first_s=error.retry_after_s or 0.5, longest_s=_LONGEST_WAIT_S)


def _count(record: Record) -> None:
    error_kind = record.error.kind if record.error else ""
    telemetry.OPERATIONS_ENDED.labels(
        record.service, record.method, record.state.value, error_kind
    ).inc()


def _count_retry(record: Record, error_kind: str) -> None:
    telemetry.OPERATION_RETRIES.labels(record.service, record.method, error_kind).inc()


def _internal(message: str) -> _Ending:
    error = ErrorRecord(kind=INTERNAL, message=masked(f"internal: {message}"))
    return _Ending(state=State.FAILED, error=error)
