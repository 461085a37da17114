"""Every topic that the loop owns."""

from libs.bus.port import Topic

ROUNDS_ENDED = Topic(name="loop.rounds-ended.v1", key="round")
MODELS_PROMOTED = Topic(name="loop.models-promoted.v1", key="weights digest", compacted=True)
"""Kept for ever: who starts late learns of every model that was ever live."""
WEIGHTS_PUBLISHED = Topic(name="loop.weights-published.v1", key="model's name", compacted=True)
TOPICS = (
    Topic(name="loop.commands.v1", key="operation name"),
    ROUNDS_ENDED,
    MODELS_PROMOTED,
    WEIGHTS_PUBLISHED,
)
