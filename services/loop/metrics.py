"""Every metric that the loop emits, beside those that all services have."""

from prometheus_client import Counter, Gauge, Histogram

ROUNDS_ENDED = Counter("loop_rounds_ended_total", "Rounds that ended, by outcome.", ["outcome"])
ROUND_DURATION = Histogram(
    "loop_round_duration_seconds",
    "Time from a round's creation to its outcome.",
    buckets=(5, 15, 60, 180, 300, 600, 1800, 3600, 14400, 86400),
)
STEPS_RUNNING = Gauge("loop_steps_running", "Steps of rounds that run now.")
STEPS_ENDED = Counter(
    "loop_steps_ended_total", "Steps of rounds that ended, by rpc and state.", ["rpc", "state"]
)
LIVE_MOVES = Counter("loop_live_moves_total", "Moves of the alias live, by action.", ["action"])
