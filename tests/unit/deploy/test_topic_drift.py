"""What differs from the committed list is shown, and what can be changed is."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploy import topics
from deploy.local import cli
from deploy.topic_drift import Drift, Kind, apply, drifts
from libs.bus.port import Bus, Topic
from libs.bus.sqlite import SqliteBus
from tests import buses

A = Topic(name="corpus.commands.v1", key="operation")
B = Topic(name="loop.models-promoted.v1", key="digest", compacted=True)


@pytest.fixture(params=buses.ADAPTERS)
def bus(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bus]:
    with buses.opener(request.param, request, tmp_path, session_s=2.0) as open_bus:
        opened = open_bus()
        yield opened
        opened.close()


def test_every_difference_is_named_and_what_can_be_changed_is(bus: Bus) -> None:
    other = replace(A, partitions=2, retention_hours=1)
    stray = replace(A, name="corpus.typos-made.v1")
    bus.topics.create([other, stray])
    found = drifts([A, B], bus.topics.existing())
    assert found == [
        Drift(topic=A.name, kind=Kind.PARTITIONS, declared=4, found=2),
        Drift(topic=A.name, kind=Kind.RETENTION, declared=168, found=1),
        Drift(topic=B.name, kind=Kind.MISSING, declared=4),
        Drift(topic=stray.name, kind=Kind.UNKNOWN),
    ]
    apply(bus.topics, [A, B], found)
    assert drifts([A, B], bus.topics.existing()) == [Drift(topic=stray.name, kind=Kind.UNKNOWN)]


def test_partitions_are_never_taken_away(bus: Bus) -> None:
    bus.topics.create([replace(A, partitions=6)])
    found = drifts([A], bus.topics.existing())
    assert [each.remedy for each in found] == [""]
    apply(bus.topics, [A], found)
    assert bus.topics.existing()[A.name].partitions == 6


def test_topics_of_others_on_the_same_servers_are_not_looked_at() -> None:
    assert drifts([], {"billing.invoices-sent.v1": A}) == []


def test_the_committed_list_reads_back_as_what_the_services_declare() -> None:
    declared = [topic for each in topics.declared().values() for topic in each]
    listed = topics.listed(topics.YAML.read_text("utf-8"))
    assert [topic for topic in listed if not topic.name.endswith(".dead")] == declared
    assert len(listed) == 2 * len(declared)


def test_plan_fails_until_apply_has_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATHANOR_HOME", str(tmp_path))
    monkeypatch.setenv("ATHANOR_PROFILE", "embedded")
    run = CliRunner()
    assert run.invoke(cli.app, ["topics", "plan"]).exit_code == 1
    assert "is created" in run.invoke(cli.app, ["topics", "apply"]).output
    planned = run.invoke(cli.app, ["topics", "plan", "--json"])
    assert (planned.exit_code, json.loads(planned.output)) == (0, {"drift": []})
    bus = SqliteBus(tmp_path / "bus.sqlite")
    assert bus.topics.existing()["loop.models-promoted.v1"].compacted
    bus.close()
