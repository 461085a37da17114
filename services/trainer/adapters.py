"""The outside world, made to fit `ports`: the sampler's stream over gRPC, and its fake."""

from collections.abc import Generator, Mapping

import numpy as np
import numpy.typing as npt
from athanor.sampler.v1 import sampler_pb2, sampler_pb2_grpc

from libs import rpc
from libs.errors import Corrupt, DeadlineExceeded, NotFound, Unavailable
from libs.tls import Tls
from services.trainer.ports import Batch


class GrpcBatches:
    """`Batches` of a sampler. A broken stream is opened again where it broke."""

    def __init__(self, address: str, *, stall_s: float = 60.0, tls: Tls | None = None) -> None:
        """Read from the sampler at `host:port`.

        Args:
            address: nothing is sent before the first call.
            stall_s: seconds without a batch after which whoever reads gets an error. A stream is
                also opened anew after this time, whatever it gave: gRPC has deadlines for whole
                streams only, and trainings run for hours.
            tls: who the trainer is on the wire; None: plain.
        """
        self._stub = sampler_pb2_grpc.SamplerServiceStub(rpc.connect(address, tls=tls))
        self._stall_s = stall_s

    def batches(
        self, plan_id: str, *, sequence_length: int, batch_size: int, from_position: int
    ) -> Generator[Batch, None, None]:
        """Yield the plan's batches from a position on; see `Batches`."""
        request = sampler_pb2.StreamRequest(
            plan_id=plan_id,
            sequence_length=sequence_length,
            batch_size=batch_size,
            from_position=from_position,
        )
        num_positions = 0
        while True:
            begin = request.from_position
            stream = self._stub.Stream(request, timeout=self._stall_s)
            try:
                for response in stream:
                    batch = _batch(response, sequence_length)
                    # Before it is handed out: the caller may come back after the deadline.
                    request.from_position = batch.position + len(batch.tokens)
                    num_positions = batch.num_positions
                    yield batch
                if request.from_position >= num_positions:
                    return
                # A sampler that is being stopped may end a stream as if it were whole.
                if request.from_position == begin:
                    raise Unavailable(f"the stream ended at {begin} of {num_positions} sequences")
            except (Unavailable, DeadlineExceeded):
                if request.from_position == begin:
                    raise
            finally:
                stream.cancel()


def _batch(response: sampler_pb2.StreamResponse, sequence_length: int) -> Batch:
    size_bytes = response.num_sequences * sequence_length * 4
    if len(response.tokens) != size_bytes:
        raise Corrupt(
            f"expected {response.num_sequences} sequences of {sequence_length} tokens, "
            f"{size_bytes} bytes, got {len(response.tokens)} bytes"
        )
    tokens = np.frombuffer(response.tokens, dtype="<u4").reshape(-1, sequence_length)
    return Batch(response.position, tokens, response.num_positions)


class ArrayBatches:
    """`Batches` of token arrays in memory, for tests: a plan is its tokens one after the other."""

    def __init__(self, tokens_by_plan: Mapping[str, npt.NDArray[np.uint32]]) -> None:
        self._tokens_by_plan = tokens_by_plan

    def batches(
        self, plan_id: str, *, sequence_length: int, batch_size: int, from_position: int
    ) -> Generator[Batch, None, None]:
        """Yield the plan's batches from a position on; see `Batches`."""
        if plan_id not in self._tokens_by_plan:
            raise NotFound(f"there is no plan {plan_id}")
        tokens = self._tokens_by_plan[plan_id]
        num_positions = len(tokens) // sequence_length
        rows = tokens[: num_positions * sequence_length].reshape(-1, sequence_length)
        for first in range(from_position, num_positions, batch_size):
            yield Batch(first, rows[first : first + batch_size], num_positions)
