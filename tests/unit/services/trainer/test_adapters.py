"""Both adapters over the same claims: a sampler that breaks off on purpose, and the fake."""

from functools import partial

import numpy as np
import pytest
from athanor.sampler.v1 import sampler_pb2, sampler_pb2_grpc

from libs import rpc
from libs.errors import Corrupt, DeadlineExceeded, NotFound, Unavailable
from services.trainer.adapters import ArrayBatches, GrpcBatches

TOKENS = np.arange(10 * 4 + 3, dtype=np.uint32)


class Sampler(sampler_pb2_grpc.SamplerServiceServicer):
    """Streams `TOKENS` and breaks off as told: after so many batches, by raising or by ending."""

    def __init__(self):
        self.fake = ArrayBatches({"plan": TOKENS})
        self.breaks = []
        self.asked_from = []
        self.cut_bytes = 0

    def Stream(self, request, context):
        self.asked_from.append(request.from_position)
        after, error = self.breaks.pop(0) if self.breaks else (None, None)
        stream = self.fake.batches(
            request.plan_id,
            sequence_length=request.sequence_length,
            batch_size=request.batch_size,
            from_position=request.from_position,
        )
        for number, batch in enumerate(stream):
            if number == after:
                if error is None:
                    return
                raise error
            tokens = batch.tokens.astype("<u4").tobytes()
            yield sampler_pb2.StreamResponse(
                position=batch.position,
                tokens=tokens[: len(tokens) - self.cut_bytes],
                num_sequences=len(batch.tokens),
                num_positions=batch.num_positions,
            )


@pytest.fixture
def sampler():
    return Sampler()


@pytest.fixture
def address(sampler):
    register = partial(sampler_pb2_grpc.add_SamplerServiceServicer_to_server, sampler)
    server = rpc.server(
        service="sampler",
        registrations=[register],
        service_names=["athanor.sampler.v1.SamplerService"],
    )
    server.start()
    yield server.address
    server.drain(1.0)


@pytest.fixture(params=["grpc", "array"])
def batches(request, address):
    return GrpcBatches(address) if request.param == "grpc" else ArrayBatches({"plan": TOKENS})


def read(batches, from_position=0, batch_size=3):
    return list(
        batches.batches(
            "plan", sequence_length=4, batch_size=batch_size, from_position=from_position
        )
    )


def rows(some):
    return np.concatenate([batch.tokens for batch in some])


def test_a_stream_has_every_whole_sequence_once_and_in_order(batches):
    some = read(batches)
    assert [batch.position for batch in some] == [0, 3, 6, 9]
    assert {batch.num_positions for batch in some} == {10}
    assert np.array_equal(rows(some), TOKENS[:40].reshape(10, 4))


def test_a_stream_from_a_position_is_the_rest_of_the_whole_one(batches):
    assert np.array_equal(rows(read(batches, from_position=6)), rows(read(batches))[6:])


def test_a_stream_from_its_end_is_empty(batches):
    assert read(batches, from_position=10) == []


def test_an_unknown_plan_is_not_found(batches):
    with pytest.raises(NotFound):
        next(batches.batches("other", sequence_length=4, batch_size=3, from_position=0))


def test_a_broken_stream_goes_on_where_it_broke(sampler, address):
    sampler.breaks = [(2, Unavailable("restarting")), (1, Unavailable("restarting"))]
    assert np.array_equal(rows(read(GrpcBatches(address))), TOKENS[:40].reshape(10, 4))
    assert sampler.asked_from == [0, 6, 9]


def test_a_stream_that_ends_early_as_if_it_were_whole_goes_on(sampler, address):
    sampler.breaks = [(2, None)]
    assert np.array_equal(rows(read(GrpcBatches(address))), TOKENS[:40].reshape(10, 4))
    assert sampler.asked_from == [0, 6]


def test_a_stream_that_ends_without_a_batch_is_unavailable(sampler, address):
    sampler.breaks = [(2, None), (0, None)]
    with pytest.raises(Unavailable, match="ended at 6 of 10"):
        read(GrpcBatches(address))


def test_a_sampler_that_is_down_is_an_error_in_the_time_given():
    with pytest.raises((Unavailable, DeadlineExceeded)):
        read(GrpcBatches("127.0.0.1:1", stall_s=0.3))


def test_a_batch_of_too_few_bytes_is_corrupt(sampler, address):
    sampler.cut_bytes = 4
    with pytest.raises(Corrupt, match="48 bytes, got 44"):
        read(GrpcBatches(address))
