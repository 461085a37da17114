"""Say what this machine lacks and how to get it: the first thing to ask when nothing works.

So it must run where no package is installed: everything else is imported where it is used.
"""

import importlib.util
import json
import os
import shutil
import socket
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.local import sights
from deploy.local.finding import Finding
from deploy.local.stack.run import Run
from libs.clock import Clock

if TYPE_CHECKING:
    from packaging.requirements import Requirement

MIN_FREE_BYTES = 2 * 2**30
MIN_MEMORY_BYTES = 4 * 2**30


def run(home: Path, *, as_json: bool) -> int:
    """Print what was found; return 1 if something needed is missing, else 0."""
    found = examine(home)
    lines = [json.dumps([each._asdict() for each in found])] if as_json else map(_line, found)
    print("\n".join(lines))  # noqa: T201 - the command's output
    return 1 if any(each.remedy and each.needed for each in found) else 0


def _line(each: Finding) -> str:
    mark = "ok" if not each.remedy else ("MISSING" if each.needed else "optional")
    return f"{mark:<9}{each.name:<14} {each.found}{f'; {each.remedy}' if each.remedy else ''}"


def examine(home: Path) -> list[Finding]:
    """Look at everything that a round on this machine needs."""
    looks: tuple[Callable[[], Finding], ...] = (
        _python,
        _cores,
        _memory,
        lambda: _disk(home),
        _loopback,
        _venv,
        _packages,
        lambda: _tool("chromium", "apt-get install chromium", "to look at reports from a script"),
        lambda: _tool(
            "java", "apt-get install openjdk-17-jre-headless", "for Kafka, cluster profile"
        ),
        lambda: _tool("mvn", "apt-get install maven", "to fetch Kafka and Elasticsearch"),
        lambda: _tool("go", "install Go 1.26", "for MinIO, cluster profile"),
    )
    return [*(look() for look in looks), *_servers()]


def _servers() -> list[Finding]:
    """Look at the servers that the environment names, else at those of the local stack."""
    settings = {**Run.of(os.environ).settings(), **os.environ}
    return sights.examine(settings, Clock())


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    return Finding(
        "python", found, "" if sys.version_info >= (3, 11) else "install Python 3.11 or newer"
    )


def _cores() -> Finding:
    count = len(os.sched_getaffinity(0))
    return Finding(
        "cores", str(count), "" if count >= 2 else "the demo takes twice as long on one core", False
    )


def _memory() -> Finding:
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Finding(
        "memory", f"{size / 2**30:.0f} GiB", "" if size >= MIN_MEMORY_BYTES else "4 GiB are needed"
    )


def _disk(home: Path) -> Finding:
    place = next(path for path in (home.resolve(), *home.resolve().parents) if path.exists())
    free = shutil.disk_usage(place).free
    remedy = (
        ""
        if free >= MIN_FREE_BYTES
        else f"free 2 GiB, or set ATHANOR_HOME to another disk than {place}"
    )
    return Finding("disk", f"{free / 2**30:.0f} GiB free", remedy)


def _loopback() -> Finding:
    try:
        with socket.create_server(("127.0.0.1", 0)):
            return Finding("loopback", "a port can be bound")
    except OSError as error:
        return Finding("loopback", str(error), "services talk over 127.0.0.1: allow it")


def _venv() -> Finding:
    """Look for what `make setup` begins with; once it is done, that is no longer needed."""
    missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    found = f"module {' and '.join(missing)} absent" if missing else "can be made"
    remedy = "apt-get install python3-venv, then make setup" if missing else ""
    return Finding("venv", found, remedy, needed=not _is_set_up())


def _is_set_up() -> bool:
    return all(importlib.util.find_spec(name) for name in ("athanor", "packaging"))


def _packages() -> Finding:
    """Compare what is installed with the ranges that `athanor` itself declares."""
    if not _is_set_up():
        return Finding("packages", "not installed", "make setup")
    from packaging.requirements import Requirement

    try:
        wrong = [
            str(need) for need in map(Requirement, requires("athanor") or ()) if not _met(need)
        ]
    except PackageNotFoundError:
        return Finding("packages", "athanor is not installed", "make setup")
    found = f"{', '.join(wrong)} missing" if wrong else "all there"
    return Finding("packages", found, "make setup" if wrong else "")


def _met(need: "Requirement") -> bool:
    """True if the requirement is not ours to have, or is there in a version that fits."""
    from deploy.local.programs import SERVICES

    extras = ("", *SERVICES)
    if need.marker is not None and not any(need.marker.evaluate({"extra": e}) for e in extras):
        return True
    try:
        return not need.specifier or need.specifier.contains(version(need.name), prereleases=True)
    except PackageNotFoundError:
        return False


def _tool(name: str, how: str, why: str) -> Finding:
    path = shutil.which(name)
    return Finding(name, "there" if path else f"absent ({why})", "" if path else how, needed=False)
