"""Every metric of the trainer; `method` is the rpc that trains."""

from prometheus_client import Counter, Gauge

TOKENS = Counter("trainer_tokens_total", "Tokens learned.", ["method"])
TOKENS_PER_SECOND = Gauge(
    "trainer_tokens_per_second", "Speed of the training that stepped last.", ["method"]
)
LOSS = Gauge("trainer_loss_nats", "Loss of the last step, nats per token.", ["method"])
RUNNING = Gauge("trainer_running", "Trainings under way in this process.", ["method"])
