"""What a model is asked to go on from and how, and what it says: the words of generation.

Standard library only, so that the port, its callers and a foreign server's copy of the arithmetic
share them, and nobody loads torch for them.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any


class UnusableError(ValueError):
    """Input that no batch could hold; the message says what was expected and what came."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Prompt:
    """What stands before the tokens to be made: `embeddings`, then `token_ids` or else `text`."""

    text: str = ""
    """Gets the special tokens that the tokenizer puts before a text."""
    token_ids: tuple[int, ...] = ()
    """Taken as they are, instead of `text`."""
    embeddings: Any = None
    """float32 (P, D) with D the model's width, before everything else; None: none.
    As in Sun et al. 2022, Black-Box Tuning (arXiv:2201.03514)."""
    seed: int = 0
    """Of this prompt's own random numbers: what else is in the batch draws from others."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are chosen, and when to stop. The filters come in the order of the fields."""

    max_new_tokens: int = 64
    """Fewer are made when the model's context is full before."""
    temperature: float = 0.0
    """Divides the logits; 0 is greedy: the likeliest token, the first of equals."""
    top_k: int = 0
    """Only the k likeliest tokens; 0: all."""
    top_p: float = 1.0
    """Only the fewest likeliest tokens that hold this share of what is left."""
    stop: tuple[str, ...] = ()
    """Texts that end it, wherever they lie across tokens; they are not part of the text."""


class Finish(StrEnum):
    """Why no more tokens come."""

    STOP = "stop"
    """The end-of-text token, or one of `Sampling.stop`."""
    LENGTH = "length"
    """`max_new_tokens`, or the context is full."""
    CANCELLED = "cancelled"
    """Nobody waits for them any more."""


@dataclass(frozen=True, kw_only=True)
class Generated:
    """What came anew for one prompt: tokens, and the text that no later token can change.

    Tokens and text need not match piece by piece: text is held back while it ends within a
    character or may be the beginning of a stop. They match over all pieces of a prompt.
    """

    index: int
    """Place of the prompt among those of the call."""
    token_ids: tuple[int, ...]
    """The end-of-text token and those of a stop included."""
    text: str
    """Without special tokens, and without the stop and what came with it."""
    log_probs: tuple[float, ...]
    """One a token: natural logarithm, under the model as it is, before temperature and filters."""
    finish: Finish | None = None
    """Set on the last piece of a prompt."""
    num_prompt_tokens: int
    """Prompt embeddings included."""


def joined(pieces: Iterable[Generated]) -> list[Generated]:
    """Return one `Generated` for each prompt, by index."""
    whole: dict[int, Generated] = {}
    for piece in pieces:
        before = whole.get(piece.index)
        whole[piece.index] = _added(before, piece) if before else piece
    return [whole[index] for index in sorted(whole)]


def _added(before: Generated, piece: Generated) -> Generated:
    return replace(
        piece,
        token_ids=before.token_ids + piece.token_ids,
        text=before.text + piece.text,
        log_probs=before.log_probs + piece.log_probs,
    )
