"""The page of a round: whole, safe, and the same for the same round."""

import json
import re
import xml.dom.minidom
from dataclasses import asdict

import pytest

from libs.artifacts import Artifacts
from libs.blocks import Block, Interval, Line
from libs.errors import Corrupt
from services.loop.figures import Node, figure, graph, joined
from services.loop.report import Time, render
from services.loop.summary import measured, report_document, round_document
from tests.unit.services.loop.conftest import Runner

EVIL = "</script><script>alert(1)</script>"
BLOCKS = [
    Block(kind="text", title="Words", text=f"Some words {EVIL}"),
    Block(kind="table", title="Table", columns=("a", "b"), rows=[("x", 1.5)]),
    Block(
        kind="intervals",
        title="Model",
        intervals=[Interval(f"topic {EVIL}", 0.1, -0.1, 0.3, "12 items")],
        zero_line=True,
        anchor="accuracy-decision",
    ),
    Block(kind="lines", title="Loss", lines=[Line("train", [0, 1], [3.0, 2.0])], x_label="step"),
    Block(kind="bars", title="Sizes", rows=[("k", 3)]),
    Block(kind="examples", title="Items", rows=[("net", f"What? {EVIL}", "key A")]),
]


@pytest.fixture
def ended(runner, fake, blobs):
    fake.files["checkpoint"] = fake.files["responses"] = {
        "blocks.json": [asdict(block) for block in BLOCKS]
    }
    return runner.drive(), Artifacts(blobs)


def scripts(page):
    return re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.S)


def test_the_page_says_outcome_and_attribution_first(ended, bound):
    page = render(report_document(bound, *ended)).decode()
    body = page[page.index("<body>") :]
    assert body.index("Promoted.") < body.index("By the targeting.") < body.index("<section")
    assert "It is better." in body
    # From there back to what it began with.
    assert body.index('id="step-old"') < body.index('id="step-base"')


def test_nothing_of_a_block_becomes_markup(ended, bound):
    page = render(report_document(bound, *ended)).decode()
    assert EVIL not in page
    assert "alert(1)" in page


def test_the_page_needs_no_network(ended, bound):
    page = render(report_document(bound, *ended)).decode()
    assert not re.findall(r"<(?:script|link|img)[^>]*\s(?:src|href)=", page)
    assert "plotly.js v" in page
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page


def test_blocks_of_one_anchor_share_one_figure(ended, bound):
    page = render(report_document(bound, *ended)).decode()
    figures = [json.loads(text) for text in scripts(page)]
    # Two steps with three figures each, one of them shared.
    assert len(figures) == 5
    shared = next(each for each in figures if len(each["data"]) == 2)
    assert [trace["name"] for trace in shared["data"]] == ["base: Model", "old: Model"]


def test_lines_of_one_anchor_are_told_apart_by_their_step():
    block = asdict(BLOCKS[3]) | {"anchor": "loss"}
    drawn = figure(joined([block | {"step": "train"}, block | {"step": "control"}]))
    assert [trace["name"] for trace in drawn["data"]] == ["train: train", "control: train"]


def test_times_stand_on_the_page_of_a_run_and_not_in_the_artifact(ended, bound):
    record, artifacts = ended
    report = report_document(bound, record, artifacts)
    assert "<h2>Time</h2>" not in render(report).decode()
    timed = render(report, [Time("old", 12.5, False), Time("base", 0.0, True)]).decode()
    assert "12.5 s" in timed
    assert "there already" in timed


def test_the_same_round_gives_the_same_files_whatever_it_took(blobs, fake, bound, ended):
    record, artifacts = ended
    slow = type(record).from_json(
        record.to_json().replace(b'"duration_s":1.5', b'"duration_s":99.5')
    )
    assert slow != record
    assert round_document(bound, slow) == round_document(bound, record)
    first, second = (render(report_document(bound, each, artifacts)) for each in (record, slow))
    assert first == second
    assert measured(slow) != measured(record)


def test_what_did_not_lead_to_the_outcome_is_skipped_whether_it_ran_or_not(blobs, fake, bound):
    fake.outcomes["base"] = ("starved", "Too little.")
    record = Runner(blobs, fake, bound).drive()
    steps = round_document(bound, record)["steps"]
    assert steps["exam"]["state"] == "skipped"
    assert steps["exam"]["artifact_id"] == ""
    assert steps["base"]["artifact_id"]


def test_a_failed_round_has_a_page_too(runner, fake, bound, blobs):
    fake.failures["old", 1] = Corrupt("bad")
    page = render(report_document(bound, runner.drive(), Artifacts(blobs))).decode()
    assert "Step old: bad" in page


def test_intervals_become_asymmetric_bars_around_estimates():
    block = asdict(BLOCKS[2])
    drawn = figure(joined([block | {"step": "s"}]))
    trace = drawn["data"][0]
    assert trace["error_x"]["array"] == pytest.approx([0.2])
    assert trace["error_x"]["arrayminus"] == pytest.approx([0.2])
    assert drawn["layout"]["shapes"][0]["x0"] == 0


def test_the_graph_draws_each_step_below_what_it_needs():
    nodes = [
        Node("a", "succeeded", "id", []),
        Node("b", "succeeded", "", ["a"]),
        Node("c", "skipped", "", ["a", "b"]),
    ]
    picture = graph(nodes)
    document = xml.dom.minidom.parseString(picture)
    tops = [float(rect.getAttribute("y")) for rect in document.getElementsByTagName("rect")]
    assert tops == sorted(tops)
    assert len(set(tops)) == 3
    # a -> c follows from a -> b -> c and is not drawn.
    assert picture.count('class="edge"') == 2
