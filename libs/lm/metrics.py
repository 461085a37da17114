"""Every metric of the lm host; `method` is the rpc that computes, as in every `*_tokens_*`."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import Counter, Gauge, Histogram

MODELS_HELD = Gauge("lm_models_held", "Models in memory.")
OPTIONS_SCORED = Counter("lm_options_scored_total", "Options scored.")
TOKENS = Counter(
    "lm_tokens_total",
    "Tokens computed, for callers that left too: of stems, options, prompts and texts once each,"
    " and those generated; padding left out.",
    ["method"],
)
TOKENS_PER_SECOND = Gauge(
    "lm_tokens_per_second",
    "Speed of the call that ended last, from its first turn on, waiting for others included.",
    ["method"],
)
SCORING_SECONDS = Histogram(
    "lm_scoring_seconds",
    "From a scoring call's arrival to its answers, waiting for its turn included, seconds.",
    buckets=(0.1, 0.3, 1, 3, 10, 30, 100),
)


@contextmanager
def counted(method: str) -> Iterator[Callable[[int], None]]:
    """Yield what takes the tokens of a call as they are computed."""
    started, total = time.perf_counter(), 0

    def count(num_tokens: int) -> None:
        nonlocal total
        total += num_tokens
        TOKENS.labels(method).inc(num_tokens)

    try:
        yield count
    finally:
        TOKENS_PER_SECOND.labels(method).set(total / (time.perf_counter() - started))
