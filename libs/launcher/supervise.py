"""The launcher: starts programs, starts again what died, leaves nothing behind when it ends.

One process group a program. What died is buried before it is started again: the whole group is
killed while its dead leader still holds the group's number, so no stranger is ever hit.
"""

import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from libs.clock import pause_s
from libs.errors import DeadlineExceeded, Unavailable
from libs.launcher.adopt import adopted
from libs.launcher.home import Ports, Report, keep_ports, owned, write_reports
from libs.launcher.ready import accepts_connections, answers_health
from libs.launcher.reap import Reaper, kill_group
from libs.tls import Tls

READY_S = 90.0
"""Time for a process to answer its health check; a cold import of torch takes 20 s."""
_STEADY_S = 10.0
"""A process that lived so long is started again at once; shorter lives double the pause."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 10.0
_MAX_FALSE_STARTS = 3
_LAST_LINES = 12
_LOG_BYTES = 4 * 2**20
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Program:
    """One process to keep running."""

    name: str
    argv: tuple[str, ...]
    """Executable and arguments; `{port}` stands for its port."""
    env: Callable[[Mapping[str, Ports]], Mapping[str, str]] = lambda _: {}
    """Its settings, given everybody's ports; added to the launcher's own environment."""
    health: bool = True
    """True: it answers `grpc.health.v1`. False: it accepts connections when it is ready."""
    tls: Tls | None = None
    """Who asks it whether it is ready, where it speaks TLS; None: plain."""


@dataclass
class _Running:
    """A program's process, alive or waiting for its next start."""

    process: "subprocess.Popen[bytes]"
    started_at: float
    """Monotonic seconds."""
    restarts: int = 0
    short_lives: int = 0
    """Lives in a row that ended before `_STEADY_S`."""
    due_at: float | None = None
    """Monotonic time of the next start while it is dead."""


class Launcher:
    """Owns one home folder while it runs; use `start`, then `tend` from time to time, then `stop`.

    All three belong to the main thread: a child dies with the thread that started it.
    """

    def __init__(self, home: Path, programs: Sequence[Program]) -> None:
        self._home = home.resolve()
        self._programs = {program.name: program for program in programs}
        self._running: dict[str, _Running] = {}
        self._is_told = True
        """False while the file that says who runs is not as it should be."""
        self._ports: dict[str, Ports] = {}
        self._reaper: Reaper | None = None
        self._open = ExitStack()

    def start(
        self, on_ready: Callable[[str], None] = lambda _: None, *, ready_s: float = READY_S
    ) -> Mapping[str, Ports]:
        """Take the home folder and start every program; return when all of them answer.

        Raises:
            Conflict: another launcher has the folder.
            Unavailable: the folder cannot be written, or a program ended three times instead of
                answering; its last lines are in the message.
            DeadlineExceeded: a program does not answer within `ready_s`; with its last lines.
        """
        self._open.enter_context(owned(self._home))
        try:
            self._ports = keep_ports(self._home, tuple(self._programs))
            self._reaper = Reaper()
            self._open.callback(self._reaper.close)
            for name in self._programs:
                self._running[name] = self._spawned(name)
            self._write_status()
            ends_at = time.monotonic() + ready_s
            for name in self._programs:
                self._await(name, ends_at)
                on_ready(name)
        except BaseException:
            self.stop(grace_s=1.0)
            raise
        return self._ports

    def tend(self) -> list[str]:
        """Start again what died; return the names. Call it a few times a second."""
        assert self._reaper is not None, "start comes first"
        self._reaper.tend()
        revived = []
        for name, running in self._running.items():
            if running.due_at is None and _has_ended(running.process):
                self._bury(name)
            elif running.due_at is not None and time.monotonic() >= running.due_at:
                again = self._respawned(name, running)
                if again is not None:
                    self._running[name] = again
                    revived.append(name)
        self._is_told = self._is_told and not revived
        if not self._is_told:
            self._tell()
        return revived

    def _respawned(self, name: str, before: _Running) -> _Running | None:
        """Start a program again; None when the machine has no room for it now."""
        try:
            again = self._spawned(name)
        except OSError as error:
            _log.warning("%s cannot be started yet: %s", name, error)
            before.due_at = time.monotonic() + _LONGEST_PAUSE_S
            return None
        again.restarts, again.short_lives = before.restarts + 1, before.short_lives
        return again

    def _tell(self) -> None:
        """Write who runs; a full disk is no reason to end them, so then at the next turn."""
        try:
            self._write_status()
            self._is_told = True
        except OSError as error:
            _log.warning("cannot write who runs, trying again: %s", error)

    def stop(self, grace_s: float = 10.0) -> None:
        """End every program: SIGTERM in reverse order, SIGKILL to its group after `grace_s`.

        Idempotent.
        """
        alive = {name: each for name, each in self._running.items() if each.due_at is None}
        for running in reversed(alive.values()):
            os.kill(running.process.pid, signal.SIGTERM)
        ends_at = time.monotonic() + grace_s
        while not all(_has_ended(each.process) for each in alive.values()):
            if time.monotonic() > ends_at:
                break
            time.sleep(0.02)
        for name in reversed(alive):
            self._bury(name, expected=True)
        self._running.clear()
        self._open.close()

    def _spawned(self, name: str) -> _Running:
        assert threading.current_thread() is threading.main_thread(), "children die with a thread"
        assert self._reaper is not None
        program = self._programs[name]
        argv = [part.replace("{port}", str(self._ports[name].port)) for part in program.argv]
        with self._out(name).open("ab") as out:
            if out.tell() > _LOG_BYTES:
                out.truncate(0)
            process = subprocess.Popen(
                adopted(argv),
                env={**os.environ, **program.env(self._ports)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._reaper.watch(process.pid)
        return _Running(process, time.monotonic())

    def _bury(self, name: str, *, expected: bool = False) -> None:
        """Kill the rest of a program's group, then let go of its leader; plan the next start."""
        assert self._reaper is not None
        running = self._running[name]
        kill_group(running.process.pid)
        self._reaper.forget(running.process.pid)
        code = running.process.wait()
        lived_s = time.monotonic() - running.started_at
        running.short_lives = running.short_lives + 1 if lived_s < _STEADY_S else 0
        rest_s = pause_s(running.short_lives, first_s=_FIRST_PAUSE_S, longest_s=_LONGEST_PAUSE_S)
        running.due_at = time.monotonic() + (rest_s if running.short_lives else 0.0)
        if not expected:
            _log.warning("%s ended with %d after %.1f s; it is started again", name, code, lived_s)

    def _await(self, name: str, ends_at: float) -> None:
        program = self._programs[name]
        ready = answers_health if program.health else accepts_connections
        while not ready(self._ports[name].port, program.tls):
            self.tend()
            if self._running[name].short_lives >= _MAX_FALSE_STARTS:
                raise Unavailable(f"{name} ended instead of answering:\n{self._last_lines(name)}")
            if time.monotonic() > ends_at:
                raise DeadlineExceeded(f"{name} did not answer in time:\n{self._last_lines(name)}")
            time.sleep(0.05)

    def _last_lines(self, name: str) -> str:
        text = self._out(name).read_text("utf-8", errors="replace")
        return "\n".join(text.splitlines()[-_LAST_LINES:])

    def _out(self, name: str) -> Path:
        return self._home / "logs" / f"{name}.out"

    def _write_status(self) -> None:
        write_reports(
            self._home,
            [
                Report(name, running.process.pid, *self._ports[name], running.restarts)
                for name, running in self._running.items()
            ],
        )


@contextmanager
def signals_as_interrupt() -> Iterator[None]:
    """Turn the first SIGTERM into KeyboardInterrupt, so that one clean-up path serves both."""

    def interrupt(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one would cut the clean-up short
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _has_ended(process: "subprocess.Popen[bytes]") -> bool:
    """True if the process is dead; it stays a zombie, so that its group's number stays taken."""
    if process.returncode is not None:
        return True
    options = os.WEXITED | os.WNOHANG | os.WNOWAIT
    return os.waitid(os.P_PID, process.pid, options) is not None
