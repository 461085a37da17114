"""Operations on the wire: long calls started, and `google.longrunning` with a stream to watch.

The record is translated here and nowhere else; a step's own servicer is one line a call:
`return self._operations.start("Crawl", request, context)`.
"""

from collections.abc import Iterable, Iterator, Sequence

import grpc
from athanor.common.v1 import operations_pb2, operations_pb2_grpc
from google.longrunning import operations_pb2 as longrunning
from google.longrunning import operations_pb2_grpc as longrunning_grpc
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from libs import rpc
from libs.artifacts import Artifacts
from libs.blobs.port import Blobs
from libs.bus.port import Bus
from libs.clock import Clock
from libs.errors import KINDS, ErrorRecord, InvalidInput, NotFound
from libs.operations.record import UNMADE, Progress, Record, Result, State
from libs.operations.step import Input, Step, inputs_of
from libs.operations.store import Operations

DRY_RUN = "athanor-dry-run"
"""Metadata key: with the value `1` a long call is checked and nothing is recorded."""
_WATCH_S = 3600.0
_STATES = {
    State.QUEUED: operations_pb2.OPERATION_STATE_QUEUED,
    State.RUNNING: operations_pb2.OPERATION_STATE_RUNNING,
    State.SUCCEEDED: operations_pb2.OPERATION_STATE_SUCCEEDED,
    State.FAILED: operations_pb2.OPERATION_STATE_FAILED,
    State.CANCELLED: operations_pb2.OPERATION_STATE_CANCELLED,
}


class LongCalls:
    """Starts the long calls of one service: what its servicer and its worker share."""

    def __init__(
        self, service: str, *, steps: Sequence[Step], blobs: Blobs, bus: Bus, clock: Clock
    ) -> None:
        self.store = Operations(service, blobs=blobs, bus=bus, clock=clock)
        self.artifacts = Artifacts(blobs, now=clock.now)
        self.steps = tuple(steps)
        self._step_by_method = {step.method: step for step in steps}

    def start(
        self, method: str, request: Message, context: grpc.ServicerContext
    ) -> longrunning.Operation:
        """Start an operation, or return the one that the same request started before.

        With the metadata `athanor-dry-run: 1` the request is only checked: a done operation
        without a name comes back, the step's notes in its progress message, a line each. Inputs
        may be `UNMADE` then.

        Raises:
            InvalidInput, NotFound: the step's own check, or an input that is absent or of another
                kind.
            Conflict: the request id was used for another request.
        """
        if _is_dry_run(context):
            return _rehearsed(self.store.service, method, self._rehearse(method, request))
        record = self.store.find(method, request)
        if record is None:
            self._check(method, request)
            record = self.store.submit(method, request)
        return to_operation(record)

    def _check(self, method: str, request: Message) -> Sequence[str]:
        self._open(inputs_of(request))
        return self._step_by_method[method].check(request)

    def _rehearse(self, method: str, request: Message) -> Sequence[str]:
        inputs = list(inputs_of(request))
        made = [each for each in inputs if each.artifact_id != UNMADE]
        self._open(made)
        try:
            return self._step_by_method[method].check(request)
        except NotFound:
            if made == inputs:
                raise
            # It looked into what is not made yet, and has come as far as it can.
            return ()

    def _open(self, inputs: Iterable[Input]) -> None:
        for each in inputs:
            self.artifacts.open(each.artifact_id, kind=each.kinds)


class OperationsServicer(longrunning_grpc.OperationsServicer):  # type: ignore[misc]
    """`google.longrunning.Operations` of one service."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    def GetOperation(
        self, request: longrunning.GetOperationRequest, context: grpc.ServicerContext
    ) -> longrunning.Operation:
        return to_operation(self._operations.get(request.name))

    def ListOperations(
        self, request: longrunning.ListOperationsRequest, context: grpc.ServicerContext
    ) -> longrunning.ListOperationsResponse:
        """Newest first, `page_size` at most; `filter` is empty or a state: `running`."""
        states = {state.value for state in State}
        if request.filter and request.filter not in states:
            raise InvalidInput(f"filter: expected one of {sorted(states)}, got {request.filter!r}")
        records = [
            record
            for record in self._operations.list()
            if request.filter in ("", record.state.value)
        ]
        start = _start_of(request.page_token)
        end = start + (request.page_size or 100)
        return longrunning.ListOperationsResponse(
            operations=[to_operation(record) for record in records[start:end]],
            next_page_token=str(end) if end < len(records) else "",
        )

    def CancelOperation(
        self, request: longrunning.CancelOperationRequest, context: grpc.ServicerContext
    ) -> Empty:
        self._operations.cancel(request.name)
        return Empty()

    def WaitOperation(
        self, request: longrunning.WaitOperationRequest, context: grpc.ServicerContext
    ) -> longrunning.Operation:
        given_s = request.timeout.ToNanoseconds() / 1e9 if request.HasField("timeout") else _WATCH_S
        # Half a second before the deadline, so that the answer arrives instead of an error.
        timeout_s = max(0.0, min(given_s, _time_left_s(context) - 0.5))
        record = self._operations.wait(
            request.name, timeout_s=timeout_s, stopped=lambda: not context.is_active()
        )
        return to_operation(record)


class OperationsWatchServicer(operations_pb2_grpc.OperationsWatchServiceServicer):
    """The stream that `google.longrunning` has not."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    def Watch(
        self, request: operations_pb2.WatchRequest, context: grpc.ServicerContext
    ) -> Iterator[longrunning.Operation]:
        records = self._operations.watch(
            request.name,
            timeout_s=_time_left_s(context),
            stopped=lambda: not context.is_active(),
        )
        return map(to_operation, records)


def to_operation(record: Record) -> longrunning.Operation:
    """Return the record as the wire has it: metadata always, response or error once it ended."""
    operation = longrunning.Operation(name=record.name, done=record.ended)
    operation.metadata.Pack(_metadata(record))
    if record.state is State.SUCCEEDED:
        operation.response.Pack(to_step_result(record.result or Result()))
    elif record.state is State.CANCELLED:
        code = grpc.StatusCode.CANCELLED.value[0]
        operation.error.CopyFrom(status_pb2.Status(code=code, message="cancelled by request"))
    elif record.error is not None:
        operation.error.CopyFrom(_status(record.error))
    return operation


def to_step_result(result: Result) -> operations_pb2.StepResult:
    """Return the result as the wire has it."""
    return operations_pb2.StepResult(
        artifact_id=result.artifact_id,
        kind=result.kind,
        outcome=result.outcome,
        reason=result.reason,
        cached=result.cached,
        figures=result.figures,
    )


def _metadata(record: Record) -> operations_pb2.OperationMetadata:
    metadata = operations_pb2.OperationMetadata(
        service=record.service,
        method=record.method,
        request_id=record.request_id,
        state=_STATES[record.state],
        progress=_progress(record.progress),
        lease_epoch=record.epoch,
        trace_id=record.trace_id,
        cancel_requested=record.cancel_requested,
    )
    metadata.create_time.FromNanoseconds(round(record.create_time * 1e9))
    metadata.run_time.FromNanoseconds(round(record.run_time_s * 1e9))
    return metadata


def _progress(progress: Progress) -> operations_pb2.Progress:
    return operations_pb2.Progress(
        completed=progress.completed,
        total=progress.total,
        unit=progress.unit,
        message=progress.message,
    )


def _status(error: ErrorRecord) -> status_pb2.Status:
    if error.kind in {kind.__name__ for kind in KINDS}:
        return rpc.to_status(error.error())
    status = status_pb2.Status(code=grpc.StatusCode.INTERNAL.value[0], message=error.message)
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=error.kind, domain="athanor"))
    return status


def _rehearsed(service: str, method: str, notes: Sequence[str]) -> longrunning.Operation:
    operation = longrunning.Operation(done=True)
    metadata = operations_pb2.OperationMetadata(
        service=service,
        method=method,
        state=operations_pb2.OPERATION_STATE_SUCCEEDED,
        progress=operations_pb2.Progress(message="\n".join(notes)),
    )
    operation.metadata.Pack(metadata)
    operation.response.Pack(operations_pb2.StepResult())
    return operation


def _is_dry_run(context: grpc.ServicerContext) -> bool:
    return (DRY_RUN, "1") in {(key, value) for key, value in context.invocation_metadata() or ()}


def _time_left_s(context: grpc.ServicerContext) -> float:
    left = context.time_remaining()
    return _WATCH_S if left is None else left


def _start_of(page_token: str) -> int:
    if page_token and not page_token.isdecimal():
        raise InvalidInput(f"page_token: expected one that ListOperations gave, got {page_token!r}")
    return int(page_token or 0)
