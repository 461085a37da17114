"""The demonstration: one closed round on the documentation of Python's standard library.

The round's name follows from the rendered site and the seed, so a second run finds the first one.
"""

import getpass
import glob
import hashlib
import json
import os
import shlex
import time
from itertools import count
from pathlib import Path
from typing import Any

import typer
import yaml
from athanor.client import cli as remote
from athanor.client.connection import Client, chunks, connect
from athanor.client.rounds import follow
from athanor.loop.v1 import loop_pb2
from google.protobuf.json_format import MessageToDict

from deploy.demo import render, site
from deploy.local.cli import client_tls, supervised
from deploy.local.home import CLUSTER, DEFAULT
from deploy.local.programs import ROOT, names_of, secure
from libs import profile
from libs.blobs.port import Blobs
from libs.clock import Clock
from libs.errors import NotFound
from libs.operations.record import Record, State, operation_name
from libs.profile import Profile

START_S = 60.0
HONEST = (
    loop_pb2.OUTCOME_PROMOTED,
    loop_pb2.OUTCOME_REJECTED,
    loop_pb2.OUTCOME_UNDECIDED,
    loop_pb2.OUTCOME_NOTHING_WEAK,
    loop_pb2.OUTCOME_STARVED,
    loop_pb2.OUTCOME_UNDERPOWERED,
)
"""The demonstration has done its work with any of these; no seed is chosen for its outcome."""


def run(home: Path, *, seed: int, fresh: bool, tls: bool, as_json: bool) -> int:
    """Run the round, or answer from the last one; return the exit code."""
    began = time.monotonic()
    pages = home / "demo-site"
    if not as_json:
        typer.echo("rendering the standard library's documentation as a web site")
    request = _request(pages, render.render(pages), seed)
    home = _own_home(home, seed, request) if fresh else home
    if tls:
        secure(home)
    os.environ["ATHANOR_NAMESPACE"] = _namespace(home)
    answered = _ended(home, request)
    names = ("loop",) if answered else names_of(profile.chosen(os.environ))
    if not as_json:
        typer.echo("answering from the artifacts" if answered else f"starting {', '.join(names)}")
    with (
        supervised(home, names=names, site_folder=pages) as ports,
        connect(f"127.0.0.1:{ports['loop']}", tls=client_tls(home)) as client,
    ):
        ended = _watch(client, request, as_json=as_json)
        report = _report(client, home, ended)
    if as_json:
        shown: dict[str, Any] = MessageToDict(ended, preserving_proto_field_name=True)
        shown |= {"report": str(report or ""), "answered_from_artifacts": answered}
        typer.echo(json.dumps(shown))
    else:
        source = "from the artifacts of an earlier run" if answered else "start to end"
        took = f"took         {time.monotonic() - began:.0f} s, {source}"
        typer.echo("\n".join(["", *_lines(ended, report, home), took]))
    return 0 if ended.outcome in HONEST else 1


def _own_home(home: Path, seed: int, request: loop_pb2.StartRoundRequest) -> Path:
    """Return the newest home folder of this seed where the round goes on, else a new one."""
    prefix = f"{home.name}-fresh-{seed}-"
    ends = [path.name.removeprefix(prefix) for path in home.parent.glob(f"{glob.escape(prefix)}*")]
    numbers = sorted((int(end) for end in ends if end.isdecimal()), reverse=True)
    used = [home.with_name(f"{prefix}{n}") for n in numbers]
    new = (home.with_name(f"{prefix}{n}") for n in count(max(numbers, default=0) + 1))
    # Shared servers may hold more than there are folders.
    unused = next(path for path in new if _is_empty(path))
    return next((path for path in used if _goes_on(path, request)), unused)


def _goes_on(home: Path, request: loop_pb2.StartRoundRequest) -> bool:
    """True if the round was begun here and has no outcome, or nothing was begun at all."""
    if record := _record(home, request):
        return record.state is not State.SUCCEEDED
    return _is_empty(home)


def _is_empty(home: Path) -> bool:
    return not any(_blobs(home).list("operations/loop/"))


def _namespace(home: Path) -> str:
    """Return what a home folder's state is called on shared servers: a fresh one has its own."""
    _, found, number = home.name.partition("-fresh-")
    return f"fresh-{number}-" if found else os.environ.get("ATHANOR_NAMESPACE", "")


def _blobs(home: Path) -> Blobs:
    env = {**os.environ, "ATHANOR_NAMESPACE": _namespace(home)}
    return profile.open_blobs(profile.servers(env), home, Clock())


def _request(pages: Path, digest: str, seed: int) -> loop_pb2.StartRoundRequest:
    """Return the round on the site as it was rendered: another site or seed is another round."""
    host = site.LOGICAL_PREFIX.split("/")[2]
    text = yaml.safe_dump(
        {
            "recipe": "demo",
            "set": {
                "seed": seed,
                "seeds": [site.LOGICAL_PREFIX + site.ENTRY],
                "private_hosts": [host],
                "topics": {f"/{name}": topic for name, topic in render.topics(pages).items()},
            },
        }
    )
    recipes = sorted((ROOT / "deploy" / "recipes").glob("*.yaml"))
    parts = [text.encode(), digest.encode(), *(path.read_bytes() for path in recipes)]
    name = hashlib.sha256(b"\n".join(parts)).hexdigest()[:16]
    return loop_pb2.StartRoundRequest(
        request_id=f"demo-{name}", recipe_yaml=text, as_of=digest, who=getpass.getuser()
    )


def _ended(home: Path, request: loop_pb2.StartRoundRequest) -> bool:
    """True if this round has an outcome already, so that one service is enough to tell it.

    One that failed, was cancelled or was resumed needs them all, or may.
    """
    record = _record(home, request)
    return record is not None and record.state is State.SUCCEEDED


def _record(home: Path, request: loop_pb2.StartRoundRequest) -> Record | None:
    name = operation_name("loop", "StartRound", request.request_id)
    try:
        return Record.from_json(_blobs(home).read(f"{name}.json").data)
    except NotFound:
        return None


def _watch(client: Client, request: loop_pb2.StartRoundRequest, *, as_json: bool) -> loop_pb2.Round:
    operation = client.loop.StartRound(request, timeout=START_S)
    name = f"rounds/{operation.name.rsplit('/', 1)[-1]}"
    seen = client.loop.GetRound(loop_pb2.GetRoundRequest(name=name), timeout=START_S)
    if seen.outcome in (loop_pb2.OUTCOME_CANCELLED, loop_pb2.OUTCOME_FAILED):
        client.loop.ResumeRound(loop_pb2.ResumeRoundRequest(name=name), timeout=START_S)
    return seen if seen.outcome in HONEST else follow(client, name, as_json=as_json)


def _report(client: Client, home: Path, ended: loop_pb2.Round) -> Path | None:
    """Write the report beside the state; return its path, or None if the round has none."""
    if ended.outcome not in HONEST:
        return None
    path = home / "reports" / f"{ended.name.rsplit('/', 1)[-1]}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    request = loop_pb2.ReadReportRequest(name=ended.name)
    path.write_bytes(chunks(client.loop.ReadReport(request, timeout=START_S)))
    return path


def _lines(ended: loop_pb2.Round, report: Path | None, home: Path) -> list[str]:
    """Say how it ended; the commands work as they are printed."""
    lines = [line for line in remote.summary(ended) if not line.startswith("report")]
    checkpoint = next((s.artifact_id for s in ended.steps if s.name == "train"), "")
    where = "" if home in (DEFAULT, CLUSTER) else f"ATHANOR_HOME={shlex.quote(str(home))} "
    if profile.chosen(os.environ) is Profile.CLUSTER:
        where = f"ATHANOR_PROFILE=cluster {where}"
        where += f"ATHANOR_NAMESPACE={namespace} " if (namespace := _namespace(home)) else ""
    lines += [f"report       {report}"] if report else []
    lines += [f"lineage      {where}./athanor lineage {checkpoint[:12]}"] if checkpoint else []
    return lines
