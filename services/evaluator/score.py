"""Scores closed-book items by the log-likelihood of their options.

Nothing is generated and nothing retrieved: the model's answer is the option that it finds most
likely per token after the stem. So the answer needs no parser and is the same on every run.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from libs.errors import Corrupt, InvalidInput
from libs.formats import RESPONSES, read_rows, write_table
from libs.lm.port import BATCH_SIZE, OptionScore, Question
from services.evaluator.items import Item

DEFAULT_BATCH_SIZE = BATCH_SIZE

Ask = Callable[[Sequence[Question]], Sequence[Sequence[OptionScore]]]
"""Scores one fixed batch of questions in the order given."""


@dataclass(frozen=True, kw_only=True)
class Response:
    """One model's answer to one item: a row of the table `RESPONSES`."""

    item_id: str
    weights_digest: str
    topic: str
    document_id: str
    key: int
    chosen: int
    """Index of the option with the highest log-likelihood per token; the lowest of equals."""
    correct: bool
    log_likelihoods: tuple[float, ...]
    """One an option: natural logarithm, summed over its tokens."""
    num_tokens: tuple[int, ...]
    num_stem_tokens_cut: int
    """Tokens of the stem that the model did not see, because its context is shorter."""


def batches(items: Iterable[Item], batch_size: int) -> list[list[Item]]:
    """Cut the items, ordered by id, into batches; the last may be smaller."""
    ordered = sorted(items, key=lambda item: item.item_id)
    return [ordered[start : start + batch_size] for start in range(0, len(ordered), batch_size)]


def score(items: Sequence[Item], ask: Ask, weights_digest: str) -> list[Response]:
    """Score one batch of items, in the order given.

    Raises:
        Corrupt: not one score an option came back, or one that is no number.
    """
    answers = ask([Question(item.stem, item.options) for item in items])
    if len(answers) != len(items):
        raise Corrupt(f"expected the scores of {len(items)} items, got {len(answers)}")
    pairs = zip(items, answers, strict=True)
    return [_response(item, answer, weights_digest) for item, answer in pairs]


def choose(scores: Sequence[OptionScore]) -> int:
    """Return the option with the highest log-likelihood per token; the lowest index of equals."""
    rates = [each.log_likelihood / each.num_tokens for each in scores]
    return rates.index(max(rates))


def _response(item: Item, answer: Sequence[OptionScore], weights_digest: str) -> Response:
    if len(answer) != len(item.options):
        raise Corrupt(
            f"item {item.item_id}: expected {len(item.options)} scores, got {len(answer)}"
        )
    # A NaN never wins `max` and would look like a wrong answer; so would options all at -inf.
    if bad := [each for each in answer if not _is_score(each)]:
        raise Corrupt(
            f"item {item.item_id}: expected finite log-likelihoods of at least one token, "
            f"got {bad[0].log_likelihood} over {bad[0].num_tokens}"
        )
    chosen = choose(answer)
    return Response(
        item_id=item.item_id,
        weights_digest=weights_digest,
        topic=item.topic,
        document_id=item.document_id,
        key=item.key,
        chosen=chosen,
        correct=chosen == item.key,
        log_likelihoods=tuple(each.log_likelihood for each in answer),
        num_tokens=tuple(each.num_tokens for each in answer),
        num_stem_tokens_cut=max(each.num_stem_tokens_cut for each in answer),
    )


def _is_score(score: OptionScore) -> bool:
    return math.isfinite(score.log_likelihood) and score.num_tokens > 0


def write_responses(path: Path, responses: Iterable[Response]) -> None:
    """Write the responses, by item id."""
    ordered = sorted(responses, key=lambda response: response.item_id)
    write_table(path, RESPONSES, (vars(response) for response in ordered))


def read_responses(path: Path) -> list[Response]:
    """Read the responses of one model, by item id.

    Raises:
        InvalidInput: no response at all.
    """
    responses = [response_of(row) for row in read_rows(path, RESPONSES)]
    if not responses:
        raise InvalidInput(f"{path.name}: expected at least one response, got none")
    return sorted(responses, key=lambda response: response.item_id)


def response_of(row: Mapping[str, Any]) -> Response:
    """Return the response of one row of the table `RESPONSES`."""
    lists = {name: tuple(row[name]) for name in ("log_likelihoods", "num_tokens")}
    return Response(**{**row, **lists})
