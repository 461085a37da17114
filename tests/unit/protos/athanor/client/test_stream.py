"""The dataset against a sampler in this process, without and with workers."""

from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from athanor.sampler.v1 import sampler_pb2, sampler_pb2_grpc

torch = pytest.importorskip("torch", reason="needs torch: make setup installs it")

from athanor.client import stream  # noqa: E402
from athanor.client.stream import StreamDataset  # noqa: E402

LENGTH, NUM_POSITIONS = 3, 11


class Sampler(sampler_pb2_grpc.SamplerServiceServicer):
    def Stream(self, request, context):
        stride = request.batch_size * request.every
        for position in range(request.from_position, NUM_POSITIONS, stride):
            rows = range(position, min(position + request.batch_size, NUM_POSITIONS))
            yield sampler_pb2.StreamResponse(
                position=position,
                tokens=np.repeat(np.array(rows, dtype="<u4"), LENGTH).tobytes(),
                num_sequences=len(rows),
                num_positions=NUM_POSITIONS,
            )


@pytest.fixture
def address():
    server = grpc.server(ThreadPoolExecutor(4))
    sampler_pb2_grpc.add_SamplerServiceServicer_to_server(Sampler(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def test_batches_are_int64_tensors_with_their_position(address):
    batches = list(StreamDataset(address, "p", LENGTH, 4, from_position=1))
    assert [batch["position"] for batch in batches] == [1, 5, 9]
    assert [tuple(batch["input_ids"].shape) for batch in batches] == [(4, 3), (4, 3), (2, 3)]
    assert batches[0]["input_ids"].dtype == torch.int64
    assert batches[1]["input_ids"][:, 0].tolist() == [5, 6, 7, 8]


@pytest.mark.parametrize("num_workers", [1, 2, 3, 5])
def test_workers_share_the_stream_and_taken_in_turn_keep_its_order(
    address, monkeypatch, num_workers
):
    dataset = StreamDataset(address, "p", LENGTH, 2)
    whole = [batch["position"] for batch in dataset]

    class Worker:
        def __init__(self, number):
            self.id, self.num_workers = number, num_workers

    shares = []
    for number in range(num_workers):
        monkeypatch.setattr(stream, "get_worker_info", lambda number=number: Worker(number))
        shares.append([batch["position"] for batch in dataset])
    in_turn = [share[turn] for turn in range(len(whole)) for share in shares if turn < len(share)]
    assert in_turn == whole == [0, 2, 4, 6, 8, 10]


def test_the_loader_sees_the_dataset_as_it_is(address):
    loader = torch.utils.data.DataLoader(StreamDataset(address, "p", LENGTH, 4), batch_size=None)
    assert [batch["position"] for batch in loader] == [0, 4, 8]
