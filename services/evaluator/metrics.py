"""Every metric that the evaluator emits, beside those that all services have."""

from prometheus_client import Counter, Gauge

ITEMS_ANSWERED = Counter("evaluator_items_answered_total", "Items that a model answered.")
ITEMS_PER_SECOND = Gauge("evaluator_items_per_second", "Items per second of the last examination.")
ITEMS_RESUMED = Counter(
    "evaluator_items_resumed_total", "Items whose answers an earlier attempt had kept."
)
ROUNDS_ENDED = Counter(
    "evaluator_rounds_ended_total", "Diagnoses that ended a round, by outcome.", ["outcome"]
)
