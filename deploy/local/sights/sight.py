"""What the looks at servers share; the standard library only."""

import importlib.util
from collections.abc import Callable, Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import NamedTuple

from deploy.local.finding import Finding
from deploy.local.stack.look import Answer
from libs.clock import Clock

Settings = Mapping[str, str]
"""`ATHANOR_<NAME>` to its value."""
START = "make stack-status shows the local ones, make stack starts what is down"
CALL_S = 5.0
"""Deadline of each question."""
_SHOWN = 160


class Sight(NamedTuple):
    """One server as it was seen."""

    findings: list[Finding]
    skew_s: float | None = None
    """Its wall time less ours; None if it does not tell."""


Look = Callable[[Settings, Clock], Sight]


def unreachable(name: str, address: str, error: object) -> Sight:
    """Return the sight of a server that does not answer."""
    return Sight([Finding(name, f"{address} does not answer: {error}", START)])


def untried(name: str, address: str, skew_s: float | None = None) -> Sight:
    """Return the sight of a server that answers, where its client is not installed."""
    found = f"{address} answers, what we may do is not tried: no packages"
    return Sight([Finding(name, found, "make setup")], skew_s)


def has(package: str) -> bool:
    """True if a package can be imported."""
    return importlib.util.find_spec(package) is not None


def denials(
    acts: Mapping[str, Callable[[], object]], refusals: tuple[type[Exception], ...]
) -> Mapping[str, str]:
    """Try each act in turn; return those that are refused, and why."""
    denied = {}
    for name, act in acts.items():
        try:
            act()
        except refusals as error:
            denied[name] = str(error).partition("\n")[0][:_SHOWN]
    return denied


def with_rights(name: str, found: str, denied: Mapping[str, str], remedy: str) -> Finding:
    """Return the finding of a server that answers."""
    told = "; ".join(f"we may not {act}: {why}" for act, why in denied.items())
    return Finding(name, f"{found}; {told or 'all rights'}", remedy if denied else "")


def skew_s(answer: Answer, clock: Clock) -> float | None:
    """Return a server's wall time less ours, to about a second; None if it names none."""
    date = answer.headers.get("date")
    return parsedate_to_datetime(date).timestamp() - clock.now() if date else None


def secret(settings: Settings, name: str) -> str:
    """Return a secret: the setting `<name>`, or what the file `<name>_FILE` holds; else empty."""
    file = settings.get(f"{name}_FILE")
    with suppress(OSError):  # without it the server refuses us, and the finding says so
        return Path(file).read_text().strip() if file else settings.get(name, "")
    return ""
