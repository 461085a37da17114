"""The home folder as a launcher's: its one lock, its ports, and what runs in it.

Everything lies in `<home>/run`: `launcher.lock` (held while the launcher lives; the kernel lets go
of it, so a kill leaves nothing stale), `launcher.json`, `ports.json`. Other processes read them.
"""

import fcntl
import json
import logging
import os
import random
import signal
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from libs.errors import Conflict, DeadlineExceeded, Forbidden, NotFound, Unavailable

_LOWEST_PORT = 20_000
# What the processes of a launcher that was killed a moment ago need to let go of their ports.
_PORT_PATIENCE_S = 2.0
_log = logging.getLogger(__name__)


class Ports(NamedTuple):
    """Loopback ports of one program."""

    port: int
    metrics_port: int


class Report(NamedTuple):
    """One program as it runs now."""

    name: str
    pid: int
    port: int
    metrics_port: int
    restarts: int


@contextmanager
def owned(home: Path) -> Iterator[None]:
    """Own the folder during the block; made where missing.

    Raises:
        Conflict: another launcher owns it.
        Unavailable: it cannot be written.
    """
    try:
        for name in ("run", "logs"):
            (home / name).mkdir(parents=True, exist_ok=True)
        lock = _lock_path(home).open("a+")
    except OSError as error:
        raise Unavailable(f"{home} cannot be written: {error}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(
                f"launcher {holder(home)} runs in {home} already: ./athanor down ends it, "
                "ATHANOR_HOME chooses another folder"
            ) from None
        lock.truncate(0)
        lock.write(json.dumps({"pid": os.getpid(), "start_time": _start_time(os.getpid())}))
        lock.flush()
        try:
            yield
        finally:
            _status_path(home).unlink(missing_ok=True)
            lock.truncate(0)


def holder(home: Path) -> int | None:
    """Return the process id of the launcher that owns the folder, or None.

    The id counts only with the start time beside it, so a process that got the number of a killed
    launcher is never taken for it. Looking takes no lock: it could refuse a launcher that starts.
    """
    try:
        said = _read(home, _lock_path(home))
        pid, start_time = said["pid"], said["start_time"]
    except (FileNotFoundError, ValueError):
        return None
    return int(pid) if _start_time(pid) == start_time else None


def end(home: Path, *, deadline_s: float = 30.0) -> None:
    """Ask the launcher of the folder to stop and wait until it has.

    Raises:
        NotFound: none runs.
        Forbidden: it belongs to somebody else.
        DeadlineExceeded: it goes on.
    """
    pid = holder(home)
    if pid is None:
        raise NotFound(f"no launcher runs in {home}")
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return
    except PermissionError:
        raise Forbidden(f"launcher {pid} of {home} belongs to another user") from None
    ends_at = time.monotonic() + deadline_s
    while holder(home) == pid:
        if time.monotonic() > ends_at:
            raise DeadlineExceeded(f"launcher {pid} goes on {deadline_s:g} s after SIGTERM")
        time.sleep(0.05)


def write_reports(home: Path, reports: Sequence[Report]) -> None:
    """Write `launcher.json`: `{pid, services: {name: {pid, port, metrics_port, restarts}}}`."""
    services = {report.name: report._asdict() for report in reports}
    for fields in services.values():
        del fields["name"]
    _replace(_status_path(home), {"pid": os.getpid(), "services": services})


def reports(home: Path) -> list[Report]:
    """Return what the launcher of this folder runs; nothing when there is none.

    Raises:
        Unavailable: the folder cannot be read, or is none.
    """
    try:
        status = _read(home, _status_path(home))
    except (FileNotFoundError, ValueError):
        return []
    if status["pid"] != holder(home):
        return []
    return [Report(name=name, **fields) for name, fields in status["services"].items()]


def keep_ports(home: Path, names: Sequence[str]) -> dict[str, Ports]:
    """Return the ports of the folder's programs, the same at every start, and remember them.

    One that a stranger listens on is replaced by another.
    """
    path = home / "run" / "ports.json"
    before: Mapping[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    taken = {port for ports in before.values() for port in ports}
    chosen: dict[str, Ports] = {}
    for name in names:
        kept = [still_free(name, port) for port in before.get(name, (0, 0))]
        chosen[name] = Ports(*(port or unused_port(taken) for port in kept))
    _replace(path, {**before, **chosen})
    return chosen


def still_free(name: str, port: int) -> int:
    """Return the port, or 0 if it is in use for longer than a killed process needs to go."""
    ends_at = time.monotonic() + _PORT_PATIENCE_S
    while port and not _is_free(port):
        if time.monotonic() > ends_at:
            _log.warning("port %d of %s is in use by another process; it gets another", port, name)
            return 0
        time.sleep(0.05)
    return port


def unused_port(taken: set[int]) -> int:
    """Return a free port of loopback that is not among `taken`, and add it there."""
    # Below the range that the kernel takes for outgoing connections: there, a client that knocks
    # at a dead service can be given the service's own port, and connect to itself.
    ephemeral = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    candidates = range(_LOWEST_PORT, max(int(ephemeral[0]), _LOWEST_PORT + 1000))
    for port in random.sample(candidates, len(candidates)):
        if port not in taken and _is_free(port):
            taken.add(port)
            return port
    raise Unavailable(f"no port of 127.0.0.1 is free in {candidates}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return True
    return False


def _start_time(pid: int) -> str:
    """Return when the process started, in ticks since boot; empty if it is dead."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if state in "ZX" else fields[18]


def _read(home: Path, path: Path) -> Any:
    """Return the JSON in a file of the home folder. Raises `FileNotFoundError` and `ValueError`."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Unavailable(f"{home} must be a folder that can be read: {error}") from error


def _replace(path: Path, value: object) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value))
    part.replace(path)


def _lock_path(home: Path) -> Path:
    return home / "run" / "launcher.lock"


def _status_path(home: Path) -> Path:
    return home / "run" / "launcher.json"
