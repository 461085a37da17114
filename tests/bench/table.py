"""What a benchmark found, and the table that shows it.

Every figure is a minimum, a median and a maximum: one number alone would hide how much the machine
wavers. The ratio is always that of speeds, so above 1 means that ours is faster, whatever the unit.
"""

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Self

_HEADER = (
    "benchmark",
    "ours",
    "peer",
    "ratio",
    "the machine's limit",
    "goal",
    "met",
    "commit",
    "date",
    "CPU",
    "cores",
    "threads",
)


class Spread(NamedTuple):
    """A figure over repeats."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, figures: Sequence[float]) -> Self:
        """Take minimum, median and maximum."""
        return cls(min(figures), statistics.median(figures), max(figures))


@dataclass(frozen=True, kw_only=True)
class Row:
    """One comparison."""

    benchmark: str
    unit: str
    ours: Spread
    peer: Spread
    peer_name: str
    limit: Spread | None = None
    """What the machine could do, in the same unit; None where the peer is that already."""
    limit_name: str = ""
    lower_is_better: bool = False
    goal: str = ""
    """What must hold, in words; empty where the figure is only shown."""
    met: bool | None = None
    threads: int = 1
    """Threads of the arithmetic, on both sides."""
    notes: str = ""
    """What else was checked, with numbers: that both sides did the same work."""

    @property
    def ratio(self) -> float:
        """Speed of ours over the peer's, by medians."""
        ours, peer = self.ours.median, self.peer.median
        return peer / ours if self.lower_is_better else ours / peer


@dataclass(frozen=True, kw_only=True)
class Record:
    """A row, and when and where it was measured."""

    row: Row
    commit: str
    date: str
    """ISO, of the day."""
    cpu: str
    cores: int

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        row = asdict(self.row) | {"ratio": self.row.ratio}
        for name in ("ours", "peer", "limit"):
            spread = getattr(self.row, name)
            row[name] = spread and spread._asdict()
        return asdict(self) | {"row": row}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """Read what `to_json` returned."""
        row = {name: value for name, value in fields["row"].items() if name != "ratio"}
        for name in ("ours", "peer", "limit"):
            row[name] = row[name] and Spread(**row[name])
        return cls(**fields | {"row": Row(**row)})


def merged(old: Iterable[Record], new: Iterable[Record]) -> list[Record]:
    """Put new records in the place of those of the same benchmark, the others behind."""
    by_name = {record.row.benchmark: record for record in old}
    return list((by_name | {record.row.benchmark: record for record in new}).values())


def dumps(records: Iterable[Record]) -> str:
    """Return the JSON file of some records."""
    return json.dumps([record.to_json() for record in records], indent=2) + "\n"


def loads(text: str) -> list[Record]:
    """Read what `dumps` returned."""
    return [Record.from_json(fields) for fields in json.loads(text)]


def rendered(records: Sequence[Record]) -> str:
    """Return a Markdown table, and below it what each benchmark noted."""
    lines = [_line(_HEADER), _line(["---"] * len(_HEADER)), *map(_record_line, records)]
    notes = [f"- **{each.row.benchmark}**: {each.row.notes}" for each in records if each.row.notes]
    return "\n".join([*lines, "", *notes]).rstrip() + "\n"


def shown(spread: Spread, unit: str) -> str:
    """Write a figure as median, unit, and the range in brackets."""
    low, median, high = map(_number, spread)
    return f"{median} {unit} ({low} to {high})"


def _record_line(record: Record) -> str:
    row = record.row
    limit = f"{shown(row.limit, row.unit)}, {row.limit_name}" if row.limit else "the peer"
    cells = [
        row.benchmark,
        shown(row.ours, row.unit),
        f"{shown(row.peer, row.unit)}, {row.peer_name}",
        f"{row.ratio:.2f}",
        limit,
        row.goal or "none",
        {True: "yes", False: "**no**", None: "-"}[row.met],
        record.commit,
        record.date,
        record.cpu,
        str(record.cores),
        str(row.threads),
    ]
    return _line(cells)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _number(value: float) -> str:
    """Three digits that count, thousands separated."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
