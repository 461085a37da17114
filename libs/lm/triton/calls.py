"""The calls of a model as named tensors: what Triton's python backend does with a request.

Tensors are flat; those that say how long the parts of another are come beside it. Runs in Triton's
process, from the copies beside `model`: numpy and `libs.lm.arithmetic` only. `wire` speaks the same
from the other side.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from libs.lm import generation, scoring, states
from libs.lm.prompts import Generated, Prompt, Sampling

Tensors = Mapping[str, Any]
"""Name to a one-dimensional array of numbers, or to a list of texts."""
_PART_VALUES = 2**20
"""Of float32 in one answer: 4 MiB, a quarter of what a message of gRPC may have."""


class Call(NamedTuple):
    """A call under way: computed item by item, so that others have their turns in between."""

    items: Iterator[Any]
    answers: Callable[[Sequence[Any]], Iterator[Tensors]]
    """What to answer for items."""
    is_streamed: bool
    """Answer for the items of each turn, or once for all."""


def begin(model: Any, tokenizer: Any, asked: Tensors, is_wanted: Callable[[], bool]) -> Call:
    """Begin the call that `asked` names; nothing is computed before its first item is asked for.

    Raises:
        KeyError, ValueError: there is no such call, or its tensors are not those that it takes.
    """
    return _CALLS[_one(asked, "call")](model, tokenizer, asked, is_wanted)


def _describe(model: Any, _tokenizer: Any, _asked: Tensors, _: Callable[[], bool]) -> Call:
    count = sum(each.numel() for each in model.parameters())
    answer = {"num_parameters": np.array([count], dtype=np.int64)}
    return Call(iter(()), lambda _: iter([answer]), is_streamed=False)


def _score(model: Any, tokenizer: Any, asked: Tensors, is_wanted: Callable[[], bool]) -> Call:
    options = _parts(asked.get("options", []), asked["num_options"])
    questions = list(zip(asked["texts"], options, strict=True))
    (prompt,) = _arrays(asked) or (None,)
    found = scoring.score(model, tokenizer, questions, _one(asked, "batch_size"), prompt)
    return Call(_wanted(found, is_wanted), _scores, is_streamed=False)


def _generate(model: Any, tokenizer: Any, asked: Tensors, is_wanted: Callable[[], bool]) -> Call:
    found = generation.generate(
        model,
        tokenizer,
        list(_prompts(asked)),
        Sampling(
            max_new_tokens=_one(asked, "max_new_tokens"),
            temperature=_one(asked, "temperature"),
            top_k=_one(asked, "top_k"),
            top_p=_one(asked, "top_p"),
            stop=tuple(asked.get("stop", ())),
        ),
        batch_size=_one(asked, "batch_size"),
        is_wanted=is_wanted,
    )
    return Call(found, _pieces, is_streamed=True)


def _embed(model: Any, tokenizer: Any, asked: Tensors, is_wanted: Callable[[], bool]) -> Call:
    found = states.embed(
        model,
        tokenizer,
        asked["texts"],
        batch_size=_one(asked, "batch_size"),
        normalize=bool(_one(asked, "normalize")),
    )
    return Call(_wanted(found, is_wanted), _embeddings, is_streamed=False)


def _hidden_states(
    model: Any, tokenizer: Any, asked: Tensors, is_wanted: Callable[[], bool]
) -> Call:
    found = states.hidden_states(
        model,
        tokenizer,
        asked["texts"],
        layers=[int(layer) for layer in asked.get("layers", ())],
        batch_size=_one(asked, "batch_size"),
        last_only=bool(_one(asked, "last_only")),
    )
    return Call(_wanted(found, is_wanted), _layers, is_streamed=True)


_CALLS: Mapping[str, Callable[[Any, Any, Tensors, Callable[[], bool]], Call]] = {
    "describe": _describe,
    "score": _score,
    "generate": _generate,
    "embed": _embed,
    "hidden_states": _hidden_states,
}


def _wanted(items: Iterator[Any], is_wanted: Callable[[], bool]) -> Iterator[Any]:
    """Yield items until the caller has left."""
    for item in items:
        yield item
        if not is_wanted():
            return


def _prompts(asked: Tensors) -> Iterator[Prompt]:
    token_ids = _parts(asked.get("token_ids", []), asked["num_token_ids"])
    arrays = iter(_arrays(asked))
    rows = zip(asked["texts"], token_ids, asked["seeds"], asked["has_values"], strict=True)
    for text, ids, seed, has_values in rows:
        yield Prompt(
            text=text,
            token_ids=tuple(int(each) for each in ids),
            embeddings=next(arrays) if has_values else None,
            seed=int(seed),
        )


def _scores(found: Sequence[scoring.Scores]) -> Iterator[Tensors]:
    flat = [option for each in found for option in each.options]
    yield {
        "log_likelihoods": np.array([each.log_likelihood for each in flat], dtype=np.float64),
        "num_tokens": np.array([each.num_tokens for each in flat], dtype=np.int32),
        "num_stem_tokens_cut": _ints(each.num_stem_tokens_cut for each in found),
    }


def _pieces(found: Sequence[Generated]) -> Iterator[Tensors]:
    if found:
        log_probs = [value for each in found for value in each.log_probs]
        yield {
            "index": _ints(each.index for each in found),
            "num_tokens": _ints(len(each.token_ids) for each in found),
            "token_ids": _ints(token for each in found for token in each.token_ids),
            "log_probs": np.array(log_probs, dtype=np.float64),
            "texts": [each.text for each in found],
            "finish": [str(each.finish or "") for each in found],
            "num_prompt_tokens": _ints(each.num_prompt_tokens for each in found),
        }


def _embeddings(found: Sequence[states.States]) -> Iterator[Tensors]:
    if found:
        yield _values(np.stack([each.values.numpy() for each in found]))


def _layers(found: Sequence[states.States]) -> Iterator[Tensors]:
    """Yield each layer of each text in parts, with the number of its tokens that are to come."""
    for layer_TD in (layer for each in found for layer in each.values.numpy()):  # noqa: N806
        size = max(1, _PART_VALUES // layer_TD.shape[1])
        for first in range(0, len(layer_TD), size):
            left = max(0, len(layer_TD) - first - size)
            part = _values(layer_TD[first : first + size])
            yield {**part, "num_tokens_left": _ints([left])}


def _values(array: Any) -> Tensors:
    flat = np.ascontiguousarray(array, dtype=np.float32).reshape(-1)
    return {"values": flat, "shape": np.array(array.shape, dtype=np.int32)}


def _arrays(asked: Tensors) -> list[Any]:
    """Return the two-dimensional arrays among the inputs: `values`, each of two of `shape`."""
    shapes = [(int(rows), int(width)) for rows, width in _pairs(asked.get("shape", []))]
    sizes = [rows * width for rows, width in shapes]
    parts = _parts(asked.get("values", []), sizes)
    return [np.array(part).reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def _pairs(flat: Any) -> Iterator[tuple[Any, Any]]:
    return zip(flat[::2], flat[1::2], strict=True)


def _parts(flat: Any, sizes: Any) -> list[Any]:
    """Cut into parts of the sizes. Raises `ValueError` if they do not take all of it."""
    ends = np.cumsum([0, *sizes])
    if ends[-1] != len(flat):
        raise ValueError(f"expected {ends[-1]} values, got {len(flat)}")
    return [flat[start:end] for start, end in pairwise(ends)]


def _one(asked: Tensors, name: str) -> Any:
    (value,) = asked[name]
    return value.item() if hasattr(value, "item") else value


def _ints(values: Any) -> Any:
    return np.array(list(values), dtype=np.int32)
