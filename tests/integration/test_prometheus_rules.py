"""The rules of Prometheus: it reads them, they fire when they must, on metrics that exist."""

import importlib
import re
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest
import yaml
from prometheus_client import REGISTRY

from deploy.local.stack.prometheus import program
from tests import stack

ROOT = Path(__file__).parents[2]
RULES = sorted((ROOT / "deploy" / "prometheus").glob("*.yaml"))
CASES = Path(__file__).parent / "prometheus" / "alerts.yaml"
OURS = re.compile(r"(?<![\w:])(?:athanor|corpus|evaluator|lm|loop|sampler|trainer)_\w+(?![\w:])")
TARGETS = frozenset({"job", "program", "instance", "le"})
"""Labels that Prometheus adds, and that of histograms."""
RECORDED = re.compile(r"\b[a-z_]+:\w+:\w+\b")


def rules():
    return [
        rule
        for file in RULES
        for group in yaml.safe_load(file.read_text())["groups"]
        for rule in group["rules"]
    ]


def alerts():
    return [rule for rule in rules() if "alert" in rule]


@pytest.fixture(scope="module")
def promtool():
    """Return a function that runs promtool, the stack's where none is on the PATH."""
    path = program(stack.folder(), "promtool")
    if not path.exists():
        stack.refuse(f"promtool absent from {path.parent}: make stack")

    def run(*arguments):
        return subprocess.run(
            [path, *arguments], capture_output=True, text=True, timeout=60, check=False
        )

    return run


def declared():
    """Every name of a sample that a service may show."""
    paths = sorted(ROOT.glob("services/*/metrics.py")) + sorted(ROOT.glob("libs/**/metrics.py"))
    for path in [*paths, ROOT / "libs" / "telemetry.py", ROOT / "libs" / "otlp.py"]:
        importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"]}
    return {
        family.name + suffix
        for family in REGISTRY.collect()
        for suffix in suffixes.get(family.type, [""])
    }


@pytest.mark.parametrize("file", RULES, ids=lambda path: path.name)
def test_prometheus_reads_the_rules(promtool, file):
    done = promtool("check", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_fire_when_they_must_and_stay_quiet_otherwise(promtool):
    done = promtool("test", "rules", CASES)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case_of_each_kind():
    cases = [case["name"] for case in yaml.safe_load(CASES.read_text())["tests"]]
    for name in (rule["alert"] for rule in alerts()):
        assert any(case.partition(",")[0] == name for case in cases), name
        assert f"{name} stays quiet" in cases, name


def test_every_metric_in_a_rule_is_one_that_the_code_declares():
    used = {name for rule in rules() for name in OURS.findall(rule["expr"])}
    assert used
    assert used - declared() == set()


def test_every_label_in_a_rule_is_one_that_its_metrics_carry():
    by_name = labels_by_metric()
    by_name |= {rule["record"]: labels_in(rule["expr"]) for rule in rules() if "record" in rule}
    for rule in rules():
        names = OURS.findall(rule["expr"]) + RECORDED.findall(rule["expr"])
        carried = TARGETS.union(*(by_name[name] for name in names))
        assert labels_in(rule["expr"]) <= carried, rule


def labels_in(expression):
    grouped = [each for by in re.findall(r"\bby \(([^)]*)\)", expression) for each in by.split(",")]
    matched = re.findall(r"[{,]\s*(\w+)(?:=|!=|=~|!~)", expression)
    return {each.strip() for each in [*grouped, *matched]}


def labels_by_metric():
    """Labels by name of a sample, of every metric that is declared."""
    declared()
    found = {}
    for name, metric in REGISTRY._names_to_collectors.items():
        if own := getattr(metric, "_labelnames", None):
            found[name] = {*own}
    return defaultdict(set, found)


def test_every_recorded_name_in_a_rule_is_recorded():
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    used = {name for rule in rules() for name in RECORDED.findall(rule["expr"])}
    assert used <= recorded
    assert recorded


def test_every_alert_says_what_happened_how_urgent_it_is_and_what_to_do():
    for rule in alerts():
        assert rule["labels"]["severity"] in ("page", "ticket"), rule["alert"]
        assert rule["annotations"].keys() == {"summary", "remedy"}, rule["alert"]
