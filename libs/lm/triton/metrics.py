"""Every metric of whoever asks Triton; `replica` is its address."""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Counter, Gauge, Histogram

from libs.errors import ServiceError, kind_of

BEHIND = Gauge(
    "lm_replica_behind",
    "1 while a replica does not hold the weights that were asked of it last, else 0.",
    ["replica"],
)
PASSED_OVER = Counter(
    "lm_replica_passed_over_total",
    "Calls that went to another replica, by why: behind or unavailable.",
    ["replica", "why"],
)
LOADS = Counter(
    "lm_replica_loads_total",
    "Loads of a model, by outcome: loaded, or the kind of the error.",
    ["replica", "outcome"],
)
LOAD_SECONDS = Histogram(
    "lm_replica_load_seconds",
    "From telling a replica to load a model to its being ready, seconds.",
    ["replica"],
    buckets=(0.3, 1, 3, 10, 30, 100, 300),
)


@contextmanager
def loading(replica: str) -> Iterator[None]:
    """Time and count one load."""
    try:
        with LOAD_SECONDS.labels(replica).time():
            yield
    except ServiceError as error:
        LOADS.labels(replica, kind_of(error).__name__).inc()
        raise
    LOADS.labels(replica, "loaded").inc()
