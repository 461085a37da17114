"""What every host must do that writes, embeds, and shows what it computes inside.

Values are compared with the plain transformers model of the same folder.
"""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from libs.errors import Corrupt, InvalidInput, NotFound
from libs.lm.folder import load_model, load_tokenizer
from libs.lm.port import BATCH_SIZE, Question
from libs.lm.prompts import Finish, Prompt, Sampling, joined
from tests import hosts

TEXTS = ["the quick brown fox", "seven", "", "a lazy dog while wizards box a judge"]
LONG = "the quick brown fox " * 20
GREEDY = Sampling(max_new_tokens=9)
SAMPLED = Sampling(max_new_tokens=9, temperature=0.9, top_k=80, top_p=0.97)
TOLERANCE = 1e-4


@pytest.fixture(scope="module", params=hosts.ADAPTERS)
def world(request, tmp_path_factory, make_checkpoint):
    home = tmp_path_factory.mktemp("home")
    with hosts.opened(request.param, request, home, make_checkpoint) as world:
        yield world


@pytest.fixture
def lm(world):
    return world.lm


@pytest.fixture
def digest(world):
    return next(iter(world.folders))


@pytest.fixture
def plain(world, digest):
    """Return the model and the tokenizer that the host must compute as."""
    return load_model(world.folders[digest]), load_tokenizer(world.folders[digest])


def prompts(*texts):
    return [Prompt(text=text, seed=seed) for seed, text in enumerate(texts)]


def rows(plain, text):
    """Return the embeddings of a text's tokens, float32 (P, D)."""
    model, tokenizer = plain
    return model.get_input_embeddings().weight.detach().numpy()[tokenizer(text)["input_ids"]]


def states(plain, text):
    """Return every state of a text, (L, T, D)."""
    model, tokenizer = plain
    ids = torch.tensor([tokenizer(text)["input_ids"] or [0]])
    with torch.no_grad():
        found = model(ids, output_hidden_states=True).hidden_states
    return torch.stack(found)[:, 0].numpy()


def test_greedy_tokens_are_those_of_transformers(lm, digest, plain):
    model, tokenizer = plain
    made = joined(lm.generate(digest, prompts(*TEXTS), GREEDY))
    for text, each in zip(TEXTS, made, strict=True):
        ids = torch.tensor([tokenizer(text)["input_ids"] or [0]])
        theirs = model.generate(ids, do_sample=False, max_new_tokens=9, pad_token_id=0)
        assert list(each.token_ids) == theirs[0, ids.shape[1] :].tolist()
        assert each.text == tokenizer.decode(each.token_ids, skip_special_tokens=True)
        assert len(each.log_probs) == len(each.token_ids)
        assert each.num_prompt_tokens == ids.shape[1]


def test_the_same_seeds_give_the_same_bits(lm, digest):
    asked = prompts(*TEXTS)
    first, again = (joined(lm.generate(digest, asked, SAMPLED)) for _ in range(2))
    assert first == again
    others = [replace(prompt, seed=prompt.seed + 9) for prompt in asked]
    assert joined(lm.generate(digest, others, SAMPLED)) != first


def test_more_prompts_than_a_batch_keep_their_places(lm, digest):
    asked = prompts(*(TEXTS[place % 4] for place in range(BATCH_SIZE + 3)))
    made = joined(lm.generate(digest, asked, Sampling(max_new_tokens=3)))
    assert [each.index for each in made] == list(range(BATCH_SIZE + 3))
    assert [each.token_ids for each in made[BATCH_SIZE:]] == [each.token_ids for each in made[:3]]


def test_every_prompt_ends_once_and_on_its_last_piece(lm, digest):
    ended = set()
    for piece in lm.generate(digest, prompts(*TEXTS), SAMPLED):
        assert piece.index not in ended
        if piece.finish:
            ended.add(piece.index)
    assert ended == set(range(len(TEXTS)))


def test_a_stop_ends_the_text_before_it(lm, digest):
    whole = joined(lm.generate(digest, prompts("seven"), GREEDY))[0]
    stop = whole.text[2:5]
    cut = joined(lm.generate(digest, prompts("seven"), replace(GREEDY, stop=(stop,))))[0]
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert (cut.finish, whole.finish) == (Finish.STOP, Finish.LENGTH)


def test_token_ids_go_in_as_they_are(lm, digest, plain):
    ids = tuple(plain[1]("the quick")["input_ids"])
    by_ids = joined(lm.generate(digest, [Prompt(token_ids=ids)], GREEDY))
    assert by_ids == joined(lm.generate(digest, prompts("the quick"), GREEDY))


def test_a_prompt_of_a_texts_own_embeddings_is_that_text(lm, digest, plain):
    soft = Prompt(embeddings=rows(plain, "the quick"), text=" brown fox")
    made = joined(lm.generate(digest, [soft], GREEDY))[0]
    assert made.token_ids == joined(lm.generate(digest, prompts(TEXTS[0]), GREEDY))[0].token_ids


def test_scores_after_a_texts_own_embeddings_are_those_after_the_text(lm, digest, plain):
    asked = [Question(stem, (" jumps", " lazy dog")) for stem in (" brown fox", "")]
    whole = [question._replace(stem="the quick" + question.stem) for question in asked]
    soft = lm.log_likelihood(digest, asked, prompt=rows(plain, "the quick"))
    for scores, expected in zip(soft, lm.log_likelihood(digest, whole), strict=True):
        for score, other in zip(scores, expected, strict=True):
            assert score.log_likelihood == pytest.approx(other.log_likelihood, abs=TOLERANCE)
    assert soft != lm.log_likelihood(digest, asked)


def test_leaving_the_stream_lets_the_next_call_go_on(lm, digest):
    stream = lm.generate(digest, prompts(*TEXTS), Sampling(max_new_tokens=40))
    next(stream)
    stream.close()
    assert joined(lm.generate(digest, prompts("seven"), GREEDY))[0].finish


def test_a_long_generation_does_not_hold_up_scores(lm, digest):
    """Both end, and neither changes a bit of the other."""
    asked = [Question("the quick", (" brown", " fox"))] * 5
    alone = lm.log_likelihood(digest, asked), joined(lm.generate(digest, prompts(*TEXTS), SAMPLED))
    beside = []
    other = threading.Thread(
        target=lambda: beside.extend(joined(lm.generate(digest, prompts(*TEXTS), SAMPLED)))
    )
    other.start()
    scores = lm.log_likelihood(digest, asked)
    other.join(timeout=60)
    assert (scores, beside) == alone


def test_embeddings_are_means_of_the_last_layers_states(lm, digest, plain):
    found = lm.embed(digest, TEXTS)
    assert (found.dtype, found.shape) == (np.float32, (len(TEXTS), 16))
    for text, vector in zip(TEXTS, found, strict=True):
        assert vector == pytest.approx(states(plain, text)[-1].mean(0), abs=TOLERANCE)
    lengths = np.linalg.norm(lm.embed(digest, TEXTS, normalize=True), axis=1)
    assert lengths == pytest.approx(np.ones(len(TEXTS)), abs=1e-5)


def test_texts_keep_their_places_across_pieces(lm, digest):
    found = lm.embed(digest, TEXTS * 20)
    assert found[:4] == pytest.approx(found[-4:], abs=TOLERANCE)


def test_states_are_those_of_the_layers_asked_for(lm, digest, plain):
    for text, found in zip(TEXTS, lm.hidden_states(digest, TEXTS, layers=[2, -3]), strict=True):
        assert found.dtype == np.float32
        assert found == pytest.approx(states(plain, text)[[2, 0]], abs=TOLERANCE)
    last = lm.hidden_states(digest, TEXTS, layers=[-1], last_only=True)
    for text, found in zip(TEXTS, last, strict=True):
        assert found == pytest.approx(states(plain, text)[-1:, -1:], abs=TOLERANCE)


def test_nothing_asked_is_nothing_answered(lm, digest):
    assert list(lm.generate(digest, [], GREEDY)) == []
    assert len(lm.embed(digest, [])) == 0
    assert lm.hidden_states(digest, [], layers=[0]) == []


CALLS = {
    "generate": lambda lm, digest: list(lm.generate(digest, prompts("the"), GREEDY)),
    "embed": lambda lm, digest: lm.embed(digest, ["the"]),
    "hidden states": lambda lm, digest: lm.hidden_states(digest, ["the"], layers=[0]),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_only_the_weights_asked_for_answer(world, call):
    with pytest.raises(NotFound):
        call(world.lm, "0" * 64)
    with pytest.raises(Corrupt):
        call(world.lm, world.corrupt)
    with pytest.raises(InvalidInput, match="64 hexadecimal"):
        call(world.lm, "live")


@pytest.mark.parametrize(
    "call",
    [
        lambda lm, digest: list(lm.generate(digest, prompts("the", LONG), GREEDY)),
        lambda lm, digest: lm.embed(digest, ["the", LONG]),
        lambda lm, digest: lm.hidden_states(digest, [LONG], layers=[0]),
    ],
    ids=CALLS,
)
def test_a_text_beyond_the_context_is_refused_with_its_length(lm, digest, plain, call):
    number = len(plain[1](LONG)["input_ids"])
    with pytest.raises(InvalidInput, match=f"at most 48 tokens, got {number}"):
        call(lm, digest)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"temperature": -1.0}, "temperature"),
        ({"top_k": -1}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.5}, "top_p"),
        ({"stop": ("",)}, "stop"),
    ],
)
def test_a_sampling_that_cannot_be_is_refused(lm, digest, change, named):
    with pytest.raises(InvalidInput, match=named):
        list(lm.generate(digest, prompts("the"), replace(GREEDY, **change)))


@pytest.mark.parametrize("shape", [(2, 15), (16,), (0, 16), (49, 16)])
def test_prompt_embeddings_of_another_shape_are_refused(lm, digest, shape):
    soft = np.zeros(shape, dtype=np.float32)
    with pytest.raises(InvalidInput, match=r"prompt|at most 48 tokens"):
        list(lm.generate(digest, [Prompt(embeddings=soft)], GREEDY))
    with pytest.raises(InvalidInput, match=r"prompt|option"):
        lm.log_likelihood(digest, [Question("the", (" fox",))], prompt=soft)


def test_a_layer_that_is_not_there_is_refused(lm, digest):
    with pytest.raises(InvalidInput, match=r"layers must lie in \[-3, 3\), got \[7\]"):
        lm.hidden_states(digest, ["the"], layers=[7])
