"""Publishing to real Tritons: corrupted on the way, under load, restarted, hung, behind.

The 200 publications of the promise: `python -m tests.drills.publications`.
"""

import os
import signal
import threading
import time

import pytest

from libs.errors import Corrupt, DeadlineExceeded, Forbidden
from libs.lm.port import Question
from libs.lm.prompts import Prompt, Sampling
from libs.lm.triton.replica import Absent, Replica
from libs.lm.triton.repository import LIVE, model_name
from tests.drills.publications import drill
from tests.own_tritons import NAMES, own_tritons

QUESTIONS = [Question("the quick", (" fox", " lazy dog"))]
NUM_PUBLICATIONS = int(os.environ.get("ATHANOR_PUBLICATIONS") or 2)
LOOK_S = 30.0


@pytest.fixture(scope="module")
def tritons(tmp_path_factory):
    with own_tritons(tmp_path_factory.mktemp("tritons")) as tritons:
        yield tritons


@pytest.fixture(scope="module")
def folders(tmp_path_factory, make_checkpoint):
    home = tmp_path_factory.mktemp("checkpoints")
    return [make_checkpoint(home / f"model{seed}", seed=seed) for seed in (1, 2)]


@pytest.fixture(scope="module")
def digests(tritons, folders):
    return [tritons.register(folder) for folder in folders]


@pytest.fixture
def publisher(tritons):
    with tritons.publisher() as publisher:
        yield publisher


def answering(publisher):
    """Return the digest that each replica answers as `live` with."""
    return [each.weights_digest(LIVE, timeout_s=LOOK_S) for each in publisher.replicas]


class Corrupting:
    """A store that flips the last bit of one tensor of each model it is given."""

    def __init__(self, store, folder):
        self._store, self._folder = store, folder

    def __getattr__(self, name):
        return getattr(self._store, name)

    def create(self, name, content):
        if name.endswith("model.safetensors"):
            data = bytearray(content.read_bytes())
            data[-1] ^= 1
            content = self._folder / "corrupted"
            content.write_bytes(data)
        return self._store.create(name, content)


def test_a_tensor_corrupted_on_the_way_never_serves(tritons, digests, publisher, tmp_path):
    first, second = digests
    publisher.converge(lambda: first)
    store = Corrupting(tritons.models(), tmp_path)
    with (
        tritons.publisher(models=store) as corrupting,
        pytest.raises(Corrupt, match=f"expected weights {second}, the stored ones are [0-9a-f]"),
    ):
        corrupting.converge(lambda: second)
    assert answering(publisher) == [first, first]
    publisher.converge(lambda: second)
    assert answering(publisher) == [second, second]


def test_publishing_under_load_fails_no_request_and_mixes_no_weights(tritons, folders):
    seen = drill(tritons, folders, count=NUM_PUBLICATIONS, clients=8)
    assert (seen.failed, seen.wrong) == ([], [])
    assert seen.num_publications == NUM_PUBLICATIONS
    assert len(seen.by_digest) == 2


def test_after_a_restart_the_next_call_loads_the_weights(tritons, digests):
    with tritons.lm() as lm:
        before = lm.log_likelihood(digests[0], QUESTIONS)
        for name in NAMES:
            tritons.restart(name)
        assert lm.log_likelihood(digests[0], QUESTIONS) == before


def test_a_restarted_replica_is_brought_back_to_live(tritons, digests, publisher):
    publisher.converge(lambda: digests[0])
    tritons.restart(NAMES[0])
    assert answering(publisher) == ["", digests[0]]
    publisher.converge(lambda: digests[0])
    assert answering(publisher) == [digests[0]] * 2


def test_a_replica_that_is_behind_is_never_used_and_catches_up(tritons, digests):
    name = model_name(digests[1])
    behind = Replica(tritons.addresses[1], key=tritons.key)
    with tritons.lm() as lm:
        lm.load(digests[1])
        behind.unload(name, timeout_s=LOOK_S)
        # Triton unloads once the calls under way have ended.
        assert any(not behind.weights_digest(name, timeout_s=LOOK_S) for _ in range(10_000))
        answers = [lm.log_likelihood(digests[1], QUESTIONS) for _ in range(4)]
        assert answers == answers[:1] * 4
        behind.load(name, timeout_s=120)  # waits for the load that it was told of
    assert behind.weights_digest(name, timeout_s=LOOK_S) == digests[1]
    behind.close()


def test_a_server_that_hung_loses_nobody_and_answers_again(tritons, digests, publisher):
    publisher.converge(lambda: digests[0])
    replica = publisher.replicas[0]
    tritons.send(NAMES[0], signal.SIGSTOP)
    try:
        for _ in range(8):
            with pytest.raises(DeadlineExceeded, match=f"Triton at {replica.address}"):
                replica.weights_digest(LIVE, timeout_s=0.2)
    finally:
        tritons.send(NAMES[0], signal.SIGCONT)
    assert replica.weights_digest(LIVE, timeout_s=LOOK_S) == digests[0]


def test_the_repository_is_closed_to_whoever_has_no_key(tritons, digests):
    stranger = Replica(tritons.addresses[0], key="guessed")
    started = time.monotonic()
    for call in (stranger.load, stranger.unload):
        with pytest.raises(Forbidden, match="restricted"):
            call(LIVE, timeout_s=LOOK_S)
    assert time.monotonic() - started < LOOK_S
    stranger.close()


def test_a_caller_that_leaves_stops_the_model_and_not_the_server(tritons, digests):
    endless = Sampling(max_new_tokens=40)
    with tritons.lm(tritons.addresses[:1]) as lm:
        lm.load(digests[0])
        leaving = [
            threading.Thread(
                target=lambda: lm.generate(digests[0], [Prompt(text="the")], endless).__next__()
            )
            for _ in range(50)
        ]
        for each in leaving:
            each.start()
        for each in leaving:
            each.join()
        assert lm.log_likelihood(digests[0], QUESTIONS)


def test_a_model_nobody_loaded_is_absent(tritons):
    replica = Replica(tritons.addresses[0])
    with pytest.raises(Absent):
        next(replica.infer("lm-000000000000", {"call": ["describe"]}, timeout_s=LOOK_S))
    replica.close()
