import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain

import pytest
import torch

from libs.artifacts import Artifacts
from libs.blobs.folder import FolderBlobs
from libs.errors import Corrupt, DeadlineExceeded, InvalidInput, NotFound
from libs.lm import metrics, weights
from libs.lm.digest import folder_digest, weights_digest
from libs.lm.host import Call, Host
from libs.lm.port import Question
from libs.lm.prompts import Finish, Prompt, Sampling, joined
from libs.manifest import Request

ASKED = [Question(f"the quick {animal}", (" jumps", " box a judge")) for animal in ("fox", "dog")]
PROMPTS = [Prompt(text="the quick"), Prompt(text="seven wizards box")]
GREEDY = Sampling(max_new_tokens=6)


class Store:
    """Checkpoints in an object store."""

    def __init__(self, root, make_checkpoint):
        self.root, self.make = root, make_checkpoint
        self.blobs = FolderBlobs(root / "blobs")
        self.artifacts = Artifacts(self.blobs)

    def add(self, seed, *, digest=""):
        """Store a model and register it; return the digest it is registered under."""
        folder = self.make(self.root / f"model{seed}", seed=seed)
        request = Request(kind="checkpoint", inputs={}, parameters={"seed": seed}, recipe_version=1)
        artifact_id = self.artifacts.create(request, folder, run={})
        digest = digest or folder_digest(folder)
        weights.register(self.blobs, digest, artifact_id)
        return digest

    def host(self, **limits):
        return Host(self.blobs, self.artifacts, num_threads=1, **limits)


@pytest.fixture(scope="module")
def store(tmp_path_factory, make_checkpoint):
    return Store(tmp_path_factory.mktemp("store"), make_checkpoint)


@pytest.fixture
def host(store):
    host = store.host(max_models=2)
    yield host
    host.close()


def test_held_weights_have_the_digest_they_were_asked_for_by(store, host):
    digest = store.add(0)
    held = host.load(digest)
    assert weights_digest(held.model) == digest
    assert held.num_parameters == sum(each.numel() for each in held.model.parameters())


def test_other_weights_than_registered_are_corrupt_and_not_held(store, host):
    store.add(1, digest="d" * 64)
    with pytest.raises(Corrupt, match="d" * 64):
        host.log_likelihood("d" * 64, ASKED, Call())
    assert host.digests() == []


def test_unknown_weights_are_not_found(host):
    with pytest.raises(NotFound):
        host.load("e" * 64)


def test_the_model_used_longest_ago_leaves_first(store, host):
    first, second, third = (store.add(seed) for seed in (0, 2, 3))
    for digest in (first, second, first, third):
        host.load(digest)
    assert host.digests() == [third, first]


def test_callers_at_the_same_time_get_the_bits_of_callers_alone(store, host):
    digests = [store.add(seed) for seed in (0, 2, 3)]
    alone = [host.log_likelihood(digest, ASKED, Call()) for digest in digests]
    with ThreadPoolExecutor(6) as callers:
        together = list(
            callers.map(lambda each: host.log_likelihood(each, ASKED, Call()), digests * 4)
        )
    assert together == alone * 4


def test_a_question_without_options_is_invalid(store, host):
    with pytest.raises(InvalidInput, match="options"):
        host.log_likelihood(store.add(0), [Question("the", ())], Call())


def test_a_call_that_waits_too_long_for_its_turn_meets_its_deadline(store, host):
    digest = store.add(0)
    release = threading.Event()
    host._turns._thread.submit(release.wait)
    with pytest.raises(DeadlineExceeded, match=r"0\.1 s"):
        host.log_likelihood(digest, ASKED, Call(timeout_s=0.1))
    release.set()


def test_what_nobody_waits_for_is_not_computed(store, host):
    with pytest.raises(DeadlineExceeded, match="after 1 questions"):
        host.log_likelihood(store.add(0), ASKED, Call(batch_size=1, is_wanted=lambda: False))


def test_the_arithmetic_is_float32_on_threads_as_configured(store):
    host = store.host()
    held = host.load(store.add(0))
    assert held.model.dtype is torch.float32
    assert host._turns.run(torch.get_num_threads, "asking", 1.0) == 1
    host.close()


def tokens_counted(method):
    return metrics.TOKENS.labels(method)._value.get()


def test_every_token_that_was_computed_is_counted(store, host):
    digest = store.add(0)
    size = partial(number_of_tokens, host.load(digest).tokenizer)
    before = {method: tokens_counted(method) for method in ("ScoreOptions", "Generate", "Embed")}
    host.log_likelihood(digest, ASKED, Call())
    scored = sum(size(each.stem) + sum(map(size, each.options)) for each in ASKED)
    assert tokens_counted("ScoreOptions") - before["ScoreOptions"] == scored
    list(host.generate(digest, PROMPTS, Sampling(max_new_tokens=5), Call()))
    written = sum(size(each.text) for each in PROMPTS) + 5 * len(PROMPTS)
    assert tokens_counted("Generate") - before["Generate"] == written
    host.embed(digest, ["the quick", "fox"], Call())
    assert tokens_counted("Embed") - before["Embed"] == size("the quick") + size("fox")


def number_of_tokens(tokenizer, text):
    return len(tokenizer(text)["input_ids"])


def test_tokens_of_a_caller_that_left_are_counted_and_no_more_are_made(store, host):
    digest, answers = store.add(0), iter([True, True, False])
    size = number_of_tokens(host.load(digest).tokenizer, PROMPTS[0].text)
    before = tokens_counted("Generate")
    turns = host.generate(
        digest,
        PROMPTS[:1],
        Sampling(max_new_tokens=20),
        Call(is_wanted=lambda: next(answers)),
    )
    (made,) = joined(piece for pieces in turns for piece in pieces)
    assert (len(made.token_ids), made.finish) == (2, Finish.CANCELLED)
    assert tokens_counted("Generate") - before == size + 2


def test_a_model_that_leaves_during_a_generation_writes_on(store, monkeypatch):
    monkeypatch.setattr("libs.lm.turns.TURN_S", 0.0)
    host = store.host(max_models=1)
    first, second = store.add(0), store.add(2)
    alone = joined(chain.from_iterable(host.generate(first, PROMPTS, GREEDY, Call())))
    turns = host.generate(first, PROMPTS, GREEDY, Call())
    begun = next(turns)
    host.load(second)
    assert host.digests() == [second]
    assert joined([*begun, *chain.from_iterable(turns)]) == alone
    host.close()
