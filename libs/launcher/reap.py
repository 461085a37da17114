"""Kill the process groups that a killed launcher leaves: a small process that outlives it.

The kernel kills a launcher's children with it (`adopt`), but not their children in turn. This one
reads from the launcher which groups live; its pipe ends when the launcher does, and then it kills
them. The child's part runs as a script and imports the standard library only.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress


class Reaper:
    """The launcher's end. A reaper that was killed itself is started again by `tend`."""

    def __init__(self) -> None:
        self._groups: set[int] = set()
        self._process = _start(self._groups)

    def watch(self, group: int) -> None:
        """Kill `group` if this process ends before `forget`."""
        self._groups.add(group)
        self._send(f"+{group}")

    def forget(self, *groups: int) -> None:
        """Let them be, all or none if this process is killed meanwhile.

        A dead group's number may go to others.
        """
        self._groups.difference_update(groups)
        self._send("\n".join(f"-{group}" for group in groups))

    def tend(self) -> None:
        """Start the reaper again if it is dead."""
        if self._process.poll() is None:
            return
        self._close_pipe()
        self._process = _start(self._groups)

    def close(self) -> None:
        """End the reaper; it kills what it still watches."""
        self._close_pipe()
        self._process.wait()

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # dead: the next is told by `tend`
            self._process.stdin.write(f"{line}\n".encode())
            self._process.stdin.flush()

    def _close_pipe(self) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()


def _start(groups: Iterable[int]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, *map(str, groups)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # Out of reach of the terminal's Ctrl-C and of a kill of the launcher's group.
        start_new_session=True,
    )


def kill_group(group: int) -> None:
    """Send SIGKILL to every process of a group; one that is gone is no error."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def reap(groups: set[int], lines: Iterable[str]) -> None:
    """Change `groups` as `lines` tell, `+<group>` or `-<group>`; kill them when the lines end."""
    for line in lines:
        (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
    for group in groups:
        kill_group(group)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    reap(set(map(int, sys.argv[1:])), sys.stdin)
