"""Draw blocks as plotly figures, and the steps of a round as one inline SVG.

Figures are built as plain mappings: plotly's own JavaScript reads them, and nothing of plotly is
imported but that file. Colours are mid-tones, so that one figure is readable on light and dark.
"""

import html
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

Figure = dict[str, Any]
_COLOURS = ("#4c8bf5", "#e8833a", "#2fa66a", "#b065d6", "#d64f6a", "#8a8f98")
_GRID = "rgba(128,128,128,0.25)"
_ROW_PX = 26
_BOX = (148, 44)
_GAP = (14, 30)


def figure(block: Mapping[str, Any]) -> Figure:
    """Return the figure of a block of kind `intervals`, `lines` or `bars`."""
    makers = {"intervals": _intervals, "lines": _lines, "bars": _bars}
    traces, layout = makers[block["kind"]](block)
    axes = {
        "xaxis": _axis(block["x_label"]) | layout.pop("xaxis", {}),
        "yaxis": _axis(block["y_label"]) | layout.pop("yaxis", {}),
    }
    return {"data": traces, "layout": _layout(len(traces)) | axes | layout}


def joined(blocks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return one block that holds the series of blocks that share an anchor.

    A block may name its `step`; where several are joined, their series are told apart by it.
    """
    if len(blocks) == 1:
        return {**blocks[0], "series": _series(blocks[0])}
    named = [{**block, "title": f"{block['step']}: {block['title']}"} for block in blocks]
    return {
        **blocks[0],
        "title": blocks[0]["anchor"].replace("-", " ").capitalize(),
        "text": " ".join(dict.fromkeys(block["text"] for block in blocks if block["text"])),
        "series": [series for block in named for series in _series(block)],
        "lines": [
            [f"{block['step']}: {line[0]}", *line[1:]]
            for block in blocks
            for line in block["lines"]
        ],
    }


def _series(block: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"name": block["title"], "intervals": block["intervals"]}]


def _intervals(block: Mapping[str, Any]) -> tuple[list[Figure], Figure]:
    series = block.get("series") or _series(block)
    labels = list(dict.fromkeys(each[0] for one in series for each in one["intervals"]))
    traces = [_interval_trace(one, labels, place, len(series)) for place, one in enumerate(series)]
    layout: Figure = {
        "height": 120 + _ROW_PX * max(1, len(labels)) * (1 + 0.5 * (len(series) - 1)),
        "yaxis": {
            "tickvals": list(range(len(labels))),
            "ticktext": [_text(label) for label in labels],
            "autorange": "reversed",
            "zeroline": False,
        },
    }
    if block["zero_line"]:
        line = {"color": "#d64f6a", "width": 1.5, "dash": "dot"}
        layout["shapes"] = [
            {"type": "line", "x0": 0, "x1": 0, "yref": "paper", "y0": 0, "y1": 1, "line": line}
        ]
    return traces, layout


def _interval_trace(
    series: Mapping[str, Any], labels: Sequence[str], place: int, num_series: int
) -> Figure:
    intervals = series["intervals"]
    shift = (place - (num_series - 1) / 2) * 0.7 / num_series
    return {
        "type": "scatter",
        "mode": "markers",
        "name": _text(series["name"]),
        "x": [each[1] for each in intervals],
        "y": [labels.index(each[0]) + shift for each in intervals],
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [max(0.0, each[3] - each[1]) for each in intervals],
            "arrayminus": [max(0.0, each[1] - each[2]) for each in intervals],
        },
        "marker": {"color": _COLOURS[place % len(_COLOURS)], "size": 8},
        "text": [_text(f"{each[0]}: {_span(each)} {each[4]}".strip()) for each in intervals],
        "hoverinfo": "text",
    }


def _lines(block: Mapping[str, Any]) -> tuple[list[Figure], Figure]:
    traces = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": _text(line[0]),
            "x": list(line[1]),
            "y": list(line[2]),
            "line": {"color": _COLOURS[place % len(_COLOURS)], "width": 1.5},
        }
        for place, line in enumerate(block["lines"])
    ]
    return traces, {"height": 340}


def _bars(block: Mapping[str, Any]) -> tuple[list[Figure], Figure]:
    rows = block["rows"]
    trace = {
        "type": "bar",
        "orientation": "h",
        "x": [row[1] for row in rows],
        "y": list(range(len(rows))),
        "marker": {"color": _COLOURS[0]},
        "hoverinfo": "x",
    }
    ticks = {"tickvals": trace["y"], "ticktext": [_text(str(row[0])) for row in rows]}
    return [trace], {
        "height": 100 + _ROW_PX * max(1, len(rows)),
        "yaxis": ticks | {"autorange": "reversed"},
    }


def _axis(label: str) -> Figure:
    return {
        "title": {"text": _text(label)},
        "gridcolor": _GRID,
        "zerolinecolor": _GRID,
        "automargin": True,
    }


def _layout(num_traces: int) -> Figure:
    return {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 8, "r": 8, "t": 8, "b": 44},
        "showlegend": num_traces > 1,
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "dragmode": False,
    }


def _span(interval: Sequence[Any]) -> str:
    return f"{interval[1]:.3g} ({interval[2]:.3g} to {interval[3]:.3g})"


def _text(text: str) -> str:
    """Escape text for plotly, which reads some HTML in labels."""
    return html.escape(text, quote=False)


class Node(NamedTuple):
    """One step in the picture of a round."""

    name: str
    state: str
    label: str
    """Second line: the artifact's first digits, or nothing."""
    needs: Sequence[str]


def graph(nodes: Sequence[Node]) -> str:
    """Return an SVG of the steps, each below what it needs; `nodes` are in running order."""
    rows = _rows(nodes)
    places = {
        name: (place, depth) for depth, row in enumerate(rows) for place, name in enumerate(row)
    }
    columns = max((len(row) for row in rows), default=1)
    width = columns * (_BOX[0] + _GAP[0]) + _GAP[0]
    height = len(rows) * (_BOX[1] + _GAP[1]) + _GAP[1]
    corner = {
        name: (
            width / 2 + (place - len(rows[depth]) / 2) * (_BOX[0] + _GAP[0]) + _GAP[0] / 2,
            depth * (_BOX[1] + _GAP[1]) + _GAP[1] / 2,
        )
        for name, (place, depth) in places.items()
    }
    edges = [
        _edge(corner[need], corner[node.name]) for node in nodes for need in _nearest(node, nodes)
    ]
    boxes = [_box(node, corner[node.name]) for node in nodes]
    opening = f'<svg class="steps" viewBox="0 0 {width:g} {height:g}" width="{width:g}" role="img"'
    return f'{opening} aria-label="steps of the round">{"".join(edges + boxes)}</svg>'


def _rows(nodes: Sequence[Node]) -> list[list[str]]:
    depth: dict[str, int] = {}
    for node in nodes:
        depth[node.name] = 1 + max((depth[need] for need in node.needs), default=-1)
    rows: list[list[str]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for name, row in depth.items():
        rows[row].append(name)
    return rows


def _nearest(node: Node, nodes: Sequence[Node]) -> list[str]:
    """Return what a step needs, without what another of its needs leads to already."""
    by_name = {each.name: each for each in nodes}
    further: set[str] = set()
    left = [name for need in node.needs for name in by_name[need].needs]
    while left:
        name = left.pop()
        if name not in further:
            further.add(name)
            left.extend(by_name[name].needs)
    return [need for need in node.needs if need not in further]


def _edge(start: tuple[float, float], end: tuple[float, float]) -> str:
    x0, y0 = start[0] + _BOX[0] / 2, start[1] + _BOX[1]
    x1, y1 = end[0] + _BOX[0] / 2, end[1]
    bend = (y0 + y1) / 2
    return f'<path class="edge" d="M{x0:g} {y0:g}C{x0:g} {bend:g} {x1:g} {bend:g} {x1:g} {y1:g}"/>'


def _box(node: Node, corner: tuple[float, float]) -> str:
    x, y = corner
    middle = x + _BOX[0] / 2
    name, label = html.escape(node.name), html.escape(node.label)
    return (
        f'<g class="{html.escape(node.state)}"><title>{name}: {html.escape(node.state)}</title>'
        f'<rect x="{x:g}" y="{y:g}" width="{_BOX[0]}" height="{_BOX[1]}" rx="6"/>'
        f'<text x="{middle:g}" y="{y + 19:g}">{name}</text>'
        f'<text class="id" x="{middle:g}" y="{y + 35:g}">{label}</text></g>'
    )
