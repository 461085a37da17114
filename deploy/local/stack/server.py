"""What a server is to the stack: how it is had, started, found ready, and told to others."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local.stack.guard import Command, Guard
from deploy.local.stack.run import Run

Ports = Mapping[str, int]
"""Port by its name, as in `Server.ports`."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """One start of one server, or the look at one that runs."""

    run: Run
    name: str

    @property
    def folder(self) -> Path:
        """Its configuration and data."""
        return self.run.folder / self.name

    @property
    def ports(self) -> Ports:
        """Its own ports."""
        return self.run.ports()[self.name]


@dataclass(frozen=True, kw_only=True)
class Server:
    """One server; a new one is a module with one of these and a row in `servers`."""

    name: str
    version: str
    ports: tuple[str, ...]
    """Names of its ports, the one that clients use first."""
    parts: Mapping[str, Callable[[Path, Guard, Path], None]]
    """Folder in the cache to what fills it: `fill(folder, guard, log)`."""
    command: Callable[[Start, Guard], Command]
    """Writes its configuration and returns what to run."""
    is_ready: Callable[[Start], bool]
    settings: Callable[[Start], Mapping[str, str]]
    """What others must know of it, `ATHANOR_<NAME>` by name."""
    once_ready: Callable[[Start], None] = lambda _: None
    """What to do when it was started and answers, before others may need it; safe to repeat. While
    it raises `Unavailable`, the server counts as not ready."""
    strays: Callable[[Start, Sequence[int]], Sequence[Path]] = lambda *_: ()
    """What its processes would leave outside its folder if they were killed now."""
    needs: tuple[str, ...] = ()
    """Servers that must answer before it starts."""
    scrape: Mapping[str, str] = field(default_factory=dict)
    """Prometheus: label to value, and `port`, the name of the port to ask; empty: none."""
