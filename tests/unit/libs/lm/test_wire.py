import numpy as np
import pytest
from athanor.lm.v1 import lm_pb2

from libs.errors import Corrupt, InvalidInput
from libs.lm import wire
from libs.lm.prompts import Finish, Generated, Prompt, Sampling


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 3), (2, 0, 4)])
def test_an_array_comes_back_as_float32(shape):
    array = np.arange(np.prod(shape), dtype=np.float64).reshape(shape) / 3
    back = wire.from_tensor(wire.to_tensor(array))
    assert (back.dtype, back.shape) == (np.float32, shape)
    assert np.array_equal(back, array.astype(np.float32))


def test_the_bytes_are_little_endian_and_rows_lie_side_by_side():
    tensor = wire.to_tensor(np.array([[1.0, 2.0], [3.0, 4.0]]).T)
    assert tensor.values == b"".join(np.float32(each).tobytes() for each in (1, 3, 2, 4))
    assert list(tensor.shape) == [2, 2]


def test_a_tensor_with_other_bytes_than_its_shape_says_is_refused():
    with pytest.raises(InvalidInput, match=r"\(2, 2\) takes 16 bytes, got 4"):
        wire.from_tensor(lm_pb2.Tensor(shape=[2, 2], values=b"\0" * 4))


@pytest.mark.parametrize(("size_bytes", "number"), [(1, 5), (24, 3), (10_000, 1)])
def test_parts_join_to_the_whole_and_hold_one_token_at_least(monkeypatch, size_bytes, number):
    monkeypatch.setattr(wire, "_PART_BYTES", size_bytes)
    states = np.arange(15.0).reshape(5, 3)
    parts = list(wire.parts(states))
    assert len(parts) == number
    assert np.array_equal(np.concatenate(parts), states)


def test_a_prompt_comes_back():
    for prompt in (Prompt(text="the", seed=2**63), Prompt(token_ids=(1, 2))):
        back = wire.from_prompt(wire.to_prompt(prompt))
        assert vars(back) == vars(prompt)
    soft = wire.from_prompt(wire.to_prompt(Prompt(embeddings=[[1.0, 2.0]])))
    assert soft.embeddings.tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize("prompt", [Prompt(seed=-1), Prompt(token_ids=(-1,))])
def test_a_prompt_that_the_wire_cannot_say_is_invalid(prompt):
    with pytest.raises(InvalidInput, match="0 or more"):
        wire.to_prompt(prompt)


def test_a_sampling_comes_back():
    for sampling in (
        Sampling(),
        Sampling(max_new_tokens=3, temperature=0.7, top_k=5, top_p=0.9, stop=("a", "b")),
    ):
        assert wire.from_sampling(wire.to_sampling(sampling)) == sampling


@pytest.mark.parametrize("finish", [None, *Finish])
def test_a_piece_comes_back_in_its_place(finish):
    piece = Generated(
        index=2, token_ids=(7,), text="é", log_probs=(-0.1,), finish=finish, num_prompt_tokens=3
    )
    assert wire.from_piece(wire.to_piece(piece)) == piece
    assert wire.from_piece(wire.to_piece(piece), first=32).index == 34


def test_a_piece_without_a_log_probability_for_each_token_is_corrupt():
    with pytest.raises(Corrupt, match="log-probability"):
        wire.from_piece(lm_pb2.GeneratedPiece(token_ids=[1, 2], log_probs=[-1.0]))
