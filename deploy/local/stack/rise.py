"""Start servers in the order of their needs, and wait until all of them answer."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from deploy.local.stack import processes
from deploy.local.stack.guard import Guard, ended, last_lines
from deploy.local.stack.run import Run
from deploy.local.stack.server import Server, Start
from libs.errors import DeadlineExceeded, Unavailable

_LOOK_S = 0.1


class Rise:
    """One way up; what it starts belongs to `guard`."""

    def __init__(
        self, run: Run, guard: Guard, *, say: Callable[[str, str], None], ready_s: float
    ) -> None:
        self._run = run
        self._guard = guard
        self._say = say
        self._ready_s = ready_s
        self._refusal = ""
        """Why a server that answers is not ready."""
        self._pids: dict[str, int] = {}
        """Of what was started here."""

    def start(self, servers: Sequence[Server], *, dead: Sequence[Server]) -> None:
        """Start those that are dead and return when all `servers` answer.

        Raises:
            Unavailable: a server ended instead of answering; with its last lines.
            DeadlineExceeded: one does not answer in time; with its last lines.
        """
        self._began = time.monotonic()
        waiting = {each.name: each for each in servers}
        unstarted = {each.name: each for each in dead}
        while waiting:
            for each in list(unstarted.values()):
                if not waiting.keys() & set(each.needs):
                    self._start(unstarted.pop(each.name))
            for name in waiting.keys() - unstarted.keys():
                if self._is_ready(waiting[name]):
                    del waiting[name]
            if waiting:
                self._check_deadline(sorted(waiting))
                time.sleep(_LOOK_S)

    def _start(self, server: Server) -> None:
        self._say(server.name, "starting")
        command = server.command(self._look(server), self._guard)
        mark = processes.mark(self._run.folder, server.name)
        command = replace(command, env={**command.env, **mark})
        self._pids[server.name] = self._guard.start(command, log=self._run.log(server.name))

    def _is_ready(self, server: Server) -> bool:
        log = self._run.log(server.name)
        pid = self._pids.get(server.name)
        if pid is not None and (code := ended(pid)) is not None:
            raise Unavailable(
                f"{server.name} ended with {code} instead of answering:\n{last_lines(log)}"
            )
        look = self._look(server)
        try:
            if not server.is_ready(look):
                return False
            if pid is not None:
                server.once_ready(look)
        except Unavailable as error:
            self._refusal = str(error)
            return False
        took_s = time.monotonic() - self._began
        self._say(server.name, "runs already" if pid is None else f"ready after {took_s:.1f} s")
        return True

    def _check_deadline(self, waiting: Sequence[str]) -> None:
        if time.monotonic() - self._began < self._ready_s:
            return
        raise DeadlineExceeded(
            f"waited {self._ready_s:g} s for {', '.join(waiting)} to answer:\n"
            f"{self._refusal}\n"
            f"{last_lines(self._run.log(waiting[0]))}"
        )

    def _look(self, server: Server) -> Start:
        return Start(run=self._run, name=server.name)
