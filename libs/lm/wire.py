"""Arrays and generated pieces as messages of `athanor.lm.v1`, and back."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from athanor.lm.v1 import lm_pb2

from libs.errors import Corrupt, InvalidInput
from libs.lm.prompts import Finish, Generated, Prompt, Sampling

_PART_BYTES = 4 * 2**20
"""Of an array in one message, a quarter of what a message may have."""
_FINISH = {
    None: lm_pb2.FINISH_UNSPECIFIED,
    Finish.STOP: lm_pb2.FINISH_STOP,
    Finish.LENGTH: lm_pb2.FINISH_LENGTH,
    Finish.CANCELLED: lm_pb2.FINISH_CANCELLED,
}
_FINISH_BACK = {number: finish for finish, number in _FINISH.items()}


def to_tensor(array: Any) -> lm_pb2.Tensor:
    """Spell an array of any numbers as float32."""
    values = np.ascontiguousarray(array, dtype="<f4")
    return lm_pb2.Tensor(shape=values.shape, values=values.tobytes())


def from_tensor(tensor: lm_pb2.Tensor) -> Any:
    """Return the array. Raises `InvalidInput` if it has not as many values as its shape says."""
    shape = tuple(tensor.shape)
    if 4 * math.prod(shape) != len(tensor.values):
        raise InvalidInput(
            f"a tensor of shape {shape} takes {4 * math.prod(shape)} bytes, "
            f"got {len(tensor.values)}"
        )
    return np.frombuffer(tensor.values, dtype="<f4").reshape(shape)


def parts(states_TD: Any) -> Iterator[Any]:  # noqa: N803 - the shape
    """Cut an array along its first dimension into what fits a message."""
    size = max(1, _PART_BYTES // max(1, 4 * states_TD.shape[1]))
    for first in range(0, len(states_TD), size):
        yield states_TD[first : first + size]


def to_prompt(prompt: Prompt) -> lm_pb2.Prompt:
    """Spell a prompt. Raises `InvalidInput` for a number out of its field's range."""
    soft = None if prompt.embeddings is None else to_tensor(prompt.embeddings)
    try:
        return lm_pb2.Prompt(
            text=prompt.text, token_ids=prompt.token_ids, embeddings=soft, seed=prompt.seed
        )
    except ValueError as error:
        raise InvalidInput(f"token ids and seed must be 0 or more, got: {error}") from error


def from_prompt(prompt: lm_pb2.Prompt) -> Prompt:
    """Return the prompt."""
    return Prompt(
        text=prompt.text,
        token_ids=tuple(prompt.token_ids),
        embeddings=from_tensor(prompt.embeddings) if prompt.HasField("embeddings") else None,
        seed=prompt.seed,
    )


def to_sampling(sampling: Sampling) -> lm_pb2.Sampling:
    """Spell a sampling. Raises `InvalidInput` for a number that its field cannot say."""
    if sampling.top_p == 0:
        raise InvalidInput("top_p must lie in (0, 1], got 0")
    try:
        return lm_pb2.Sampling(
            max_new_tokens=sampling.max_new_tokens,
            temperature=sampling.temperature,
            top_k=sampling.top_k,
            top_p=sampling.top_p,
            stop=sampling.stop,
        )
    except ValueError as error:
        raise InvalidInput(f"max_new_tokens and top_k must be 0 or more, got: {error}") from error


def from_sampling(sampling: lm_pb2.Sampling) -> Sampling:
    """Return the sampling."""
    return Sampling(
        max_new_tokens=sampling.max_new_tokens,
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p or 1.0,
        stop=tuple(sampling.stop),
    )


def to_piece(piece: Generated) -> lm_pb2.GeneratedPiece:
    """Spell a piece."""
    return lm_pb2.GeneratedPiece(
        index=piece.index,
        token_ids=piece.token_ids,
        text=piece.text,
        log_probs=piece.log_probs,
        finish=_FINISH[piece.finish],
        num_prompt_tokens=piece.num_prompt_tokens,
    )


def from_piece(piece: lm_pb2.GeneratedPiece, *, first: int = 0) -> Generated:
    """Return the piece, of the prompt that comes `first` prompts later than in its call."""
    if piece.finish not in _FINISH_BACK or len(piece.token_ids) != len(piece.log_probs):
        raise Corrupt(f"expected a log-probability for each token and a known finish, got {piece}")
    return Generated(
        index=first + piece.index,
        token_ids=tuple(piece.token_ids),
        text=piece.text,
        log_probs=tuple(piece.log_probs),
        finish=_FINISH_BACK[piece.finish],
        num_prompt_tokens=piece.num_prompt_tokens,
    )
