"""One Triton server as the port needs it: infer, load, unload; its failures as our errors.

Through the gRPC stubs that tritonclient ships, on a channel of `libs.rpc`: that gives every call a
deadline, the trace and typed errors, which tritonclient's own streaming client does not.
"""

import math
import re
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future
from contextlib import closing, contextmanager, suppress
from typing import Any
from uuid import uuid4
from weakref import WeakSet

import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor

from libs import rpc
from libs.errors import (
    KINDS,
    DeadlineExceeded,
    ErrorRecord,
    NotFound,
    ServiceError,
    Unavailable,
    kind_of,
)
from libs.lm.triton.stream import LINGER_S, Stream

_KEY_HEADER = "triton-grpc-protocol-athanor"
"""What Triton calls the header of `--grpc-restricted-protocol=...:athanor=<key>`."""
_TYPES: Mapping[str, Any] = {
    "FP32": np.float32,
    "FP64": np.float64,
    "INT32": np.int32,
    "INT64": np.int64,
}
_TOLD = re.compile(rf"(?P<kind>{'|'.join(kind.__name__ for kind in KINDS)}): (?P<message>[^\n]*)")
"""How `libs.lm.triton.model` tells a failure, wherever Triton puts it."""
_LOOK_S = 10.0
_CLOSE_S = 5.0
_PAUSES_S = (0.1, 0.3)
Tensors = Mapping[str, Any]
"""Name to a one-dimensional array, or to a list of texts; one without elements may be left out."""


class Absent(NotFound):
    """The replica does not hold the model."""


class Replica:
    """One server; for use by any thread."""

    def __init__(self, address: str, *, key: str = "") -> None:
        """Talk to `host:port`; `key` opens its repository endpoint where that is restricted."""
        self.address = address
        self._channel = rpc.connect(address)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._streams: WeakSet[Stream] = WeakSet()
        self._metadata = ((_KEY_HEADER, key),) if key else ()

    def infer(
        self, model: str, tensors: Tensors, *, timeout_s: float
    ) -> Generator[Tensors, None, None]:
        """Send one request and yield its answers; closing the generator has the model stop.

        Raises:
            Absent: the replica does not hold the model.
            InvalidInput, Corrupt, Unavailable, DeadlineExceeded: as the model or the way says.
        """
        asked = {**tensors, "ticket": [uuid4().hex], "timeout_s": np.array([float(timeout_s)])}
        with self._translated(model):
            stream, answer = self._begun(model, asked, timeout_s)
            with closing(stream):
                while answer is not None:
                    if answer.error_message:
                        stream.let_end()
                        raise _answer_error(answer.error_message)
                    yield _decoded(answer.infer_response)
                    answer = next(stream, None)

    def load(self, model: str, *, timeout_s: float, config: str = "") -> None:
        """Take up what the repository says of a model; the version before serves until then.

        With `config`, the JSON of a model configuration, that one instead of the repository's.

        Raises:
            Corrupt: the weights are not those that were published.
            Forbidden: the repository endpoint asks for another key.
        """
        with self._translated(model):
            request = _load_request(model, config)
            self._stub.RepositoryModelLoad(request, timeout=timeout_s, metadata=self._metadata)

    def begin_load(self, model: str, *, timeout_s: float) -> "Future[None]":
        """Tell the server to load a model, and do not wait; tried once, failures as `load`."""
        begun: Future[None] = Future()

        def end(call: Any) -> None:
            try:
                with self._translated(model):
                    call.result()
                begun.set_result(None)
            except (ServiceError, rpc.RemoteError) as error:
                begun.set_exception(error)

        load = self._stub.RepositoryModelLoad
        call = load.future(_load_request(model), timeout=timeout_s, metadata=self._metadata)
        call.add_done_callback(end)
        return begun

    def unload(self, model: str, *, timeout_s: float) -> None:
        """Let go of a model; safe to repeat."""
        request = service_pb2.RepositoryModelUnloadRequest(model_name=model)
        with self._translated(model):
            self._stub.RepositoryModelUnload(request, timeout=timeout_s, metadata=self._metadata)

    def weights_digest(self, model: str, *, timeout_s: float) -> str:
        """Return the digest of the weights that a model answers with; empty: it is not held."""
        try:
            (digest,) = map(
                digest_of, self.infer(model, {"call": ["describe"]}, timeout_s=timeout_s)
            )
        except Absent:
            return ""
        return digest

    def ready(self) -> list[str]:
        """Return the models that answer: asked longest ago first, those never asked last."""
        request = service_pb2.ModelStatisticsRequest()
        with self._translated("any"):
            found = self._stub.ModelStatistics(request, timeout=_LOOK_S).model_stats
        # One that was never asked was loaded a moment ago by somebody who is about to ask.
        found = sorted(found, key=lambda each: each.last_inference or math.inf)
        return [each.name for each in found]

    def close(self) -> None:
        """Close the channel, once the calls under way have ended or a few seconds have passed."""
        ends = time.monotonic() + _CLOSE_S
        for stream in list(self._streams):
            stream.join(max(0.0, ends - time.monotonic()))
        self._channel.close()

    def _begun(self, model: str, asked: Tensors, timeout_s: float) -> tuple[Stream, Any]:
        """Return a call and its first answer; sent again while the server is not reached at once.

        On a busy machine a connection may not be there as soon as it must.
        """
        (ticket,) = asked["ticket"]
        for pause_s in (*_PAUSES_S, None):
            stream = self._stream(model, asked, timeout_s, lambda: self._stop(model, ticket))
            try:
                return stream, next(stream, None)
            except Unavailable:
                if pause_s is None:
                    raise
                time.sleep(pause_s)
            except DeadlineExceeded:
                stream.close()
                raise
        raise AssertionError("the last attempt returns or raises")

    def _stream(
        self, model: str, asked: Tensors, timeout_s: float, leave: Callable[[], None]
    ) -> Stream:
        request = _request(model, asked)
        call = self._stub.ModelStreamInfer(iter([request]), timeout=timeout_s + LINGER_S)
        stream = Stream(call, timeout_s=timeout_s, leave=leave)
        self._streams.add(stream)
        return stream

    def _stop(self, model: str, ticket: str) -> None:
        """Have the model end a call, within a token; what it answers is read by nobody."""
        asked = {"call": ["stop"], "ticket": [ticket]}
        with suppress(ValueError):  # of gRPC: the channel is closed, and the call with it
            self._stream(model, asked, _LOOK_S, lambda: None)

    @contextmanager
    def _translated(self, model: str) -> Iterator[None]:
        """Name the server in every error, and tell those of the model from those of the way."""
        try:
            yield
        except Absent:
            raise
        except (ServiceError, rpc.RemoteError) as error:
            raise _named(error, f"Triton at {self.address}, model {model}") from error


def digest_of(answer: Tensors) -> str:
    """Return the digest of the weights that made an answer."""
    (digest,) = answer["weights_digest"]
    return str(digest)


def _request(model: str, tensors: Tensors) -> Any:
    request = service_pb2.ModelInferRequest(model_name=model)
    for name, value in tensors.items():
        if not len(value):
            continue  # Triton takes no tensor of no elements
        kind, count, content = _encoded(value)
        request.inputs.add(name=name, datatype=kind, shape=[count])
        request.raw_input_contents.append(content)
    return request


def _load_request(model: str, config: str = "") -> Any:
    request = service_pb2.RepositoryModelLoadRequest(model_name=model)
    if config:
        request.parameters["config"].string_param = config
    return request


def _named(error: Exception, where: str) -> ServiceError | rpc.RemoteError:
    told = _TOLD.search(str(error))
    if told:
        return ErrorRecord(kind=told["kind"], message=f"{where}: {told['message']}").error()
    if isinstance(error, ServiceError):
        return kind_of(error)(f"{where}: {error}")
    return rpc.RemoteError(f"{where}: {error}")


def _answer_error(message: str) -> Exception:
    """Return the failure that a stream carries in place of an answer."""
    if message.startswith("Request for unknown model"):
        return Absent(message)
    # Said while a server ends: its models go first.
    if "is not ready" in message or "not found" in message:
        return Absent(message)
    return rpc.RemoteError(message)


def _encoded(value: Any) -> tuple[str, int, bytes]:
    """Return a tensor's type, length and bytes."""
    array = np.asarray(value)
    if array.dtype.kind in "UO":
        texts = np.array([text.encode() for text in value], dtype=np.object_)
        return "BYTES", len(texts), bytes(serialize_byte_tensor(texts).item())
    kind = next(name for name, type_ in _TYPES.items() if type_ == array.dtype)
    return kind, array.size, array.tobytes()


def _decoded(answer: Any) -> Tensors:
    return {
        output.name: [text.decode() for text in deserialize_bytes_tensor(content)]
        if output.datatype == "BYTES"
        else np.frombuffer(content, dtype=_TYPES[output.datatype])
        for output, content in zip(answer.outputs, answer.raw_output_contents, strict=True)
    }
