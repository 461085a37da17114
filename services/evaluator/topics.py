"""Every topic that the evaluator owns."""

from libs.bus.port import Topic

EXAMS_SCORED = Topic(name="evaluator.exams-scored.v1", key="artifact id of the responses")
EXAMS_REGISTERED = Topic(name="evaluator.exams-registered.v1", key="artifact id of the exam")
TOPICS = (
    Topic(name="evaluator.commands.v1", key="operation name"),
    EXAMS_SCORED,
    EXAMS_REGISTERED,
)
