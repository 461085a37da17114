"""Render a round as one self-contained HTML page, from `report.json` and, if wanted, times.

The page holds plotly's JavaScript once (about 4.8 MB): it must open from a file, without a
network. Everything a step wrote is data here: text is escaped, figures travel as JSON.
"""

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import plotly
from markupsafe import Markup

from services.loop.figures import Node, figure, graph, joined

_FIGURES = ("intervals", "lines", "bars")


class Time(NamedTuple):
    """How long a step of this very round took."""

    step: str
    duration_s: float
    cached: bool


def render(report: Mapping[str, Any], times: Sequence[Time] = ()) -> bytes:
    """Return the page, UTF-8.

    Args:
        report: what `report.json` holds.
        times: of this run, in no digest; without them the page has no times.
    """
    steps = [{"name": name, **step} for name, step in report["steps"].items()]
    nodes = [
        Node(step["name"], step["state"], step["artifact_id"][:12], step["needs"])
        for step in _ordered(steps)
    ]
    page = _template().render(
        report=report,
        steps=_ordered(steps),
        graph=Markup(graph(nodes)),
        sections=_sections(report["sections"]),
        times=times,
        longest_s=max((time.duration_s for time in times), default=0.0) or 1.0,
        plotly_js=Markup(_plotly_js()),
    )
    return page.encode()


def _ordered(steps: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Order steps so that each stands after what it needs; canonical JSON has sorted them."""
    left = {step["name"]: step for step in steps}
    ordered: list[Mapping[str, Any]] = []
    while left:
        ready = [step for step in left.values() if not any(need in left for need in step["needs"])]
        ordered += ready
        left = {name: step for name, step in left.items() if step not in ready}
    return ordered


def _sections(sections: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the sections to show, those of the outcome first.

    Blocks of one anchor become one, where the first of them is shown.
    """
    told = [
        {**block, "step": section["step"]} for section in sections for block in section["blocks"]
    ]
    anchors: set[str] = set()
    shown: dict[str, list[dict[str, Any]]] = {}
    for section in reversed(sections):
        for block in section["blocks"]:
            anchor = block["anchor"]
            if anchor in anchors:
                continue
            anchors |= {anchor} - {""}
            same = [each for each in told if each["anchor"] == anchor] if anchor else [block]
            whole = joined(same)
            shown.setdefault(section["step"], []).append(whole | {"figure": _figure_json(whole)})
    return [{"step": step, "blocks": each} for step, each in shown.items()]


def _figure_json(block: Mapping[str, Any]) -> Markup | None:
    if block["kind"] not in _FIGURES:
        return None
    text = json.dumps(figure(block), sort_keys=True, separators=(",", ":"))
    # Inside a script element only "<" could end it.
    return Markup(text.replace("<", "\\u003c"))


@functools.cache
def _plotly_js() -> str:
    path = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
    return path.read_text(encoding="utf-8").replace("</script", "<\\/script")


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2")
