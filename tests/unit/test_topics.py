import re

import pytest

from deploy import topics

DECLARED = topics.declared()
EVERY = [(service, topic) for service, declared in DECLARED.items() for topic in declared]
NAME = re.compile(r"[a-z]+\.(commands|[a-z]+s-[a-z]+)\.v[1-9]\d*")


def test_the_committed_list_is_what_the_services_declare():
    assert topics.YAML.read_text("utf-8") == topics.rendered(), "run python -m deploy.topics"


def test_every_service_declares_its_topics():
    folders = {path.parent.name for path in (topics.ROOT / "services").glob("*/__main__.py")}
    assert folders <= DECLARED.keys()


@pytest.mark.parametrize(("service", "topic"), EVERY, ids=lambda each: getattr(each, "name", each))
def test_a_topic_is_named_after_its_owner_and_what_happened(service, topic):
    assert NAME.fullmatch(topic.name)
    assert topic.name.startswith(f"{service}.")
    assert topic.key and topic.partitions >= 1 and topic.retention_hours > 0


def test_no_topic_is_declared_twice():
    found = [topic.name for _, topic in EVERY]
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("service", DECLARED)
def test_a_service_takes_its_commands_from_one_topic(service):
    assert f"{service}.commands.v1" in [topic.name for topic in DECLARED[service]]
