"""Which processes belong to a run, asked of the kernel: no file can be out of date.

Every server carries a mark in its environment, which its children inherit; nothing else does. So a
stranger with a reused id is never hit, and a server's children are found when it is dead.
"""

import os
import signal
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

_MARK = "ATHANOR_STACK_SERVER"
_LOOK_S = 0.02
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def mark(run: Path, name: str) -> Mapping[str, str]:
    """Return what a server's environment carries."""
    return {_MARK: f"{run}:{name}"}


def members(run: Path) -> Mapping[str, list[int]]:
    """Return the living processes of each server, the one that was started first.

    One that is alone without the process that was started is the rest of a dead server.
    """
    found = defaultdict(list)
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (name := _name(int(folder.name), run)):
            found[name].append(int(folder.name))
    return {name: sorted(pids, key=lambda pid: not leads(pid)) for name, pids in found.items()}


def leads(pid: int) -> bool:
    """True if the process leads its group: it is the one that was started."""
    with suppress(ProcessLookupError):
        return os.getpgid(pid) == pid
    return False


def send(run: Path, name: str, pids: Sequence[int], number: int) -> None:
    """Send a signal to those of `pids` that still are the server's."""
    for pid in pids:
        with suppress(ProcessLookupError):
            file = os.pidfd_open(pid)
            try:
                if _name(pid, run) == name:
                    signal.pidfd_send_signal(file, number)
            finally:
                os.close(file)


def await_end(
    run: Path, names: Sequence[str], *, deadline_s: float, pids: Iterable[int] = ()
) -> bool:
    """Return whether all processes of the servers, and `pids`, end in time."""
    give_up = time.monotonic() + deadline_s
    seen = set(pids)
    while True:
        running = members(run)
        seen |= {pid for name in names for pid in running.get(name, [])}
        if not any(map(_lives, seen)):
            return True
        if time.monotonic() > give_up:
            return False
        time.sleep(_LOOK_S)


def _lives(pid: int) -> bool:
    """True until the process holds nothing any more; its mark is gone well before its files are."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def reap(pids: Iterable[int]) -> None:
    """Let go of those that were children of this process and have ended."""
    for pid in pids:
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def resident_bytes(pids: Sequence[int]) -> int:
    """Return the memory that the processes hold, what they share counted for each."""
    pages = 0
    for pid in pids:
        with suppress(OSError):
            pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * _PAGE_BYTES


def _name(pid: int, run: Path) -> str:
    """Return the server that a process belongs to; empty for strangers, the dead and zombies."""
    start = f"{_MARK}={run}:".encode()
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            if line.startswith(start):
                return line.removeprefix(start).decode()
    return ""
