"""A real Prometheus of the stack: it finds a process by its file of targets, and runs the rules."""

import json
import time
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from deploy.local import stack
from deploy.local.stack.prometheus import program
from deploy.prometheus import targets
from libs import telemetry
from libs.launcher import Report
from tests import stack as shared

PATIENCE_S = 30.0


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    if not (path := program(shared.folder())).exists():
        shared.refuse(f"prometheus absent from {path.parent}: make stack")
    run = stack.Run(cache=shared.folder(), folder=tmp_path_factory.mktemp("run"))
    yield stack.up(run, ["prometheus"])
    stack.down(run)


def ask(settings, path):
    with urllib.request.urlopen(settings["ATHANOR_PROMETHEUS"] + path, timeout=9) as answer:
        return json.load(answer)["data"]


def value(settings, expression):
    query = urllib.parse.urlencode({"query": expression})
    found = ask(settings, f"/api/v1/query?{query}")["result"]
    return float(found[0]["value"][1]) if found else None


def test_a_process_is_found_scraped_and_computed_with(settings, tmp_path):
    telemetry.DISK_FREE.labels("corpus").set(1)
    port = telemetry.start_metrics(0)
    report = Report(name="corpus", pid=1, port=1, metrics_port=port, restarts=0)
    targets.write(Path(settings["ATHANOR_PROMETHEUS_TARGETS"]), [report], home=tmp_path)
    ends_at = time.monotonic() + PATIENCE_S
    firing = 'ALERTS{alertname="DiskAlmostFull",service="corpus"}'
    while value(settings, firing) is None:
        assert time.monotonic() < ends_at, value(settings, "up")
        time.sleep(0.2)
    assert value(settings, 'up{job="athanor",program="corpus"}') == 1


def test_no_rule_fails_to_be_computed(settings):
    groups = ask(settings, "/api/v1/rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) > 20
    assert [rule["name"] for rule in rules if rule["health"] == "err"] == []
