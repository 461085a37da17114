"""The verbs that keep artifacts and delete what nothing keeps: `artifacts pin`, `unpin`, `gc`."""

import getpass
import json
import uuid
from typing import Annotated, Any

import typer

from athanor.client.terminal import Artifact, Json, answer, asking

_COLLECT_S = 6 * 3600.0
Days = Annotated[
    float,
    typer.Option(
        "--rounds-older-than",
        min=0,
        help="Days. Rounds that ended earlier keep nothing; default: all keep what they made.",
    ),
]


def add_to(app: typer.Typer) -> None:
    """Add the verbs to `artifacts`."""
    app.command("pin")(pin)
    app.command("unpin")(unpin)
    app.command("pins")(pins)
    app.command("gc")(collect)


def pin(
    context: typer.Context,
    artifact: Artifact,
    why: Annotated[str, typer.Option("--why", help="Reason, kept with the pin.")],
    as_json: Json = False,
) -> None:
    """Keep an artifact, and all that it was made from, until `unpin`."""
    from athanor.common.v1 import artifacts_pb2

    request = artifacts_pb2.PinArtifactRequest(artifact_id=artifact, who=getpass.getuser(), why=why)
    with asking(context) as client:
        made = client.artifacts.PinArtifact(request)
    answer(made, as_json, lambda: [_pin_line(made)])


def unpin(context: typer.Context, artifact: Artifact, as_json: Json = False) -> None:
    """Take a pin away; what nothing else keeps is garbage from then on."""
    from athanor.common.v1 import artifacts_pb2

    with asking(context) as client:
        done = client.artifacts.UnpinArtifact(
            artifacts_pb2.UnpinArtifactRequest(artifact_id=artifact)
        )
    answer(done, as_json, lambda: [f"{done.artifact_id} is no longer pinned"])


def pins(context: typer.Context, as_json: Json = False) -> None:
    """List what is pinned, by whom and why."""
    from athanor.common.v1 import artifacts_pb2

    with asking(context) as client:
        found = client.artifacts.ListPins(artifacts_pb2.ListPinsRequest())
    answer(found, as_json, lambda: [*map(_pin_line, found.pins)] or ["nothing is pinned"])


def _pin_line(made: Any) -> str:
    return f"{made.artifact_id[:12]}  {made.when}  {made.who}: {made.why}"


def collect(
    context: typer.Context,
    yes: Annotated[
        bool, typer.Option("--yes", help="Delete what may be deleted; without it, only list.")
    ] = False,
    days: Days = 0.0,
    as_json: Json = False,
) -> None:
    """List what no model, exam, pin, round or operation leads to; with --yes, delete it.

    Each is kept for 24 hours after it was listed first, counted while this machine runs.
    """
    from athanor.common.v1 import artifacts_pb2

    request = artifacts_pb2.ListGarbageRequest(rounds_older_than_days=days)
    with asking(context) as client:
        found = [*client.artifacts.ListGarbage(request, timeout=3600)]
        deleted = _deleted(client, days) if yes else None
    if as_json:
        typer.echo(json.dumps({"garbage": [*map(_row, found)], "deleted": deleted}))
    else:
        typer.echo("\n".join([*map(_line, found), *_totals(found, deleted)]))


def _deleted(client: Any, days: float) -> dict[str, int]:
    """Delete, and return what was deleted. Raises `AthanorError` when the collection fails."""
    from athanor.client.operations import ended
    from athanor.common.v1 import artifacts_pb2

    started = client.artifacts.CollectGarbage(
        artifacts_pb2.CollectGarbageRequest(
            request_id=uuid.uuid4().hex, rounds_older_than_days=days
        )
    )
    result = ended(client.watching, started.name, timeout_s=_COLLECT_S)
    return {name: int(value) for name, value in result.figures.items()}


def _row(each: Any) -> dict[str, Any]:
    return {
        "artifact_id": each.artifact_id,
        "kind": each.kind,
        "size_bytes": each.size_bytes,
        "reason": each.reason,
        "wait_s": each.wait_s,
    }


def _line(each: Any) -> str:
    wait = f"in {each.wait_s / 3600:.1f} h" if each.wait_s else "now"
    kind = each.kind or "-"
    size = f"{each.size_bytes:>14,} bytes"
    return f"{each.artifact_id[:12]}  {kind:<12} {size}  {each.reason:<11} {wait}"


def _totals(found: list[Any], deleted: dict[str, int] | None) -> list[str]:
    due = [each for each in found if not each.wait_s]
    size, due_size = (sum(each.size_bytes for each in some) for some in (found, due))
    lines = [
        f"{len(found)} artifacts, {size:,} bytes; {len(due)} of them, {due_size:,} bytes, "
        "may be deleted now"
    ]
    if deleted is not None:
        lines.append(
            f"deleted {deleted['num_artifacts']} artifacts, {deleted['size_bytes']:,} bytes"
        )
    elif due:
        lines.append("nothing was deleted: --yes does that")
    return lines
