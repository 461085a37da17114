"""Client and servicer over a real channel, around a host that answers as told."""

import threading
from functools import partial

import numpy as np
import pytest
from athanor.lm.v1 import lm_pb2_grpc

from libs import rpc
from libs.errors import Corrupt, DeadlineExceeded
from libs.lm import wire
from libs.lm.client import GrpcLm
from libs.lm.prompts import Finish, Generated, Prompt, Sampling, joined
from libs.lm.servicer import LmServicer

DIGEST = "d" * 64
SAMPLING = Sampling(max_new_tokens=5)


class ToldHost:
    """Answers with what a test gives it."""

    def __init__(self, *, pieces=(), states=(), is_slow=False):
        self.pieces, self.states, self.is_slow = pieces, states, is_slow
        self.left = threading.Event()
        """Set once a generation has ended."""

    def generate(self, _digest, _prompts, _sampling, call):
        try:
            yield from ([piece] for piece in self.pieces)
            # As a token that takes long: only the caller's leaving ends it.
            while self.is_slow and call.is_wanted():
                self.left.wait(0.01)
        finally:
            self.left.set()

    def hidden_states(self, _digest, _texts, _call, *, layers, last_only):
        yield [state[list(layers)] for state in self.states]

    def embed(self, _digest, _texts, _call, *, normalize):
        return [state[-1].mean(0) for state in self.states]


def piece(index, token, finish=None):
    return Generated(
        index=index,
        token_ids=(token,),
        text="",
        log_probs=(0.0,),
        finish=finish,
        num_prompt_tokens=1,
    )


@pytest.fixture
def asking():
    """Return `ask(host, timeout_s=...)`: a client of a server around it."""
    servers, clients = [], []

    def ask(host, *, timeout_s=20.0):
        register = partial(lm_pb2_grpc.add_LmServiceServicer_to_server, LmServicer(host))
        servers.append(rpc.server(service="lm", registrations=[register], service_names=[]))
        servers[-1].start()
        clients.append(GrpcLm(servers[-1].address, timeout_s=timeout_s))
        return clients[-1]

    yield ask
    for client in clients:
        client.close()
    for server in servers:
        server.drain(0.0)


def test_a_caller_that_leaves_ends_the_generation(asking):
    host = ToldHost(pieces=[piece(0, 0)], is_slow=True)
    stream = asking(host).generate(DIGEST, [Prompt(text="the")], SAMPLING)
    assert next(stream).token_ids == (0,)
    stream.close()
    assert host.left.wait(10)


def test_a_generation_that_outlives_its_deadline_ends_on_both_sides(asking):
    host = ToldHost(pieces=[piece(0, 0)], is_slow=True)
    with pytest.raises(DeadlineExceeded, match="Generate"):
        list(asking(host, timeout_s=0.3).generate(DIGEST, [Prompt(text="the")], SAMPLING))
    assert host.left.wait(10)


def test_prompts_of_a_later_piece_keep_their_places(asking):
    host = ToldHost(pieces=[piece(place, 7, Finish.STOP) for place in range(32)])
    made = joined(asking(host).generate(DIGEST, [Prompt(text="the")] * 64, SAMPLING))
    assert [each.index for each in made] == list(range(64))


def test_a_stream_that_ends_before_its_prompts_is_corrupt(asking):
    host = ToldHost(pieces=[piece(0, 1, Finish.STOP), piece(1, 1)])
    with pytest.raises(Corrupt, match="expected 2 prompts to end, 1 did not"):
        list(asking(host).generate(DIGEST, [Prompt(text="the")] * 2, SAMPLING))


def test_states_larger_than_a_message_come_in_parts(asking, monkeypatch):
    monkeypatch.setattr(wire, "_PART_BYTES", 40)
    states = [np.arange(3.0 * size * 4).reshape(3, size, 4) for size in (5, 1)]
    found = asking(ToldHost(states=states)).hidden_states(DIGEST, ["a", "b"], layers=[2, 0])
    for array, state in zip(found, states, strict=True):
        assert np.array_equal(array, state[[2, 0]])


@pytest.mark.parametrize("texts", [["a"], ["a", "b", "c"]])
def test_answers_to_another_number_of_texts_are_corrupt(asking, texts):
    lm = asking(ToldHost(states=[np.zeros((2, 3, 4))] * 2))
    with pytest.raises(Corrupt, match=f"expected {len(texts)} embeddings, got 2"):
        lm.embed(DIGEST, texts)
    with pytest.raises(Corrupt, match="layers"):
        lm.hidden_states(DIGEST, texts, layers=[0])
