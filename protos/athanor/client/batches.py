"""Reads a plan's packed sequences over gRPC, and goes on where it was when the sampler went away.

The sampler keeps no state for a reader: to resume is to name the next position. So every lost
connection is answered by asking again, until nothing came for longer than the deadline.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import grpc
import numpy as np
from numpy.typing import NDArray

from athanor.client.connection import typed
from athanor.client.errors import AthanorError
from athanor.client.tls import Tls, channel
from athanor.sampler.v1 import sampler_pb2, sampler_pb2_grpc

_TRANSIENT = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    # The sampler cancels readers that took nothing for minutes.
    grpc.StatusCode.CANCELLED,
}
_OPTIONS = (
    ("grpc.max_receive_message_length", 16 * 2**20),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)
_SHORTEST_CALL_S = 0.1
_LONGEST_PAUSE_S = 1.0


class StreamLostError(AthanorError):
    """No batch came for as long as the reader was willing to wait."""


class Batch(NamedTuple):
    """Sequences that follow one another."""

    position: int
    """Global position of the first."""
    tokens: NDArray[np.uint32]
    """Token ids, shape (num_sequences, sequence_length), not to be written to."""
    num_positions: int
    """Sequences in the whole stream."""


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Which part of which plan, cut how."""

    plan_id: str
    sequence_length: int
    batch_size: int
    from_position: int = 0
    every: int = 1
    """Only each so many-th batch: one reader's share of several."""


def read_batches(
    address: str, cut: Cut, *, deadline_s: float = 60.0, tls: Tls | None = None
) -> Iterator[Batch]:
    """Yield batches to the end of the stream; the last may hold fewer sequences.

    Args:
        address: of the sampler, `host:port`.
        cut: what to read.
        deadline_s: seconds to wait for any one batch, reconnections included.
        tls: who the reader is; None: what the environment says, see `open_channel`.

    Raises:
        StreamLostError: no batch came within `deadline_s`.
        AthanorError: the sampler refuses: no such plan, impossible lengths, a starved plan.
    """
    with channel(address, tls, list(_OPTIONS)) as opened:
        stub = sampler_pb2_grpc.SamplerServiceStub(opened)
        waiting, num_positions = _Waiting(deadline_s), 0
        while True:
            # A call lives no longer than the wait: a sampler that hangs is noticed by its deadline.
            call = stub.Stream(_request(cut), timeout=waiting.left_s)
            try:
                for reply in call:
                    yield _batch(reply, cut.sequence_length)
                    step = cut.every * cut.batch_size
                    cut = replace(cut, from_position=reply.position + step)
                    waiting, num_positions = _Waiting(deadline_s), reply.num_positions
                if cut.from_position >= num_positions:
                    return
                # A server that is being stopped may end a stream as if it were whole.
                waiting.pause(f"an end before position {num_positions}", address, cut)
            except grpc.RpcError as error:
                waiting.after(error, address, cut)
            finally:
                call.cancel()


class _Waiting:
    """One wait for a batch, over any number of calls."""

    def __init__(self, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        self._since = time.monotonic()
        self._pause_s = 0.05

    @property
    def left_s(self) -> float:
        """Seconds left, with a little for a last try."""
        return max(self._deadline_s - self._waited_s, _SHORTEST_CALL_S)

    @property
    def _waited_s(self) -> float:
        return time.monotonic() - self._since

    def after(self, error: grpc.RpcError, address: str, cut: Cut) -> None:
        """Pause before the next try, or raise when there is to be none."""
        failure = typed(error)
        if error.code() not in _TRANSIENT:
            raise failure from error
        self.pause(str(failure), address, cut)

    def pause(self, came: str, address: str, cut: Cut) -> None:
        """Wait longer each time. Raises `StreamLostError` when the deadline does not allow it."""
        if self._waited_s + self._pause_s >= self._deadline_s:
            raise StreamLostError(
                "Unavailable",
                f"expected position {cut.from_position} of plan {cut.plan_id[:12]} from the "
                f"sampler at {address} within {self._deadline_s:g} s, got: {came}",
            )
        time.sleep(self._pause_s)
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)


def _request(cut: Cut) -> sampler_pb2.StreamRequest:
    return sampler_pb2.StreamRequest(
        plan_id=cut.plan_id,
        sequence_length=cut.sequence_length,
        batch_size=cut.batch_size,
        from_position=cut.from_position,
        every=cut.every,
    )


def _batch(reply: sampler_pb2.StreamResponse, sequence_length: int) -> Batch:
    tokens = np.frombuffer(reply.tokens, dtype="<u4")
    return Batch(
        position=reply.position,
        tokens=tokens.reshape(reply.num_sequences, sequence_length),
        num_positions=reply.num_positions,
    )
