"""The processes of one home folder, started as a person starts them: `./athanor up --foreground`.

Everything waits with a deadline, generous since machines are shared; nothing is found by name.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from deploy.local.programs import ROOT, SERVICES
from libs import launcher

LEASE_S = 2.0
"""Small, so that a drill need not wait long for a take-over."""
PATIENCE_S = 300.0
"""The longest wait for anything; a drill that needs it has failed."""
T = TypeVar("T")


class Failed(Exception):
    """The drill shows that something does not hold."""


class Unable(Exception):
    """This machine lacks what the drill needs."""


def settings() -> dict[str, str]:
    """Return what the services of a drill are told beyond their defaults."""
    leases = {f"{name.upper()}_LEASE_S": str(LEASE_S) for name in SERVICES}
    # One thread: two spin against whatever else the machine does. A snapshot now and then, or a
    # short training would always begin anew.
    return {**leases, "LM_NUM_THREADS": "1", "TRAINER_SNAPSHOT_S": "0.05"}


def environment(home: Path, more: Mapping[str, str] = {}) -> dict[str, str]:
    """Return the environment of a command on this home folder."""
    own = {"ATHANOR_HOME": str(home), "PYTHONPATH": str(ROOT)}
    return {**os.environ, **settings(), **more, **own}


def wait_for(look: Callable[[], T | None], what: str, *, patience_s: float = PATIENCE_S) -> T:
    """Return what `look` finds at last. Raises `Failed` when it does not."""
    give_up = time.monotonic() + patience_s
    while (found := look()) is None:
        if time.monotonic() > give_up:
            raise Failed(f"waited {patience_s:g} s for {what}")
        time.sleep(0.02)
    return found


class Stack:
    """Supervisor and services of one home folder; leaving the block ends them, gently if it can."""

    def __init__(
        self, home: Path, *, site: Path | None = None, more: Mapping[str, str] = {}
    ) -> None:
        self.home = home
        self._site = site
        self.more = more
        """Settings beyond those of all drills."""
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and return when everything answers. Raises `Failed`."""
        argv = [sys.executable, "-m", "deploy.local", "up", "--foreground"]
        argv += ["--site", str(self._site)] if self._site else []
        with (self.home.parent / "up.log").open("ab") as log:
            self._process = process = subprocess.Popen(
                launcher.adopted(argv),
                env=environment(self.home, self.more),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        ready = self.home / "run" / "ready"

        def answers() -> bool | None:
            if process.poll() is not None:
                raise Failed(f"the launcher ended with {process.returncode}, see up.log")
            return (ready.exists() and ready.read_text() == str(process.pid)) or None

        wait_for(answers, "the services to answer")

    def report(self, service: str) -> launcher.Report:
        """Return what the launcher says of a service."""
        return next(each for each in launcher.reports(self.home) if each.name == service)

    def pids(self) -> dict[str, int]:
        """Return each service's process."""
        return {each.name: each.pid for each in launcher.reports(self.home)}

    @contextmanager
    def stopped(self, service: str) -> Iterator[None]:
        """Let a service hang."""
        group = self.report(service).pid
        os.killpg(group, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(group, signal.SIGCONT)

    def await_restart(self, service: str, before: launcher.Report) -> launcher.Report:
        """Return the report of a service once the launcher has started it again and it answers."""

        def again() -> launcher.Report | None:
            now = self.report(service)
            restarted = now.pid != before.pid and now.restarts > before.restarts
            return now if restarted and launcher.answers_health(now.port) else None

        return wait_for(again, f"{service} to be started again")

    def kill_launcher(self) -> None:
        """Kill the supervisor, and see that everything dies with it. Raises `Failed`."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        await_nobody(self.home)

    def stop(self) -> None:
        """Ask the supervisor to end, if it runs, and see that nothing is left. Raises `Failed`."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                raise Failed(f"the launcher goes on {PATIENCE_S:g} s after SIGTERM") from None
        await_nobody(self.home)

    def destroy(self) -> None:
        """End everything at once, whatever state it is in."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        for pid in processes(self.home):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def await_nobody(home: Path) -> None:
    """Return once no process of this home folder lives. Raises `Failed` with what is left."""
    give_up = time.monotonic() + 20.0
    while left := processes(home):
        if time.monotonic() > give_up:
            raise Failed(f"processes are left: {'; '.join(map(_command, left))}")
        time.sleep(0.02)


def processes(home: Path) -> list[int]:
    """Return the living processes that were started for this home folder."""
    mark = f"ATHANOR_HOME={home}\0".encode()
    found = []
    for folder in Path("/proc").iterdir():
        # A zombie's is empty; one that goes away meanwhile is none.
        with suppress(OSError):
            if folder.name.isdigit() and mark in (folder / "environ").read_bytes() + b"\0":
                found.append(int(folder.name))
    return found


def mount(*arguments: str) -> bool:
    """Call `mount`; True if it did so."""
    try:
        return not subprocess.run(
            ["mount", *arguments], check=False, capture_output=True
        ).returncode
    except FileNotFoundError:
        return False


def _command(pid: int) -> str:
    with suppress(OSError):
        return f"{pid} {Path(f'/proc/{pid}/cmdline').read_bytes().replace(bytes(1), b' ').decode()}"
    return str(pid)
