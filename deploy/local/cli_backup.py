"""The verbs that put all state into one file, and take it out again on another machine."""

import json
import os
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from athanor.client.terminal import Json, patience

from deploy.local.cluster import Where, enter
from deploy.local.home import home_folder
from libs import launcher, profile
from libs.blobs.port import Blobs
from libs.clock import Clock
from libs.errors import Conflict


def backup(
    target: Annotated[Path, typer.Argument(help="New file, or a folder to put one into.")],
    with_files: Annotated[
        bool,
        typer.Option(
            "--with-files",
            help="The artifacts' files too. Without: restore needs them in the store.",
        ),
    ] = False,
    where: Where = None,
    as_json: Json = False,
) -> None:
    """Write registry, rounds, operations and artifacts into one tar file; services may run on."""
    from libs.backup.take import take

    enter(where)
    path = target / f"athanor-{_now()}.tar" if target.is_dir() else target
    with nullcontext() if as_json else patience():
        taken = take(_blobs(), path, with_files=with_files)
    text = f"{path}: {taken.num_artifacts} artifacts, {taken.size_bytes:,} bytes"
    typer.echo(json.dumps({"path": str(path), **taken._asdict()}) if as_json else text)


def restore(
    file: Annotated[Path, typer.Argument(help="What `backup` wrote.")],
    where: Where = None,
    as_json: Json = False,
) -> None:
    """Restore a backup into an empty home folder or stack, once every byte of it was checked.

    A restore that was killed goes on when it is repeated.
    """
    from libs.backup.restore import restore

    enter(where)
    if running := launcher.reports(home_folder()):
        names = ", ".join(report.name for report in running)
        raise Conflict(
            f"expected no services on {home_folder()}, got {names}: ./athanor down first"
        )
    with nullcontext() if as_json else patience():
        restored = restore(_blobs(), file)
    text = f"{restored.num_artifacts} artifacts, {restored.num_blobs} blobs restored from {file}"
    typer.echo(json.dumps(restored._asdict()) if as_json else text)


def _blobs() -> Blobs:
    return profile.open_blobs(profile.servers(os.environ), home_folder(), Clock())


def _now() -> str:
    return datetime.fromtimestamp(Clock().now(), UTC).strftime("%Y%m%dT%H%M%SZ")
