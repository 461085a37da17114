"""A server of `make stack` for one test alone, to be killed, stopped and started again."""

import contextlib
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

from deploy.local.stack import Run, kill, start
from deploy.local.stack.bring import forget
from libs.errors import NotFound
from tests import stack


class OwnServer:
    """One server in a run folder of its own; its port stays the same through restarts.

    Skips the test where the server was never obtained. Leaving the block removes what it held.
    """

    def __init__(self, name: str, folder: Path) -> None:
        stack.require([name])
        self.name = name
        self.run = Run(cache=stack.folder(), folder=folder)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        forget(self.run)

    @property
    def settings(self) -> Mapping[str, str]:
        """What `stack` says of the shared server, of this one."""
        return self.run.settings()

    @property
    def port(self) -> int:
        return self.run.ports()[self.name]["client"]

    def start(self) -> None:
        """Start it and wait until it answers."""
        start(self.run, self.name)

    def kill(self) -> None:
        """End it as a power cut would."""
        with contextlib.suppress(NotFound):
            kill(self.run, self.name)

    def restart(self) -> None:
        """Kill it and start it again."""
        self.kill()
        self.start()

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Let it hang: it accepts connections and answers nothing."""
        kill(self.run, self.name, signal.SIGSTOP)
        try:
            yield
        finally:
            kill(self.run, self.name, signal.SIGCONT)
