"""The command line of one machine: the remote verbs, and those that start and stop processes.

State lies in `ATHANOR_HOME`, default `.athanor`. A verb that needs services uses those that run,
or starts what it needs for as long as it needs it.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from athanor.client import cli as remote
from athanor.client.errors import AthanorError
from athanor.client.terminal import Json

from deploy.local import cli_backup, cli_topics
from deploy.local.cluster import Where, enter
from deploy.local.home import home_folder
from deploy.local.programs import ROOT, SERVICES, names_of, operator, secure, services, site
from deploy.prometheus import targets
from deploy.tls.folder import is_secured
from libs import launcher
from libs.errors import KINDS, Conflict, ErrorRecord, NotFound, ServiceError, Unavailable, kind_of

if TYPE_CHECKING:  # grpc costs 0.2 s, and `--help` needs none of it
    from athanor.client.connection import Client
    from athanor.client.tls import Tls

LOOK_S = 0.3
TLS_HELP = "Make certificates in the home folder: what starts there speaks TLS from then on."
_INTERRUPTED = 130
"""Exit code that typer makes of Ctrl-C."""
app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Athanor improves language models by closing the loop on measurement.",
)
remote.add_to(app)
app.add_typer(cli_topics.topics, name="topics")
app.command()(cli_backup.backup)
app.command()(cli_backup.restore)


def main() -> None:
    """Run the command line; a failure is one line on stderr and exit code 1, no traceback."""
    try:
        app(prog_name="athanor")
    except ServiceError as error:
        _fail(kind_of(error).__name__, str(error))
    except AthanorError as error:
        _fail(error.kind, str(error))
    except SystemExit as ending:
        if ending.code == _INTERRUPTED:
            typer.echo("stopped; what was done is kept, and the next start goes on", err=True)
        raise


def _fail(kind: str, message: str) -> None:
    typer.echo(f"{kind}: {message}", err=True)
    sys.exit(1)


@app.callback()
def _prepare(context: typer.Context) -> None:
    context.obj = connection


@contextmanager
def connection(*, everything: bool, keep: bool) -> Iterator["Client"]:
    """Open a client of the services that run, or start them: for the block, or until `down`."""
    from athanor.client.connection import connect

    names = names_of(enter()) if everything else ("loop",)
    home = home_folder()
    with (
        supervised(home, names=names, keep=keep) as ports,
        connect(
            f"127.0.0.1:{ports['loop']}",
            tls=client_tls(home),
            services={name: f"127.0.0.1:{ports[name]}" for name in SERVICES if name in ports},
        ) as client,
    ):
        yield client


def client_tls(home: Path) -> "Tls | None":
    """Return who the command line is to the services of a home folder; None: plain."""
    from athanor.client.tls import Tls

    own = operator(home)
    return Tls(cert=own.cert, private=own.private, ca=own.ca) if own else None


@contextmanager
def supervised(
    home: Path, *, names: Sequence[str], site_folder: Path | None = None, keep: bool = False
) -> Iterator[Mapping[str, int]]:
    """Yield the ports of the services that run here, started for the block if none does.

    With `keep`, those that were started go on after the block, unless it raises.

    Raises:
        Conflict: some run, but not all of `names`, or not the site.
    """
    if running := launcher.reports(home):
        ports = {report.name: report.port for report in running}
        missing = {*names, *(["site"] if site_folder else [])} - ports.keys()
        if missing:
            raise Conflict(
                f"expected {', '.join(sorted(missing))} among the services that run on {home}, got "
                f"{', '.join(ports)}: ./athanor down first"
            )
        yield ports
        return
    process = _start_supervisor(home, names=names, site_folder=site_folder, adopt=not keep)
    try:
        yield {report.name: report.port for report in launcher.reports(home)}
    except BaseException:
        _end(process)
        raise
    if not keep:
        _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    process.wait()


def _start_supervisor(
    home: Path, *, names: Sequence[str], site_folder: Path | None = None, adopt: bool
) -> "subprocess.Popen[bytes]":
    """Start `up --foreground` as a process of its own and return once everything answers.

    Adopted, it dies with this process, however that ends.
    """
    from rich.console import Console

    argv = [sys.executable, "-m", "deploy.local", "up", "--foreground", "--only", ",".join(names)]
    argv += ["--site", str(site_folder.resolve())] if site_folder else []
    process = subprocess.Popen(
        launcher.adopted(argv) if adopt else argv,
        env={**os.environ, "ATHANOR_HOME": str(home.resolve()), "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        with Console(stderr=True).status(f"starting {', '.join(names)}"):
            _await_ready(process, _ready_file(home))
    except BaseException:
        _end(process)
        raise
    return process


def _await_ready(process: "subprocess.Popen[bytes]", ready: Path) -> None:
    while not (ready.exists() and ready.read_text() == str(process.pid)):
        if process.poll() is not None:
            assert process.stderr is not None
            raise _told(process.stderr.read().decode().strip())
        time.sleep(LOOK_S / 3)


def _told(line: str) -> ServiceError:
    """Return the error that another process of this command line printed as `Kind: message`."""
    kind, _, message = line.partition(": ")
    if kind in {each.__name__ for each in KINDS}:
        return ErrorRecord(kind=kind, message=message).error()
    return Unavailable(line or "the supervisor ended without a word")


@app.command()
def up(
    detach: Annotated[
        bool, typer.Option("--detach/--foreground", help="Return once all are up.")
    ] = True,
    only: Annotated[
        str, typer.Option(help="Services to start, split at commas; default: all.")
    ] = "",
    tls: Annotated[bool, typer.Option("--tls", help=TLS_HELP)] = False,
    profile: Where = None,
    site_folder: Annotated[Path | None, typer.Option("--site", hidden=True)] = None,
    as_json: Json = False,
) -> None:
    """Start the services and keep them running until `down`."""
    known = names_of(enter(profile))
    home = home_folder()
    if tls:
        secure(home)
    names = tuple(only.split(",")) if only else known
    if unknown := set(names) - set(known):
        raise NotFound(f"services are {', '.join(known)}, got {', '.join(sorted(unknown))}")
    if detach:
        _start_supervisor(home, names=names, site_folder=site_folder, adopt=False)
        status(as_json)
    _supervise(home, [*services(home, names=names), *([site(site_folder)] if site_folder else [])])


def _supervise(home: Path, programs: Sequence[launcher.Program]) -> None:
    if is_secured(home):
        secure(home)  # before one expires under the services
    owner = launcher.Launcher(home, programs)
    with launcher.signals_as_interrupt():
        try:
            owner.start()
            with _watched(home):
                _ready_file(home).write_text(str(os.getpid()))
                while True:
                    time.sleep(LOOK_S)
                    owner.tend()
        except KeyboardInterrupt:
            pass
        finally:
            owner.stop()


@contextmanager
def _watched(home: Path) -> Iterator[None]:
    """Let Prometheus find the services for the block, where `ATHANOR_PROMETHEUS_TARGETS` says."""
    folder = os.environ.get("ATHANOR_PROMETHEUS_TARGETS")
    if not folder:
        yield
        return
    try:
        targets.write(Path(folder), launcher.reports(home), home=home)
    except Unavailable as error:
        typer.echo(f"Unavailable: {error}", err=True)  # no reason to end what it would watch
    try:
        yield
    finally:
        targets.remove(Path(folder), home=home)


def _ready_file(home: Path) -> Path:
    return home / "run" / "ready"


@app.command()
def down(as_json: Json = False) -> None:
    """Stop the services; what was under way goes on at the next start."""
    launcher.end(home_folder())
    typer.echo(json.dumps({"stopped": True}) if as_json else "stopped")


@app.command()
def status(as_json: Json = False) -> None:
    """Show which services run, where, and how often each was started again."""
    home = home_folder()
    found = launcher.reports(home)
    rows = [
        report._asdict() | {"healthy": report.name not in SERVICES or answers(home, report)}
        for report in found
    ]
    if as_json:
        typer.echo(json.dumps({"home": str(home), "programs": rows}))
    elif not rows:
        typer.echo(f"nothing runs in {home}; ./athanor up starts the services")
    for row in [] if as_json else rows:
        state = "up" if row["healthy"] else "not answering"
        typer.echo(
            f"{row['name']:<10} {state:<14} pid {row['pid']:<8} 127.0.0.1:{row['port']}  "
            f"http://127.0.0.1:{row['metrics_port']}/metrics  {row['restarts']} restarts"
        )
    raise typer.Exit(0 if all(row["healthy"] for row in rows) else 1)


def answers(home: Path, report: launcher.Report) -> bool:
    """True if a service of the home folder says that it serves."""
    return launcher.answers_health(report.port, operator(home))


@app.command()
def logs(
    service: Annotated[str, typer.Argument(help="Service; default: all.")] = "",
    trace: Annotated[str, typer.Option(help="Only lines of this trace id.")] = "",
    lines: Annotated[int, typer.Option("-n", help="At most so many, the newest.")] = 50,
    as_json: Json = False,
) -> None:
    """Show the services' log lines in the order of time."""
    folder = home_folder() / "logs"
    # `.jsonl.1` was rotated away before `.jsonl` began.
    files = sorted(folder.glob(f"{service or '*'}.jsonl*"), reverse=True)
    if not files:
        raise NotFound(f"no log of {service or 'any service'} in {folder}")
    entries = (entry for file in files for entry in _entries(file))
    chosen = sorted(
        (e for e in entries if trace in ("", e["trace_id"])), key=lambda e: str(e["time"])
    )
    for entry in chosen[-lines:]:
        shown = f"{entry['time']} {entry['level']:<7} {entry['service']:<10} {entry['message']}"
        typer.echo(json.dumps(entry) if as_json else shown)


def _entries(file: Path) -> Iterator[dict[str, str]]:
    """Yield what a log file's lines say; one that a kill cut off is skipped."""
    for line in file.read_text("utf-8", errors="replace").split("\n"):
        with suppress(json.JSONDecodeError):
            yield json.loads(line)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say what this machine lacks and how to get it; exit code 1 if something needed is missing."""
    from deploy.local.doctor import run

    raise typer.Exit(run(home_folder(), as_json=as_json))


@app.command()
def demo(
    seed: Annotated[int, typer.Option(help="Another seed is another round.")] = 1,
    fresh: Annotated[
        bool,
        typer.Option(
            "--fresh", help="In a home folder of its own; one that was interrupted goes on."
        ),
    ] = False,
    tls: Annotated[bool, typer.Option("--tls", help=TLS_HELP)] = False,
    profile: Where = None,
    as_json: Json = False,
) -> None:
    """Watch one whole round on real input, about five minutes; 0 unless it fails."""
    from deploy.local.demo import run

    enter(profile)
    raise typer.Exit(run(home_folder(), seed=seed, fresh=fresh, tls=tls, as_json=as_json))
