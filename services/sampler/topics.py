"""Every topic that the sampler owns."""

from libs.bus.port import Topic

PLANS_MADE = Topic(name="sampler.plans-made.v1", key="artifact id of the plan")
TOPICS = (Topic(name="sampler.commands.v1", key="operation name"), PLANS_MADE)
