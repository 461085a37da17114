"""What a step wants a person to see, in blocks that need no knowledge of the step.

A service writes `blocks.json` beside its artifact; `loop` renders the blocks of a round into one
page. So `loop` knows no service's insides and a new service joins the report by writing blocks.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from libs.formats import read_json, write_json


class Interval(NamedTuple):
    """One estimate with its 95 % interval."""

    label: str
    estimate: float
    low: float
    high: float
    note: str = ""


class Line(NamedTuple):
    """One curve."""

    label: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True, kw_only=True)
class Block:
    """One thing to show; which of the fields are read depends on `kind`."""

    kind: Literal["text", "table", "intervals", "lines", "bars", "examples"]
    title: str
    text: str = ""
    """One or two sentences above the figure: what it shows and how to read it."""
    columns: Sequence[str] = ()
    """`table`: headings."""
    rows: Sequence[Sequence[str | float | int]] = ()
    """`table`: cells. `bars`: (label, value). `examples`: (heading, text, why)."""
    intervals: Sequence[Interval] = ()
    lines: Sequence[Line] = ()
    x_label: str = ""
    y_label: str = ""
    zero_line: bool = False
    """`intervals`: draw a line at 0, for differences."""
    anchor: str = field(default="")
    """Lets a later step's intervals be drawn beside these: equal anchors share one figure."""


def write_blocks(folder: Path, blocks: Sequence[Block]) -> None:
    """Write `blocks.json`."""
    write_json(folder / "blocks.json", [asdict(block) for block in blocks])


def read_blocks(path: Path) -> list[Block]:
    """Read `blocks.json`. Raises `Corrupt` when it is none."""
    return [_block(fields) for fields in read_json(path)]


def _block(fields: dict[str, Any]) -> Block:
    return Block(
        **fields
        | {
            "intervals": [Interval(*each) for each in fields["intervals"]],
            "lines": [Line(*each) for each in fields["lines"]],
        }
    )
