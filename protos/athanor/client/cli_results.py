"""The verbs that look at what rounds made: artifacts, lineage, models, reports."""

import getpass
import json
import webbrowser
from pathlib import Path
from typing import Annotated, Any

import typer

from athanor.client.errors import AthanorError
from athanor.client.terminal import (
    Artifact,
    Json,
    Name,
    answer,
    asking,
    connect_from,
)

Digest = Annotated[
    str, typer.Argument(help="Weights digest, or a prefix that names only one model.")
]
Why = Annotated[str, typer.Option("--why", help="Reason, kept in the audit.")]

artifacts = typer.Typer(no_args_is_help=True, help="Look at artifacts and verify their bytes.")
models = typer.Typer(no_args_is_help=True, help="The registry of models and its audit.")


def lineage(context: typer.Context, artifact: Artifact, as_json: Json = False) -> None:
    """Walk from an artifact to everything that it was made from."""
    from athanor.common.v1 import artifacts_pb2

    with asking(context) as client:
        found = client.artifacts.GetLineage(artifacts_pb2.GetLineageRequest(artifact_id=artifact))
    answer(found, as_json, lambda: [line for node in found.nodes for line in _node_lines(node)])


def _node_lines(node: Any) -> list[str]:
    inputs = "  ".join(f"{role}={id_[:12]}" for role, id_ in sorted(node.inputs.items()))
    return [
        f"{node.artifact_id[:12]}  {node.kind:<12} {inputs}",
        *(f"    {note}" for note in node.notes),
    ]


@artifacts.command("list")
def artifacts_list(
    context: typer.Context, kind: str = "", limit: int = 100, as_json: Json = False
) -> None:
    """List artifacts, newest first."""
    from athanor.common.v1 import artifacts_pb2

    with asking(context) as client:
        found = client.artifacts.ListArtifacts(
            artifacts_pb2.ListArtifactsRequest(kind=kind, limit=limit)
        )
    answer(
        found,
        as_json,
        lambda: (
            [
                f"{a.artifact_id[:12]}  {a.kind:<12} {a.size_bytes:>14,} bytes"
                for a in found.artifacts
            ]
            or ["no artifacts yet"]
        ),
    )


@artifacts.command("show")
def artifacts_show(context: typer.Context, artifact: Artifact, as_json: Json = False) -> None:
    """Show an artifact's manifest and what was measured while it was made."""
    from athanor.common.v1 import artifacts_pb2

    with asking(context) as client:
        found = client.artifacts.GetArtifact(artifacts_pb2.GetArtifactRequest(artifact_id=artifact))
    answer(
        found,
        as_json,
        lambda: [
            f"{found.artifact_id}  {found.kind}",
            json.dumps(json.loads(found.manifest_json), indent=2, ensure_ascii=False),
            f"measured: {found.run_json}",
        ],
    )


@artifacts.command("verify")
def artifacts_verify(context: typer.Context, artifact: Artifact, as_json: Json = False) -> None:
    """Recompute every digest of an artifact and of all it was made from; exit code 1 on a fault."""
    from rich.console import Console
    from rich.progress import track

    from athanor.common.v1 import artifacts_pb2

    request = artifacts_pb2.VerifyArtifactRequest(artifact_id=artifact)
    with connect_from(context) as client:
        files = client.artifacts.VerifyArtifact(request, timeout=3600)
        # How many there are is known only at the end.
        shown = Console(stderr=True)
        found = list(track(files, "verifying files", console=shown, transient=True))
    problems = [each for each in found if each.problem]
    if as_json:
        rows = [
            {"artifact_id": p.artifact_id, "file": p.file, "problem": p.problem} for p in problems
        ]
        typer.echo(json.dumps({"files": len(found), "problems": rows}))
    else:
        for each in found:
            if each.problem or each.note:
                typer.echo(f"{each.artifact_id[:12]}  {each.file}: {each.problem or each.note}")
        typer.echo(f"{len(found)} files, {len(problems)} with a problem")
    raise typer.Exit(1 if problems else 0)


@models.command("list")
def models_list(context: typer.Context, as_json: Json = False) -> None:
    """List the models, which of them is live, and every change with who and why."""
    from athanor.loop.v1 import loop_pb2

    with asking(context) as client:
        found = client.loop.ListModels(loop_pb2.ListModelsRequest())
    answer(
        found,
        as_json,
        lambda: (
            [
                *(_model_line(model) for model in found.models),
                *(
                    f"{a.when}  {a.who}  {a.action} {a.weights_digest[:12]}: {a.why}"
                    for a in found.audit
                ),
            ]
            or ["no models yet"]
        ),
    )


def _model_line(model: Any) -> str:
    live = "live" if model.live else "    "
    return f"{live}  {model.weights_digest[:12]}  {model.status:<12} {model.round}"


@models.command("promote")
def models_promote(
    context: typer.Context,
    weights_digest: Digest,
    why: Why,
    force: Annotated[bool, typer.Option(help="Although a round rejected it.")] = False,
    as_json: Json = False,
) -> None:
    """Move `live` to a model by hand."""
    from athanor.loop.v1 import loop_pb2

    with asking(context, everything=True) as client:
        model = client.loop.PromoteModel(
            loop_pb2.PromoteModelRequest(
                weights_digest=weights_digest, who=getpass.getuser(), why=why, force=force
            )
        )
    answer(model, as_json, lambda: [_model_line(model)])


@models.command("rollback")
def models_rollback(
    context: typer.Context,
    why: Why,
    to: Annotated[
        str, typer.Option(help="Weights digest; default: the model promoted before.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Move `live` back to a model that was promoted before."""
    from athanor.loop.v1 import loop_pb2

    with asking(context, everything=True) as client:
        model = client.loop.RollBackModel(
            loop_pb2.RollBackModelRequest(weights_digest=to, who=getpass.getuser(), why=why)
        )
    answer(model, as_json, lambda: [_model_line(model)])


def report(
    context: typer.Context,
    name: Name = "",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to write it.")
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Open it in a browser.")] = False,
    link: Annotated[
        bool, typer.Option("--link", help="Print only where it lies: a path, or a link for a day.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write the HTML report of a round to a file."""
    from athanor.client.connection import chunks
    from athanor.loop.v1 import loop_pb2

    if link:
        _report_link(context, name, as_json)
        return
    with asking(context) as client:
        page = chunks(client.loop.ReadReport(loop_pb2.ReadReportRequest(name=name), timeout=60))
    path = output or Path("report.html")
    path.write_bytes(page)
    typer.echo(json.dumps({"path": str(path), "size_bytes": len(page)}) if as_json else str(path))
    if show:
        webbrowser.open(path.resolve().as_uri())


def _report_link(context: typer.Context, name: str, as_json: bool) -> None:
    from athanor.loop.v1 import loop_pb2

    with asking(context) as client:
        seen = client.loop.GetRound(loop_pb2.GetRoundRequest(name=name))
    if not seen.report:
        raise AthanorError("NotFound", f"there is no report of {seen.name} yet")
    typer.echo(json.dumps({"link": seen.report}) if as_json else seen.report)
