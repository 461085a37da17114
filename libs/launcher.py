"""Start, watch and stop the processes of one home folder: the embedded profile's supervisor.

A dead process is started again, its whole process group killed first. Children die with the
launcher, even when it is killed with -9: each sets PR_SET_PDEATHSIG before it becomes its program.
Not protected against: a program that leaves its process group.
"""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

from libs.errors import Conflict, DeadlineExceeded, NotFound, Unavailable

READY_S = 90.0
"""Time for a process to answer its health check; a cold import of torch takes 20 s."""
_MAX_PAUSE_S = 10.0
_STEADY_S = 30.0
"""A process that lived so long starts again without a pause."""
_LAST_LINES = 12
# Runs in the child, after exec, so that no fork of a threaded process runs Python code: ask for
# SIGKILL when the parent dies, look whether it died before that, become the program.
_ADOPT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the launcher is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


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


@dataclass
class _Running:
    """A program's process, and when it was started."""

    process: "subprocess.Popen[bytes]"
    started_at: float
    restarts: int = 0
    due_at: float = 0.0
    """Monotonic time of the next start while it is dead."""


class Launcher:
    """Owns one home folder while it runs; use `start`, then `tend` from time to time, then `stop`.

    All three belong to the main thread: a child dies with the thread that started it.
    """

    def __init__(self, home: Path, programs: Sequence[Program]) -> None:
        self._home = home.resolve()
        self._programs = {program.name: program for program in programs}
        self._running: dict[str, _Running] = {}
        self._ports: dict[str, Ports] = {}
        self._lock: IO[str] | None = None

    def start(self, on_ready: Callable[[str], None] = lambda _: None) -> Mapping[str, Ports]:
        """Take the home folder and start every program; return when all of them answer.

        Raises:
            Conflict: another launcher has the folder.
            Unavailable: a program ended instead of answering; its last lines are in the message.
            DeadlineExceeded: a program does not answer within `READY_S`.
        """
        (self._home / "run").mkdir(parents=True, exist_ok=True)
        (self._home / "logs").mkdir(exist_ok=True)
        self._lock = _take(self._home)
        self._ports = _choose_ports(self._home / "run" / "ports.json", tuple(self._programs))
        try:
            for name in self._programs:
                self._running[name] = _Running(self._spawn(name), time.monotonic())
            self._write_status()
            for name in self._programs:
                self._await(name)
                on_ready(name)
        except BaseException:
            self.stop(grace_s=1.0)
            raise
        return self._ports

    def tend(self) -> list[str]:
        """Start again what died; return the names. Call it a few times a second."""
        revived = []
        for name, running in self._running.items():
            if running.process.poll() is None:
                continue
            if not running.due_at:
                _kill_group(running.process.pid)
                running.due_at = time.monotonic() + _pause_s(running)
            elif time.monotonic() >= running.due_at:
                again = _Running(self._spawn(name), time.monotonic(), running.restarts + 1)
                self._running[name] = again
                revived.append(name)
        if revived:
            self._write_status()
        return revived

    def stop(self, grace_s: float = 10.0) -> None:
        """End every program: SIGTERM in reverse order, SIGKILL to its group after `grace_s`."""
        processes = [running.process for running in reversed(self._running.values())]
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        ends_at = time.monotonic() + grace_s
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(ends_at - time.monotonic(), 0.0))
            _kill_group(process.pid)
            process.wait()
        self._running.clear()
        if self._lock is not None:
            _status_path(self._home).unlink(missing_ok=True)
            self._lock.close()
            self._lock = None

    def _spawn(self, name: str) -> "subprocess.Popen[bytes]":
        program = self._programs[name]
        argv = [part.format(port=self._ports[name].port) for part in program.argv]
        with (self._home / "logs" / f"{name}.out").open("ab") as out:
            return subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _ADOPT, str(os.getpid()), *argv],
                env={**os.environ, **program.env(self._ports)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _await(self, name: str) -> None:
        ready = answers_health if self._programs[name].health else accepts_connections
        ends_at = time.monotonic() + READY_S
        while not ready(self._ports[name].port):
            if self._running[name].process.poll() is not None:
                raise Unavailable(f"{name} ended instead of answering:\n{self._last_lines(name)}")
            if time.monotonic() > ends_at:
                raise DeadlineExceeded(
                    f"{name} did not answer on port {self._ports[name].port} within {READY_S:.0f} s:"
                    f"\n{self._last_lines(name)}"
                )
            time.sleep(0.05)

    def _last_lines(self, name: str) -> str:
        text = (self._home / "logs" / f"{name}.out").read_text("utf-8", errors="replace")
        return "\n".join(text.splitlines()[-_LAST_LINES:])

    def _write_status(self) -> None:
        reports = [
            Report(name, running.process.pid, *self._ports[name], running.restarts)._asdict()
            for name, running in self._running.items()
        ]
        _replace(_status_path(self._home), {"pid": os.getpid(), "programs": reports})


def reports(home: Path) -> list[Report]:
    """Return what the launcher of this folder runs; nothing when there is none."""
    if holder(home) is None:
        return []
    try:
        status = json.loads(_status_path(home).read_text())
    except (FileNotFoundError, ValueError):
        return []
    return [Report(**fields) for fields in status["programs"]]


def holder(home: Path) -> int | None:
    """Return the process id of the launcher that has the folder, or None."""
    try:
        with _lock_path(home).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return None
    except FileNotFoundError:
        return None
    except BlockingIOError:
        return int(_lock_path(home).read_text() or 0) or None


def end(home: Path, *, deadline_s: float = 30.0) -> None:
    """Ask the launcher of the folder to stop and wait until it has.

    Raises:
        NotFound: none runs.
        DeadlineExceeded: it goes on.
    """
    pid = holder(home)
    if pid is None:
        raise NotFound(f"no launcher runs in {home}")
    os.kill(pid, signal.SIGTERM)
    ends_at = time.monotonic() + deadline_s
    while holder(home) is not None:
        if time.monotonic() > ends_at:
            raise DeadlineExceeded(f"launcher {pid} goes on {deadline_s:.0f} s after SIGTERM")
        time.sleep(0.05)


@contextmanager
def signals_as_interrupt() -> Iterator[None]:
    """Turn SIGTERM into KeyboardInterrupt, so that one clean-up path serves both."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def answers_health(port: int) -> bool:
    """True if the gRPC server on loopback says SERVING."""
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=1.0
            )
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def accepts_connections(port: int) -> bool:
    """True if something listens on the loopback port."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0):
            return True
    except OSError:
        return False


def _take(home: Path) -> IO[str]:
    lock = _lock_path(home).open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise Conflict(
            f"launcher {holder(home)} runs in {home} already: ./athanor down ends it, "
            "ATHANOR_HOME chooses another folder"
        ) from None
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def _choose_ports(path: Path, names: Sequence[str]) -> dict[str, Ports]:
    """Return last time's ports where they are free, others elsewhere, and remember them."""
    before: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    chosen = {
        name: Ports(*(_free_port(wanted) for wanted in before.get(name, (0, 0)))) for name in names
    }
    _replace(path, before | chosen)
    return chosen


def _free_port(wanted: int) -> int:
    for port in (wanted, 0):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)) as server:
            return int(server.getsockname()[1])
    raise Unavailable("no free port on 127.0.0.1")


def _pause_s(running: _Running) -> float:
    if time.monotonic() - running.started_at > _STEADY_S:
        return 0.01
    return float(min(0.1 * 2**running.restarts, _MAX_PAUSE_S))


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _replace(path: Path, value: object) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value))
    part.replace(path)


def _lock_path(home: Path) -> Path:
    return home / "run" / "launcher.lock"


def _status_path(home: Path) -> Path:
    return home / "run" / "launcher.json"
