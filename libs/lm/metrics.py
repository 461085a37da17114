"""Every metric of the lm host."""

from prometheus_client import Counter, Gauge, Histogram

MODELS_HELD = Gauge("lm_models_held", "Models in memory.")
OPTIONS_SCORED = Counter("lm_options_scored_total", "Options scored.")
SCORING_SECONDS = Histogram(
    "lm_scoring_seconds",
    "From a scoring call's arrival to its answers, waiting for its turn included, seconds.",
    buckets=(0.1, 0.3, 1, 3, 10, 30, 100),
)
