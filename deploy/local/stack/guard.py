"""Start processes that die with this one, however it ends, until they are released.

A server must outlive the command that started it, but only when all went well. So each waits at a
gate until a reaper watches its group; the reaper kills what it watches when this process ends.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.local.stack import gate
from libs.errors import DeadlineExceeded, Unavailable
from libs.launcher.reap import Reaper, kill_group

_LOOK_S = 0.05
_LAST_LINES, _LINE_WIDTH = 12, 300


@dataclass(frozen=True, kw_only=True)
class Command:
    """What to run."""

    argv: Sequence[str]
    folder: Path
    """Working folder."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Added to this process's own environment."""


class Guard:
    """A block that owns what it starts; leaving it kills all that was not released. Thread-safe."""

    def __enter__(self) -> Self:
        self._lock = threading.Lock()
        self._groups: set[int] = set()
        self._closed = False
        self._reaper = Reaper()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
        self._reaper.close()

    def start(self, command: Command, *, log: Path) -> int:
        """Start a process, the leader of a group of its own, and return its id.

        Raises:
            Unavailable: the guard was told to kill.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        near, far = os.pipe()
        try:
            with log.open("ab") as out:
                pid = _spawned(command, stdin=near, out=out.fileno())
            with self._lock:
                if self._closed:
                    kill_group(pid)
                    os.waitpid(pid, 0)
                    raise Unavailable(f"{command.argv[0]} was not started: everything is ending")
                self._groups.add(pid)
                self._reaper.watch(pid)
            os.write(far, b"!")
        finally:
            os.close(near)
            os.close(far)
        return pid

    def run(self, command: Command, *, log: Path, deadline_s: float) -> None:
        """Run a process to its end.

        Raises:
            Unavailable: it failed; with its last lines.
            DeadlineExceeded: it takes longer, and was killed; with its last lines.
        """
        pid = self.start(command, log=log)
        ends_at = time.monotonic() + deadline_s
        what = " ".join(command.argv[:2])
        try:
            while (code := ended(pid)) is None:
                if time.monotonic() > ends_at:
                    raise DeadlineExceeded(
                        f"{what} takes longer than {deadline_s:g} s:\n{last_lines(log)}"
                    )
                time.sleep(_LOOK_S)
        finally:
            self._bury(pid)
        if code:
            raise Unavailable(f"{what} ended with {code}:\n{last_lines(log)}")

    def release(self) -> None:
        """Let everything live on, all or nothing if this process is killed meanwhile."""
        with self._lock:
            if self._groups:
                self._reaper.forget(*self._groups)
            self._groups.clear()

    def kill(self) -> None:
        """Kill what was not released, and let nothing start any more."""
        with self._lock:
            self._closed = True
            groups = list(self._groups)
        for group in groups:
            self._bury(group)

    def _bury(self, group: int) -> None:
        kill_group(group)
        with self._lock:
            if group in self._groups:
                self._groups.discard(group)
                self._reaper.forget(group)
        with suppress(ChildProcessError):
            os.waitpid(group, 0)


def _spawned(command: Command, *, stdin: int, out: int) -> int:
    argv = [sys.executable, "-I", "-S", gate.__file__, str(command.folder), *command.argv]
    files = [(os.POSIX_SPAWN_DUP2, stdin, 0)]
    files += [(os.POSIX_SPAWN_DUP2, out, 1), (os.POSIX_SPAWN_DUP2, out, 2)]
    env = {**os.environ, **command.env}
    return os.posix_spawn(sys.executable, argv, env, file_actions=files, setsid=True)


def ended(pid: int) -> int | None:
    """Return the exit code of a child, negative for a signal; None while it runs.

    The child stays a zombie, so that its group's number stays taken.
    """
    try:
        found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return -signal.SIGKILL
    if found is None:
        return None
    return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status


def last_lines(log: Path) -> str:
    """Return the end of a log."""
    text = log.read_text("utf-8", errors="replace")
    return "\n".join(line[:_LINE_WIDTH] for line in text.splitlines()[-_LAST_LINES:])
