"""Every metric of the lm host; `method` is the rpc that scores, as in every `*_tokens_*`."""

from prometheus_client import Counter, Gauge, Histogram

MODELS_HELD = Gauge("lm_models_held", "Models in memory.")
OPTIONS_SCORED = Counter("lm_options_scored_total", "Options scored.")
TOKENS = Counter("lm_tokens_total", "Tokens of options scored, stems left out.", ["method"])
TOKENS_PER_SECOND = Gauge(
    "lm_tokens_per_second",
    "Speed of the call answered last, waiting for its turn included.",
    ["method"],
)
SCORING_SECONDS = Histogram(
    "lm_scoring_seconds",
    "From a scoring call's arrival to its answers, waiting for its turn included, seconds.",
    buckets=(0.1, 0.3, 1, 3, 10, 30, 100),
)
