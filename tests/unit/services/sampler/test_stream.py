import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.errors import Conflict, Corrupt, InvalidInput
from libs.formats import write_json
from services.sampler.stream import PackedStream, Window, open_stream
from services.sampler.tokens import Tokens, TokensInfo

EOS = 99


def tokens(*passages):
    info = TokensInfo(
        tokenizer_id="t", tokenizer_sha256="s", eos_token_id=EOS, vocabulary_size=100, num_tokens=0
    )
    return Tokens(
        tokens=np.array([token for passage in passages for token in passage], dtype="<u4"),
        offsets=np.cumsum([0, *map(len, passages)]),
        info=info,
    )


def stream(passages, draws, *, budget=None, replay=()):
    lengths = [len([*passages, *replay][draw]) + 1 for draw in draws]
    ends = np.cumsum(lengths)
    ends[-1] = budget or ends[-1]
    return PackedStream(
        draws=np.array(draws),
        ends=ends,
        target=tokens(*passages),
        replay=tokens(*replay) if replay else None,
    )


def window(**parameters):
    return Window(**{"sequence_length": 4, "batch_size": 2} | parameters)


def test_draws_follow_one_another_with_a_separator_after_each():
    packed = stream([[1, 2], [3], []], [1, 0, 2, 1], replay=[[7]])
    assert packed.read(0, packed.num_tokens).tolist() == [3, EOS, 1, 2, EOS, EOS, 3, EOS]


def test_replay_passages_come_from_the_replay_tokens():
    packed = stream([[1, 2]], [0, 2, 1], replay=[[7], [8]])
    assert packed.read(0, 7).tolist() == [1, 2, EOS, 8, EOS, 7, EOS]


def test_the_last_draw_is_cut_and_the_last_partial_sequence_dropped():
    packed = stream([[1, 2, 3, 4]], [0, 0], budget=7)
    assert packed.num_positions(3) == 2
    batches = list(packed.batches(window(sequence_length=3)))
    assert [batch.tokens.tolist() for batch in batches] == [[[1, 2, 3], [4, EOS, 1]]]


@given(
    st.lists(st.lists(st.integers(0, 98), max_size=6), min_size=1, max_size=5),
    st.lists(st.integers(0, 4), min_size=1, max_size=12),
    st.integers(1, 9),
)
def test_resuming_at_every_position_equals_never_having_stopped(passages, draws, length):
    packed = stream(passages, [draw % len(passages) for draw in draws])
    naive = [token for draw in packed.draws for token in [*passages[draw], EOS]]
    whole = [naive[i : i + length] for i in range(0, len(naive) - length + 1, length)]
    for position in range(packed.num_positions(length) + 1):
        cut = window(sequence_length=length, batch_size=3, from_position=position)
        batches = list(packed.batches(cut))
        resumed = [row for batch in batches for row in batch.tokens.tolist()]
        assert resumed == whole[position:]
        assert [batch.position for batch in batches] == list(range(position, len(whole), 3))


def test_shares_of_several_readers_are_the_whole_stream():
    packed = stream([list(range(50))], [0] * 3)
    whole = {b.position: b.tokens.tolist() for b in packed.batches(window(sequence_length=3))}
    shares = {
        batch.position: batch.tokens.tolist()
        for reader in range(3)
        for batch in packed.batches(window(sequence_length=3, from_position=2 * reader, every=3))
    }
    assert shares == whole


def test_a_share_that_begins_beyond_the_end_is_empty():
    packed = stream([[1, 2, 3]], [0])
    assert list(packed.batches(window(from_position=2, every=2))) == []


def test_a_position_far_beyond_the_end_is_refused():
    packed = stream([[1, 2, 3]], [0])
    with pytest.raises(InvalidInput, match=r"from_position must lie in \[0, 1\], got 3"):
        list(packed.batches(window(from_position=3)))


@pytest.mark.parametrize("zero", ["sequence_length", "batch_size", "every"])
def test_zero_lengths_are_refused(zero):
    with pytest.raises(InvalidInput, match="at least 1"):
        window(**{zero: 0})


def test_a_batch_that_fits_no_message_is_refused():
    with pytest.raises(InvalidInput, match=r"8,388,608 bytes.* have 16,777,216"):
        window(sequence_length=4096, batch_size=1024)


@pytest.fixture
def plan(world):
    root = world.root / "plan"
    root.mkdir()
    write_json(root / "plan.json", {"starved": ""})
    np.save(root / "draws.npy", np.array([0, 1]))
    np.save(root / "ends.npy", np.array([3, 5]))
    return world.folder(root)


def test_a_plan_is_opened_over_its_tokens(plan):
    packed = open_stream(plan, tokens([1, 2], [3]), None)
    assert packed.read(1, 5).tolist() == [2, EOS, 3, EOS]


def test_a_plan_that_draws_what_is_not_there_is_corrupt(plan):
    with pytest.raises(Corrupt, match="does not fit 1 passages"):
        open_stream(plan, tokens([1, 2]), None)


def test_a_starved_plan_cannot_be_streamed(plan):
    write_json(plan.root / "plan.json", {"starved": "Not enough text."})
    with pytest.raises(Conflict, match="starved: Not enough text"):
        open_stream(plan, tokens([1, 2], [3]), None)
