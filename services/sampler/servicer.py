"""gRPC in, gRPC out: long calls become operations, streams are read from the plan."""

import time
from collections.abc import Iterator
from typing import Protocol

import grpc
from athanor.sampler.v1 import sampler_pb2, sampler_pb2_grpc
from google.longrunning import operations_pb2
from google.protobuf.message import Message

from libs.errors import InvalidInput
from services.sampler import metrics
from services.sampler.readers import Readers
from services.sampler.shelf import Shelf
from services.sampler.stream import Batch, Window


class Starter(Protocol):
    """Turns a long call into an operation."""

    def start(
        self, method: str, request: Message, context: grpc.ServicerContext
    ) -> operations_pb2.Operation:
        """Record it, wake a worker, and return it."""
        ...


class SamplerServicer(sampler_pb2_grpc.SamplerServiceServicer):
    """Failures leave as `ServiceError`; `libs.rpc` gives them their status."""

    def __init__(self, operations: Starter, shelf: Shelf, readers: Readers) -> None:
        self._operations, self._shelf, self._readers = operations, shelf, readers

    def Tokenize(
        self, request: sampler_pb2.TokenizeRequest, context: grpc.ServicerContext
    ) -> operations_pb2.Operation:
        return self._operations.start("Tokenize", request, context)

    def Cluster(
        self, request: sampler_pb2.ClusterRequest, context: grpc.ServicerContext
    ) -> operations_pb2.Operation:
        return self._operations.start("Cluster", request, context)

    def Plan(
        self, request: sampler_pb2.PlanRequest, context: grpc.ServicerContext
    ) -> operations_pb2.Operation:
        return self._operations.start("Plan", request, context)

    def Stream(
        self, request: sampler_pb2.StreamRequest, context: grpc.ServicerContext
    ) -> Iterator[sampler_pb2.StreamResponse]:
        window = Window(
            sequence_length=request.sequence_length,
            batch_size=request.batch_size,
            from_position=request.from_position,
            every=request.every or 1,
        )
        if not request.plan_id:
            raise InvalidInput("plan_id must be an artifact id, got none")
        with self._readers.admitted(context.cancel) as reader:
            stream = self._shelf.open(request.plan_id)
            num_positions = stream.num_positions(window.sequence_length)
            meter = _Meter()
            for batch in stream.batches(window):
                self._readers.handed(reader)
                yield sampler_pb2.StreamResponse(
                    position=batch.position,
                    tokens=batch.tokens.tobytes(),
                    num_sequences=len(batch.tokens),
                    num_positions=num_positions,
                )
                self._readers.taken(reader)
                meter.sent(batch)


class _Meter:
    """Counts what one stream sent."""

    def __init__(self) -> None:
        self._started, self._num_tokens = time.perf_counter(), 0
        # Looked up once: a look-up takes a lock, and a stream has many batches.
        self._tokens = metrics.TOKENS.labels("Stream")
        self._rate = metrics.TOKENS_PER_SECOND.labels("Stream")

    def sent(self, batch: Batch) -> None:
        self._num_tokens += batch.tokens.size
        rate = self._num_tokens / (time.perf_counter() - self._started)
        metrics.SEQUENCES_STREAMED.inc(len(batch.tokens))
        self._tokens.inc(batch.tokens.size)
        self._rate.set(rate)
