"""What the port asks and gets, as the named tensors of `calls`."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from libs.errors import Corrupt, InvalidInput
from libs.lm.port import BATCH_SIZE, OptionScore, Question
from libs.lm.prompts import Finish, Generated, Prompt, Sampling
from libs.lm.triton.replica import Tensors


def to_score(questions: Sequence[Question], prompt: Any) -> Tensors:
    """Spell questions, after one prompt's embeddings or None."""
    return _call("score", [question.stem for question in questions]) | {
        "options": [option for question in questions for option in question.options],
        "num_options": _ints(len(question.options) for question in questions),
        **_arrays([] if prompt is None else [prompt]),
    }


def from_score(answer: Tensors, questions: Sequence[Question]) -> list[list[OptionScore]]:
    """Return the scores of each question. Raises `Corrupt` if they are not of these questions."""
    values, cuts = answer.get("log_likelihoods", ()), answer.get("num_stem_tokens_cut", ())
    expected = sum(len(question.options) for question in questions)
    if len(values) != expected or len(cuts) != len(questions):
        raise Corrupt(f"expected the scores of {expected} options, got {len(values)}")
    scores = zip(values.tolist(), answer["num_tokens"].tolist(), strict=True)
    return [
        [OptionScore(*next(scores), cut) for _ in question.options]
        for question, cut in zip(questions, cuts.tolist(), strict=True)
    ]


def to_generate(prompts: Sequence[Prompt], sampling: Sampling) -> Tensors:
    """Spell prompts and how to go on. Raises `InvalidInput` for a number out of its range."""
    soft = [prompt.embeddings for prompt in prompts if prompt.embeddings is not None]
    try:
        return _call("generate", [prompt.text for prompt in prompts]) | {
            "token_ids": _ints(token for prompt in prompts for token in prompt.token_ids),
            "num_token_ids": _ints(len(prompt.token_ids) for prompt in prompts),
            "seeds": np.array([prompt.seed for prompt in prompts], dtype=np.int64),
            "has_values": _ints(prompt.embeddings is not None for prompt in prompts),
            **_arrays(soft),
            "max_new_tokens": _ints([sampling.max_new_tokens]),
            "temperature": np.array([sampling.temperature]),
            "top_k": _ints([sampling.top_k]),
            "top_p": np.array([sampling.top_p]),
            "stop": list(sampling.stop),
        }
    except OverflowError as error:
        raise InvalidInput(f"expected numbers of 32 bits, and seeds of 63, got: {error}") from error


def from_generate(answer: Tensors, *, first: int) -> list[Generated]:
    """Return pieces, of prompts that come `first` prompts later than in their call."""
    tokens, log_probs = iter(answer.get("token_ids", ())), iter(answer.get("log_probs", ()))
    names = ("index", "num_tokens", "texts", "finish", "num_prompt_tokens")
    return [
        Generated(
            index=first + int(index),
            token_ids=tuple(int(next(tokens)) for _ in range(count)),
            text=text,
            log_probs=tuple(float(next(log_probs)) for _ in range(count)),
            finish=Finish(finish) if finish else None,
            num_prompt_tokens=int(read),
        )
        for index, count, text, finish, read in zip(*(answer[name] for name in names), strict=True)
    ]


def to_embed(texts: Sequence[str], *, normalize: bool) -> Tensors:
    """Spell texts to embed."""
    return _call("embed", texts) | {"normalize": _ints([normalize])}


def to_hidden_states(texts: Sequence[str], layers: Sequence[int], *, last_only: bool) -> Tensors:
    """Spell texts and the layers to show."""
    wanted = {"layers": _ints(layers), "last_only": _ints([last_only])}
    return _call("hidden_states", texts) | wanted


def from_values(answer: Tensors) -> Any:
    """Return the array of an answer. Raises `Corrupt` if it is not of the shape it says."""
    values, shape = answer.get("values", np.empty(0)), tuple(answer.get("shape", ()))
    if values.size != np.prod(shape):
        raise Corrupt(f"expected an array of shape {shape}, got {values.size} values")
    return values.reshape(shape)


def _call(name: str, texts: Sequence[str]) -> dict[str, Any]:
    return {"call": [name], "texts": list(texts), "batch_size": _ints([BATCH_SIZE])}


def _arrays(arrays: Sequence[Any]) -> Tensors:
    """Spell arrays one behind the other. Raises `InvalidInput` unless each has two dimensions."""
    found = [np.asarray(array, dtype=np.float32) for array in arrays]
    for array in found:
        if array.ndim != 2:
            raise InvalidInput(f"prompt embeddings must have two dimensions, got {array.shape}")
    flat = [array.reshape(-1) for array in found] or [np.empty(0, dtype=np.float32)]
    return {
        "values": np.concatenate(flat),
        "shape": _ints(size for array in found for size in array.shape),
    }


def _ints(values: Iterable[Any]) -> Any:
    return np.array(list(values), dtype=np.int32)
