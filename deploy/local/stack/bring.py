"""Bring a stack up and down, whole or one server; safe to repeat and to kill at any moment.

What a call started dies with it unless all of it answered; what ran before is left alone. Every
verb waits for the one before it on the same run.
"""

import json
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from deploy.local.stack import processes
from deploy.local.stack.guard import Guard
from deploy.local.stack.obtain import obtain
from deploy.local.stack.rise import Rise
from deploy.local.stack.run import Run
from deploy.local.stack.server import Server, Start
from deploy.local.stack.servers import SERVERS, chosen, default, with_needs
from libs.errors import Conflict, DeadlineExceeded, NotFound

READY_S = 300.0
"""Time for all servers to answer: Elasticsearch took 9 s on an idle machine, 70 s on a full one."""
GRACE_S = 15.0
_KILL_TRIES, _KILL_S = 30, 1.0
Say = Callable[[str, str], None]
"""Told a server and what became of it."""


class Status(NamedTuple):
    """One server as it is now."""

    name: str
    state: str
    """`ready`, `not answering` or `down`."""
    version: str
    address: str
    pid: int
    memory_bytes: int


def up(
    run: Run,
    only: Sequence[str] = (),
    *,
    num_tritons: int = 1,
    say: Say = lambda *_: None,
    ready_s: float = READY_S,
) -> Mapping[str, str]:
    """Obtain and start what does not run yet; return the settings, also in `stack.env`.

    Raises:
        NotFound: `only` names no server.
        Conflict: `stack.env` was written by somebody else.
        Unavailable: a tool or a registry is missing, or a server ended instead of answering.
        DeadlineExceeded: a server does not answer within `ready_s`, or another command takes long.
    """
    servers = with_needs(only or default(num_tritons))
    with run.locked():
        return _bring_up(run, servers, say, ready_s)


def start(run: Run, name: str, *, ready_s: float = READY_S) -> Mapping[str, str]:
    """Start one server alone, on the ports it had; raises as `up` does."""
    servers = chosen([name])
    with run.locked():
        return _bring_up(run, servers, lambda *_: None, ready_s)


def down(run: Run) -> list[str]:
    """End every server, gently if it can; return which ran. Data and logs are kept."""
    with run.locked():
        running = processes.members(run.folder)
        for name, pids in running.items():
            first = pids[:1] if processes.leads(pids[0]) else pids
            processes.send(run.folder, name, first, signal.SIGTERM)
            processes.send(run.folder, name, pids, signal.SIGCONT)
        processes.await_end(run.folder, list(running), deadline_s=GRACE_S)
        _kill(run, list(running))
        if not run.is_foreign:
            run.env_file.unlink(missing_ok=True)
    return list(running)


def kill(run: Run, name: str, number: int = signal.SIGKILL) -> None:
    """Send a signal to all processes of a server; after SIGKILL return when none is left.

    Raises:
        NotFound: it does not run.
    """
    chosen([name])
    pids = processes.members(run.folder).get(name)
    if not pids:
        raise NotFound(f"{name} does not run in {run.folder}: make stack")
    if number == signal.SIGKILL:
        _kill(run, [name])
    else:
        processes.send(run.folder, name, pids, number)


def status(run: Run) -> list[Status]:
    """Look at every server that was ever started in this run."""
    running = processes.members(run.folder)
    started = [SERVERS[name] for name in SERVERS if name in run.ports()]
    return [_status(run, each, running.get(each.name, [])) for each in started]


def forget(run: Run) -> None:
    """End every server and remove all that the run holds; the cache stays.

    Raises:
        Conflict: `stack.env` was written by somebody else.
    """
    _check_own(run)
    down(run)
    with run.locked():
        for path in run.folder.iterdir():
            if path.name != "lock":
                _remove(path)


def _status(run: Run, server: Server, pids: Sequence[int]) -> Status:
    look = Start(run=run, name=server.name)
    ready = bool(pids) and server.is_ready(look)
    return Status(
        name=server.name,
        state="ready" if ready else ("not answering" if pids else "down"),
        version=server.version,
        address=f"127.0.0.1:{look.ports[server.ports[0]]}",
        pid=pids[0] if pids else 0,
        memory_bytes=processes.resident_bytes(pids),
    )


def _bring_up(run: Run, servers: Sequence[Server], say: Say, ready_s: float) -> Mapping[str, str]:
    _check_own(run)
    with Guard() as guard:
        running = processes.members(run.folder)
        dead = [each for each in servers if not _lives(running.get(each.name, []))]
        obtain(dead, run.cache, guard, say)
        _kill(run, [each.name for each in dead])
        for each in dead:
            run.keep_ports(each.name, each.ports)
            (run.folder / each.name).mkdir(exist_ok=True)
        Rise(run, guard, say=say, ready_s=ready_s).start(servers, dead=dead)
        settings = _settings(run)
        run.write_settings(settings)
        guard.release()
    return settings


def _check_own(run: Run) -> None:
    if run.is_foreign:
        raise Conflict(
            f"expected no {run.env_file} before the first start, got one that names other servers: "
            "remove it, or set ATHANOR_STACK_RUN to another folder"
        )


def _lives(pids: Sequence[int]) -> bool:
    """True if the process that was started lives; its children alone are of no use."""
    return bool(pids) and processes.leads(pids[0])


def _kill(run: Run, names: Sequence[str]) -> None:
    """Kill every process of the servers, those that appear meanwhile too, and what they leave."""
    killed, strays = set[int](), set[Path]()
    for _ in range(_KILL_TRIES):
        running = processes.members(run.folder)
        for name in names:
            pids = running.get(name, [])
            strays |= set(SERVERS[name].strays(Start(run=run, name=name), pids))
            processes.send(run.folder, name, pids, signal.SIGKILL)
            killed |= set(pids)
        if processes.await_end(run.folder, names, deadline_s=_KILL_S, pids=killed):
            break
    else:
        raise DeadlineExceeded(
            f"{', '.join(names)} live on after SIGKILL, sent {_KILL_TRIES} times"
        )
    processes.reap(killed)
    for path in strays:
        _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _settings(run: Run) -> dict[str, str]:
    """Return the settings of all servers that run, and tell Prometheus what to ask."""
    settings: dict[str, str] = {}
    targets = run.folder / "targets"
    targets.mkdir(exist_ok=True)
    running = processes.members(run.folder)
    for name, server in SERVERS.items():
        if name not in running:
            continue
        look = Start(run=run, name=name)
        for key, value in server.settings(look).items():
            # Replicas of one server stand beside each other; they share a key.
            before = settings.get(key, value)
            settings[key] = value if value == before else f"{before},{value}"
        if server.scrape:
            _write_target(run, server, look)
    return settings


def _write_target(run: Run, server: Server, look: Start) -> None:
    labels = {key: value for key, value in server.scrape.items() if key != "port"}
    target = {"targets": [f"127.0.0.1:{look.ports[server.scrape['port']]}"], "labels": labels}
    part = run.folder / "targets" / f"{server.name}.part"
    part.write_text(json.dumps([target]))
    part.replace(part.with_suffix(".json"))
