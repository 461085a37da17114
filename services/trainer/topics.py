"""Every topic that the trainer owns."""

from libs.bus.port import Topic

COMMANDS = Topic(name="trainer.commands.v1", key="operation")
LOSSES_MEASURED = Topic(name="trainer.losses-measured.v1", key="operation")
CHECKPOINTS_SAVED = Topic(name="trainer.checkpoints-saved.v1", key="artifact id")

TOPICS = (COMMANDS, LOSSES_MEASURED, CHECKPOINTS_SAVED)
