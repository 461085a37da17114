"""The stream's client against a sampler that goes away, hangs and refuses."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import numpy as np
import pytest
from athanor.client.batches import Cut, StreamLostError, read_batches
from athanor.client.errors import AthanorError
from athanor.sampler.v1 import sampler_pb2, sampler_pb2_grpc

LENGTH, NUM_POSITIONS = 4, 10
CUT = Cut(plan_id="p", sequence_length=LENGTH, batch_size=2)


class Sampler(sampler_pb2_grpc.SamplerServiceServicer):
    """Streams positions as their own tokens; each call follows the next line of a script.

    A line says after how many batches the call ends, and how: `OK`, a status, or `hang`.
    """

    def __init__(self, *script):
        self.script = [*script, (100, "OK")]
        self.asked = []
        self.go = threading.Event()

    def Stream(self, request, context):
        num_batches, end = self.script[min(len(self.asked), len(self.script) - 1)]
        self.asked.append(request.from_position)
        stride = request.batch_size * request.every
        positions = range(request.from_position, NUM_POSITIONS, stride)
        for position in list(positions)[:num_batches]:
            rows = range(position, min(position + request.batch_size, NUM_POSITIONS))
            tokens = np.repeat(np.array(rows, dtype="<u4"), LENGTH)
            yield sampler_pb2.StreamResponse(
                position=position,
                tokens=tokens.tobytes(),
                num_sequences=len(rows),
                num_positions=NUM_POSITIONS,
            )
        if end == "hang":
            self.go.wait(30)
        elif end != "OK":
            context.abort(getattr(grpc.StatusCode, end), f"scripted {end}")


@contextmanager
def serving(sampler, port=0):
    server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
    sampler_pb2_grpc.add_SamplerServiceServicer_to_server(sampler, server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        sampler.go.set()
        server.stop(None).wait()


def positions(address, cut=CUT, **settings):
    return [int(row[0]) for batch in read_batches(address, cut, **settings) for row in batch.tokens]


def test_batches_have_their_shape_position_and_total():
    with serving(Sampler()) as address:
        batches = list(read_batches(address, CUT))
    assert [batch.position for batch in batches] == [0, 2, 4, 6, 8]
    assert {batch.tokens.shape for batch in batches} == {(2, LENGTH)}
    assert {batch.num_positions for batch in batches} == {NUM_POSITIONS}


@pytest.mark.parametrize("end", ["UNAVAILABLE", "CANCELLED", "RESOURCE_EXHAUSTED"])
def test_a_lost_stream_goes_on_after_the_last_batch(end):
    sampler = Sampler((2, end), (0, end), (1, end))
    with serving(sampler) as address:
        assert positions(address) == list(range(NUM_POSITIONS))
    assert sampler.asked == [0, 4, 4, 6]


def test_a_share_goes_on_with_its_own_next_batch():
    sampler = Sampler((1, "UNAVAILABLE"))
    cut = Cut(plan_id="p", sequence_length=LENGTH, batch_size=2, from_position=2, every=2)
    with serving(sampler) as address:
        assert positions(address, cut) == [2, 3, 6, 7]
    assert sampler.asked == [2, 6]


def test_a_sampler_that_starts_again_is_found_again():
    first, second = Sampler((2, "hang")), Sampler()
    with serving(first) as address:
        batches = read_batches(address, CUT, deadline_s=30)
        read = [next(batches).position, next(batches).position]
    with serving(second, port=int(address.rpartition(":")[2])):
        read += [batch.position for batch in batches]
    assert read == [0, 2, 4, 6, 8]
    assert second.asked[-1] == 4


def test_a_stream_that_ends_early_as_if_it_were_whole_goes_on():
    sampler = Sampler((2, "OK"))
    with serving(sampler) as address:
        assert positions(address) == list(range(NUM_POSITIONS))
    assert sampler.asked == [0, 4]


def test_a_hanging_sampler_is_asked_again_and_given_up_at_the_deadline():
    sampler = Sampler((1, "hang"), (0, "hang"), (0, "hang"), (0, "hang"))
    with serving(sampler) as address:
        batches = read_batches(address, CUT, deadline_s=0.5)
        assert next(batches).position == 0
        began = time.monotonic()
        with pytest.raises(StreamLostError, match=r"position 2 of plan p .* within 0\.5 s"):
            next(batches)
    assert time.monotonic() - began < 5


def test_an_absent_sampler_is_given_up_at_the_deadline():
    with serving(Sampler()) as address:
        pass
    with pytest.raises(StreamLostError) as caught:
        positions(address, deadline_s=0.3)
    assert caught.value.retryable


def test_a_refusal_is_not_tried_again():
    sampler = Sampler((0, "NOT_FOUND"))
    with serving(sampler) as address, pytest.raises(AthanorError, match="NOT_FOUND") as caught:
        positions(address)
    assert caught.value.kind == "NotFound"
    assert sampler.asked == [0]


def test_leaving_the_iteration_ends_the_call():
    sampler = Sampler((1, "hang"))
    ended = threading.Event()
    stream = sampler.Stream

    def watched(request, context):
        context.add_callback(ended.set)
        return stream(request, context)

    sampler.Stream = watched
    with serving(sampler) as address:
        batches = read_batches(address, CUT)
        next(batches)
        batches.close()
        assert ended.wait(10)
