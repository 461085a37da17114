"""The outside world, made to fit `ports`: protos, recipes on disk, services over gRPC; a fake.

A service joins a round by its proto alone: nothing here names a call or a field of one.
"""

import importlib
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import grpc
from athanor.common.v1 import operations_pb2, options_pb2
from google.longrunning import operations_pb2 as longrunning
from google.longrunning import operations_pb2_grpc as longrunning_grpc
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message

from libs import rpc
from libs.artifacts import Artifacts
from libs.errors import Conflict, ErrorRecord, InvalidInput, NotFound, ServiceError
from libs.formats import write_json
from libs.manifest import Request
from libs.operations.servicer import DRY_RUN
from libs.tls import Tls
from services.loop.ports import Catalogue, Field, FieldKind, Rpc, Sight, Standing
from services.loop.recipe import suggest

SERVICES = ("corpus", "evaluator", "loop", "sampler", "trainer")
_CALL_S = 10.0
"""For one call; whoever asks again after it is the driver of the round."""
_BITS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_KINDS = {
    FieldDescriptor.CPPTYPE_DOUBLE: FieldKind.NUMBER,
    FieldDescriptor.CPPTYPE_FLOAT: FieldKind.NUMBER,
    FieldDescriptor.CPPTYPE_BOOL: FieldKind.BOOLEAN,
    FieldDescriptor.CPPTYPE_ENUM: FieldKind.CHOICE,
    FieldDescriptor.CPPTYPE_MESSAGE: FieldKind.MESSAGE,
    FieldDescriptor.CPPTYPE_STRING: FieldKind.TEXT,
} | dict.fromkeys(_BITS, FieldKind.INTEGER)
_T = TypeVar("_T")


class FolderLibrary:
    """A `Library` of the YAML files in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, name: str) -> str:
        """Return a recipe of the folder, or the file that a path with a suffix names."""
        path = Path(name) if name.endswith((".yaml", ".yml")) else self._folder / f"{name}.yaml"
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            known = sorted(each.stem for each in self._folder.glob("*.yaml"))
            near = suggest(name, known)
            raise NotFound(
                f"there is no recipe `{name}`{near}; known: {', '.join(known)}"
            ) from error


class ProtoCatalogue:
    """A `Catalogue` of the long calls that the protos of some services declare."""

    def __init__(self, services: Sequence[str] = SERVICES) -> None:
        self._rpcs = {
            name: Rpc(
                name=name,
                fields=_fields(method.input_type.fields),
                produces=str(method.GetOptions().Extensions[options_pb2.produces]),
            )
            for name, method in methods(services).items()
        }

    def rpc(self, name: str) -> Rpc | None:
        """Return the call of that name, or None."""
        return self._rpcs.get(name)

    def names(self) -> Sequence[str]:
        """Return the names of all calls, sorted."""
        return sorted(self._rpcs)


def methods(services: Sequence[str]) -> Mapping[str, MethodDescriptor]:
    """Return the long calls of services by `<service>.<Method>`."""
    return {
        f"{service}.{method.name}": method
        for service in services
        for declared in _proto(service).services_by_name.values()
        for method in declared.methods
        if method.output_type.full_name == longrunning.Operation.DESCRIPTOR.full_name
        and "request_id" in method.input_type.fields_by_name
    }


class GrpcServices:
    """`Services` over gRPC."""

    def __init__(self, addresses: Mapping[str, str], *, tls: Tls | None = None) -> None:
        """Call services at `host:port` by their noun; read at each call, so it may still grow."""
        self._addresses, self._tls = addresses, tls
        self._methods = methods(SERVICES)
        self._channels: dict[str, grpc.Channel] = {}
        self._lock = threading.Lock()

    def start(self, rpc: str, fields: Mapping[str, Any], request_id: str) -> str:
        """Start a long call and return its operation's name."""
        return str(self._call(rpc, {**fields, "request_id": request_id}).name)

    def look(self, operation: str) -> Sight:
        """Say where an operation stands."""
        request = longrunning.GetOperationRequest(name=operation)
        stub = self._operations(operation)
        return sight_of(_asked(lambda: stub.GetOperation(request, timeout=_CALL_S)))

    def cancel(self, operation: str) -> None:
        """Ask an operation to stop."""
        request = longrunning.CancelOperationRequest(name=operation)
        stub = self._operations(operation)
        _asked(lambda: stub.CancelOperation(request, timeout=_CALL_S))

    def rehearse(self, rpc: str, fields: Mapping[str, Any]) -> Sequence[str]:
        """Validate a call without running it; return what a person should know."""
        operation = self._call(rpc, fields, metadata=((DRY_RUN, "1"),))
        return [note for note in _metadata(operation).progress.message.split("\n") if note]

    def close(self) -> None:
        """Close every channel."""
        with self._lock:
            for channel in self._channels.values():
                channel.close()
            self._channels.clear()

    def _call(
        self,
        name: str,
        fields: Mapping[str, Any],
        metadata: tuple[tuple[str, str | bytes], ...] = (),
    ) -> longrunning.Operation:
        method = self._methods[name]
        message = message_of(method, fields)
        call = self._channel(name.partition(".")[0]).unary_unary(
            f"/{method.containing_service.full_name}/{method.name}",
            request_serializer=type(message).SerializeToString,
            response_deserializer=longrunning.Operation.FromString,
        )
        return _asked(lambda: call(message, timeout=_CALL_S, metadata=metadata))

    def _operations(self, operation: str) -> Any:
        return longrunning_grpc.OperationsStub(self._channel(operation.split("/")[1]))

    def _channel(self, service: str) -> grpc.Channel:
        address = self._addresses[service]
        with self._lock:
            if address not in self._channels:
                self._channels[address] = rpc.connect(address, tls=self._tls)
            return self._channels[address]


class NoFront:
    """A `Front` where nobody asks for `live` by name: the lm host is asked by digest alone."""

    def converge(self, wanted: Callable[[], str]) -> None:
        """Do nothing."""


def message_of(method: MethodDescriptor, fields: Mapping[str, Any]) -> Message:
    """Return the request of a call. Raises `InvalidInput` when the fields do not fit it."""
    message = message_factory.GetMessageClass(method.input_type)()
    try:
        return json_format.ParseDict(dict(fields), message)
    except json_format.ParseError as error:
        raise InvalidInput(f"{method.full_name}: {error}") from error


def sight_of(operation: longrunning.Operation) -> Sight:
    """Return what an operation on the wire shows."""
    metadata = _metadata(operation)
    shown = Sight(
        standing=Standing.RUNNING,
        completed=metadata.progress.completed,
        total=metadata.progress.total,
        unit=metadata.progress.unit,
        message=metadata.progress.message,
        run_time_s=metadata.run_time.ToNanoseconds() / 1e9,
    )
    if not operation.done:
        return shown
    if operation.WhichOneof("result") == "error":
        return _failed(shown, operation)
    result = operations_pb2.StepResult()
    operation.response.Unpack(result)
    return Sight(
        standing=Standing.SUCCEEDED,
        run_time_s=shown.run_time_s,
        artifact_id=result.artifact_id,
        kind=result.kind,
        outcome=result.outcome,
        reason=result.reason,
        cached=result.cached,
        figures=dict(result.figures),
    )


def _failed(shown: Sight, operation: longrunning.Operation) -> Sight:
    if operation.error.code == grpc.StatusCode.CANCELLED.value[0]:
        return Sight(standing=Standing.CANCELLED, run_time_s=shown.run_time_s)
    error = rpc.from_status(operation.error)
    record = (
        ErrorRecord.of(error)
        if isinstance(error, ServiceError)
        else ErrorRecord(kind="internal", message=str(error))
    )
    return Sight(standing=Standing.FAILED, run_time_s=shown.run_time_s, error=record)


def _metadata(operation: longrunning.Operation) -> operations_pb2.OperationMetadata:
    metadata = operations_pb2.OperationMetadata()
    operation.metadata.Unpack(metadata)
    return metadata


def _asked(call: Callable[[], _T]) -> _T:
    try:
        return call()
    except rpc.RemoteError as error:
        # A bug over there: asking again does not help, and the round must say so.
        raise Conflict(f"the service failed in a way that it does not name: {error}") from error


def _proto(service: str) -> Any:
    return importlib.import_module(f"athanor.{service}.v1.{service}_pb2").DESCRIPTOR


def _fields(descriptors: Sequence[FieldDescriptor]) -> dict[str, Field]:
    return {each.name: _field(each) for each in descriptors if each.name != "request_id"}


def _field(descriptor: FieldDescriptor) -> Field:
    message = descriptor.message_type
    is_map = message is not None and message.GetOptions().map_entry
    holder = message.fields_by_name["value"] if message is not None and is_map else descriptor
    inner = holder.message_type.fields if holder.message_type is not None else ()
    least, most = _BITS.get(holder.cpp_type, (None, None))
    is_bytes = holder.type == FieldDescriptor.TYPE_BYTES
    kind = FieldKind.OPAQUE if is_bytes else _KINDS[holder.cpp_type]
    options = descriptor.GetOptions().Extensions
    kinds = str(options[options_pb2.artifact_kind]).split(",")
    return Field(
        name=descriptor.name,
        kind=kind,
        repeated=bool(descriptor.is_repeated) and not is_map,
        mapping=is_map,
        least=least,
        most=most,
        choices=_choices(holder.enum_type) if holder.enum_type else {},
        fields=_fields(inner),
        required=bool(options[options_pb2.required]),
        artifact_kinds=tuple(each.strip() for each in kinds if each.strip()),
    )


def _choices(enum: EnumDescriptor) -> dict[str, str]:
    """Return full names, and short ones without the enum's own prefix, to full names."""
    names = [value.name for value in enum.values if value.number != 0]
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return {name.removeprefix(prefix): name for name in names} | {name: name for name in names}


class FakeServices:
    """`Services` that do nothing and make what they are told; every call is noted.

    Like the real ones: the same request id is the same operation, and equal fields are answered
    by an equal artifact.
    """

    def __init__(self, catalogue: Catalogue, artifacts: Artifacts, folder: Path) -> None:
        """Make artifacts from files in `folder`, which must not exist."""
        self._catalogue = catalogue
        self._artifacts = artifacts
        self._folder = folder
        self.outcomes: dict[str, tuple[str, str]] = {}
        """Outcome and reason that a step gives, by step."""
        self.failures: dict[tuple[str, int], ServiceError] = {}
        """How a step's attempt fails, by step and attempt from 1."""
        self.files: dict[str, Mapping[str, Any]] = {}
        """Values of the JSON files in artifacts, by kind."""
        self.notes: dict[str, Sequence[str]] = {}
        """What `rehearse` says, by rpc."""
        self.num_looks = 1
        """An operation ends when it was looked at more often than this."""
        self.unreachable: Callable[[str], ServiceError | None] = lambda call: None
        """Asked before each call, `<verb> <step>`; what it returns is raised."""
        self.started: list[str] = []
        """Request ids in the order of the calls, repetitions included."""
        self.cancelled: list[str] = []
        """Request ids whose cancellation was asked for."""
        self.most_at_once = 0
        self._operations: dict[str, tuple[str, Mapping[str, Any]]] = {}
        self._looks: dict[str, int] = {}

    def start(self, rpc: str, fields: Mapping[str, Any], request_id: str) -> str:
        """Note the call."""
        self._reach("start", request_id)
        operation = f"operations/{rpc.partition('.')[0]}/{request_id}"
        self.started.append(request_id)
        if self._operations.setdefault(operation, (rpc, fields)) != (rpc, fields):
            raise Conflict(f"request id {request_id} was used for another request")
        running = [each for each in self._operations if not self._is_done(each)]
        self.most_at_once = max(self.most_at_once, len(running))
        return operation

    def look(self, operation: str) -> Sight:
        """Say where the operation stands, and bring it nearer to its end."""
        self._reach("look", operation)
        self._looks[operation] = self._looks.get(operation, 0) + 1
        if operation.rpartition("/")[2] in self.cancelled:
            return Sight(standing=Standing.CANCELLED)
        return self._ended(operation) if self._is_done(operation) else self._running(operation)

    def cancel(self, operation: str) -> None:
        """Note the request."""
        self._reach("cancel", operation)
        if not self._is_done(operation):
            self.cancelled.append(operation.rpartition("/")[2])

    def rehearse(self, rpc: str, fields: Mapping[str, Any]) -> Sequence[str]:
        """Say the notes of the rpc."""
        self._reach("rehearse", f"none.{rpc.partition('.')[2]}.1")
        return self.notes.get(rpc, ())

    def _reach(self, verb: str, name: str) -> None:
        error = self.unreachable(f"{verb} {_step_of(name)}")
        if error is not None:
            raise error

    def _is_done(self, operation: str) -> bool:
        return self._looks.get(operation, 0) > self.num_looks

    def _running(self, operation: str) -> Sight:
        looks = self._looks[operation]
        return Sight(
            standing=Standing.RUNNING, completed=looks, total=self.num_looks + 1, unit="looks"
        )

    def _ended(self, operation: str) -> Sight:
        rpc, fields = self._operations[operation]
        step, attempt = _step_of(operation), int(operation.rpartition(".")[2])
        if (step, attempt) in self.failures:
            error = ErrorRecord.of(self.failures[step, attempt])
            return Sight(standing=Standing.FAILED, error=error)
        outcome, reason = self.outcomes.get(step, ("", ""))
        made = self._catalogue.rpc(rpc)
        kind = made.produces if made else ""
        return Sight(
            standing=Standing.SUCCEEDED,
            artifact_id=self._make(kind, rpc, fields),
            kind=kind,
            outcome=outcome,
            reason=reason,
            run_time_s=1.5,
        )

    def _make(self, kind: str, rpc: str, fields: Mapping[str, Any]) -> str:
        parameters = {"rpc": rpc, **fields}
        request = Request(kind=kind, inputs={}, parameters=parameters, recipe_version=1)
        folder = self._folder / request.digest
        folder.mkdir(parents=True, exist_ok=True)
        for name, value in self.files.get(kind, {}).items():
            write_json(folder / name, value)
        return self._artifacts.create(request, folder, run={})


def _step_of(name: str) -> str:
    return name.rpartition("/")[2].split(".")[1]
