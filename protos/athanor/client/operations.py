"""Wait for an operation of any service, and have its result or its error."""

from typing import Any

from google.longrunning import operations_pb2 as longrunning
from google.rpc import error_details_pb2

from athanor.client.errors import AthanorError
from athanor.common.v1 import operations_pb2


def ended(watching: Any, name: str, *, timeout_s: float) -> operations_pb2.StepResult:
    """Return the result of an operation once it ended.

    Args:
        watching: stub of `OperationsWatchService` of the service that runs it.
        name: of the operation.
        timeout_s: to wait at most.

    Raises:
        AthanorError: the operation's own, or `Conflict` when it was cancelled.
    """
    last = longrunning.Operation()
    for seen in watching.Watch(operations_pb2.WatchRequest(name=name), timeout=timeout_s):
        last = seen
    if not last.done:
        raise AthanorError("Unavailable", f"{name}: the service stopped watching before its end")
    if last.WhichOneof("result") == "error":
        raise AthanorError(_kind(last.error), f"{name}: {last.error.message}")
    result = operations_pb2.StepResult()
    last.response.Unpack(result)
    return result


def _kind(status: Any) -> str:
    info = error_details_pb2.ErrorInfo()
    return next((str(info.reason) for each in status.details if each.Unpack(info)), "Conflict")
