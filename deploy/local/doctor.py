"""Say what this machine lacks and how to get it: the first thing to ask when nothing works."""

import importlib.util
import os
import shutil
import socket
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement

from deploy.local.programs import SERVICES

MIN_FREE_BYTES = 2 * 2**30
MIN_MEMORY_BYTES = 4 * 2**30


class Finding(NamedTuple):
    """One thing looked at; `remedy` is empty when it is well."""

    name: str
    found: str
    remedy: str = ""
    needed: bool = True


def examine(home: Path) -> list[Finding]:
    """Look at everything that a round on this machine needs."""
    looks: tuple[Callable[[], Finding], ...] = (
        _python,
        _cores,
        _memory,
        lambda: _disk(home),
        _loopback,
        _packages,
        lambda: _tool("chromium", "apt-get install chromium", "to look at reports from a script"),
        lambda: _tool(
            "java", "apt-get install openjdk-17-jre-headless", "for Kafka, cluster profile"
        ),
        lambda: _tool("go", "install Go 1.26", "for MinIO, cluster profile"),
    )
    return [look() for look in looks]


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


def _packages() -> Finding:
    """Compare what is installed with the ranges that `athanor` itself declares."""
    if importlib.util.find_spec("athanor") is None:
        return Finding("packages", "none", "make setup")
    try:
        wrong = [
            str(need) for need in map(Requirement, requires("athanor") or ()) if not _met(need)
        ]
    except PackageNotFoundError:
        return Finding("packages", "athanor is not installed", "make setup")
    found = f"{', '.join(wrong)} missing" if wrong else "all there"
    return Finding("packages", found, "make setup" if wrong else "")


def _met(need: Requirement) -> bool:
    """True if the requirement is not ours to have, or is there in a version that fits."""
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
