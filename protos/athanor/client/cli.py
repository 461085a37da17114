"""The verbs that talk to a running Athanor: rounds, recipes, artifacts, models, reports.

`./athanor` adds the verbs that start processes. Every verb prints JSON with `--json`.
"""

import getpass
import hashlib
import json
import sys
import threading
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from athanor.client.errors import AthanorError

if TYPE_CHECKING:  # grpc costs 0.2 s, and `--help` needs none of it
    from athanor.client.connection import Client

PATIENCE_S = 2.0
"""A call that takes longer shows that it goes on."""


class Connection(Protocol):
    """Opens a client."""

    def __call__(self, *, everything: bool, keep: bool) -> AbstractContextManager["Client"]:
        """Return it for a block.

        Args:
            everything: all services are needed; without it, those that can look at results.
            keep: services started for the block go on after it, unless it raises.
        """


Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[
    str, typer.Argument(help="Round, or a prefix that names only it; default: the newest.")
]
Digest = Annotated[
    str, typer.Argument(help="Weights digest, or a prefix that names only one model.")
]
Why = Annotated[str, typer.Option("--why", help="Reason, kept in the audit.")]
Artifact = Annotated[str, typer.Argument(help="Artifact id, or a prefix of at least 6 digits.")]

rounds = typer.Typer(no_args_is_help=True, help="Start, watch and look at rounds.")
recipes = typer.Typer(no_args_is_help=True, help="Check recipes before anything runs.")
artifacts = typer.Typer(no_args_is_help=True, help="Look at artifacts and verify their bytes.")
models = typer.Typer(no_args_is_help=True, help="The registry of models and its audit.")


def add_to(app: typer.Typer) -> None:
    """Add the remote verbs to a command line whose context object is a `Connection`."""
    app.add_typer(rounds, name="round")
    app.add_typer(recipes, name="recipe")
    app.add_typer(artifacts, name="artifacts")
    app.add_typer(models, name="models")
    app.command("lineage")(lineage)
    app.command("report")(report)


def _connect(
    context: typer.Context, *, everything: bool = False, keep: bool = False
) -> AbstractContextManager["Client"]:
    opened: Connection = context.obj
    return opened(everything=everything, keep=keep)


@contextmanager
def _asking(context: typer.Context, *, everything: bool = False) -> Iterator["Client"]:
    """Open a client for a block that shows nothing itself until it has its answer."""
    with _connect(context, everything=everything) as client, _patience():
        yield client


@contextmanager
def _patience() -> Iterator[None]:
    """Show on stderr, where that is a terminal, that the block goes on for long."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    status = Console(stderr=True).status("waiting for the answer")
    timer = threading.Timer(PATIENCE_S, status.start)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()  # else it could start after the stop
        status.stop()


def _show(message: Any, as_json: bool, lines: Callable[[], list[str]]) -> None:
    """Print a protobuf message as JSON, or the lines for a person."""
    if as_json:
        from google.protobuf.json_format import MessageToDict

        typer.echo(json.dumps(MessageToDict(message, preserving_proto_field_name=True), indent=2))
    else:
        typer.echo("\n".join(lines()))


@rounds.command("start")
def round_start(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Round file, YAML.")],
    detach: Annotated[
        bool, typer.Option("--detach", help="Return at once; the services run on until `down`.")
    ] = False,
    as_of: Annotated[str, typer.Option(help="What the round sees the world as of.")] = "",
    request_id: Annotated[
        str,
        typer.Option(
            help="Same id, same round. Default: made of the file's path, its text and --as-of, "
            "not of your data: give an id of your own when only the data changed."
        ),
    ] = "",
    as_json: Json = False,
) -> None:
    """Start a round and show it until it ends; the exit code tells the outcome."""
    from athanor.client.rounds import EXIT_CODES, follow
    from athanor.loop.v1 import loop_pb2

    text = _text(file)
    made = hashlib.sha256(f"{file.resolve()}\n{text}\n{as_of}".encode()).hexdigest()[:16]
    request = loop_pb2.StartRoundRequest(
        request_id=request_id or made, recipe_yaml=text, as_of=as_of, who=getpass.getuser()
    )
    with _connect(context, everything=True, keep=detach) as client:
        with _patience():
            operation = client.loop.StartRound(request, timeout=60)
        name = f"rounds/{operation.name.rsplit('/', 1)[-1]}"
        if not as_json:
            typer.echo(f"trace        {_trace_id(operation)}")
        if detach:
            typer.echo(json.dumps({"round": name}) if as_json else _detached(name))
            return
        ended = follow(client, name, as_json=as_json)
        if not as_json:
            typer.echo("\n".join(summary(ended)))
    raise typer.Exit(EXIT_CODES[ended.outcome])


def _text(file: Path) -> str:
    """Return the text of a round file.

    Raises:
        AthanorError: `InvalidInput`, the file is not UTF-8.
    """
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise AthanorError("InvalidInput", f"{file}: expected UTF-8, got {error}") from error


def _trace_id(operation: Any) -> str:
    from athanor.common.v1 import operations_pb2

    metadata = operations_pb2.OperationMetadata()
    operation.metadata.Unpack(metadata)
    return metadata.trace_id


def _detached(name: str) -> str:
    return (
        f"{name} goes on: ./athanor round watch {name} shows it, ./athanor down ends the services"
    )


@rounds.command("watch")
def round_watch(context: typer.Context, name: Name = "", as_json: Json = False) -> None:
    """Show a round until it ends; the exit code tells the outcome."""
    from athanor.client.rounds import EXIT_CODES, follow
    from athanor.loop.v1 import loop_pb2

    with _connect(context, everything=True) as client:
        # Once: the newest may be another a minute later.
        name = client.loop.GetRound(loop_pb2.GetRoundRequest(name=name)).name
        ended = follow(client, name, as_json=as_json)
    if not as_json:
        typer.echo("\n".join(summary(ended)))
    raise typer.Exit(EXIT_CODES[ended.outcome])


@rounds.command("list")
def round_list(context: typer.Context, limit: int = 50, as_json: Json = False) -> None:
    """List rounds, newest first."""
    from athanor.loop.v1 import loop_pb2

    with _asking(context) as client:
        found = client.loop.ListRounds(loop_pb2.ListRoundsRequest(limit=limit))
    _show(
        found,
        as_json,
        lambda: [_round_line(each) for each in found.rounds] or ["no rounds yet"],
    )


def _round_line(seen: Any) -> str:
    from athanor.client.rounds import outcome_name

    outcome = outcome_name(seen.outcome) or "running"
    return f"{seen.name}  {seen.recipe:<14} {outcome:<14} {seen.reason}"


@rounds.command("show")
def round_show(context: typer.Context, name: Name = "", as_json: Json = False) -> None:
    """Show a round and its steps."""
    from athanor.client.rounds import step_line
    from athanor.loop.v1 import loop_pb2

    with _asking(context) as client:
        seen = client.loop.GetRound(loop_pb2.GetRoundRequest(name=name))
    _show(
        seen,
        as_json,
        lambda: [*(f"{step_line(s)}  {s.artifact_id[:12]}" for s in seen.steps), *summary(seen)],
    )


@rounds.command("cancel")
def round_cancel(context: typer.Context, name: Name = "", as_json: Json = False) -> None:
    """Ask a round to stop; what is done stays, and `round resume` takes it up again."""
    from google.longrunning import operations_pb2

    from athanor.loop.v1 import loop_pb2

    with _asking(context) as client:
        seen = client.loop.GetRound(loop_pb2.GetRoundRequest(name=name))
        client.operations.CancelOperation(
            operations_pb2.CancelOperationRequest(name=seen.operation)
        )
    _show(seen, as_json, lambda: [f"{seen.name} is asked to stop"])


@rounds.command("resume")
def round_resume(context: typer.Context, name: Name = "", as_json: Json = False) -> None:
    """Take up a failed or cancelled round where it stopped, and show it until it ends."""
    from athanor.client.rounds import EXIT_CODES, follow
    from athanor.loop.v1 import loop_pb2

    with _connect(context, everything=True) as client:
        seen = client.loop.GetRound(loop_pb2.GetRoundRequest(name=name))
        client.loop.ResumeRound(loop_pb2.ResumeRoundRequest(name=seen.name))
        ended = follow(client, seen.name, as_json=as_json)
    if not as_json:
        typer.echo("\n".join(summary(ended)))
    raise typer.Exit(EXIT_CODES[ended.outcome])


def summary(ended: Any) -> list[str]:
    """Say how a round ended, in a few lines."""
    from athanor.client.rounds import outcome_name

    lines = [f"outcome      {outcome_name(ended.outcome) or 'running'}: {ended.reason}"]
    if ended.attribution:
        lines.append(f"attribution  {ended.attribution}")
    if ended.report:
        lines.append(f"report       {ended.report}")
    lines.append(f"round        {ended.name}, {ended.duration_s:.0f} s")
    return lines


@recipes.command("check")
def recipe_check(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Round file, YAML.")],
    as_json: Json = False,
) -> None:
    """Say what is wrong with a round file before anything runs; exit code 1 if anything is."""
    from athanor.loop.v1 import loop_pb2

    request = loop_pb2.CheckRecipeRequest(recipe_yaml=_text(file))
    with _asking(context, everything=True) as client:
        checked = client.loop.CheckRecipe(request, timeout=120)
    _show(
        checked,
        as_json,
        lambda: (
            [f"fault: {fault}" for fault in checked.faults]
            or [f"{len(checked.steps)} steps: {' '.join(checked.steps)}", *checked.notes]
        ),
    )
    raise typer.Exit(1 if checked.faults else 0)


def lineage(context: typer.Context, artifact: Artifact, as_json: Json = False) -> None:
    """Walk from an artifact to everything that it was made from."""
    from athanor.common.v1 import artifacts_pb2

    with _asking(context) as client:
        found = client.artifacts.GetLineage(artifacts_pb2.GetLineageRequest(artifact_id=artifact))
    _show(found, as_json, lambda: [line for node in found.nodes for line in _node_lines(node)])


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

    with _asking(context) as client:
        found = client.artifacts.ListArtifacts(
            artifacts_pb2.ListArtifactsRequest(kind=kind, limit=limit)
        )
    _show(
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

    with _asking(context) as client:
        found = client.artifacts.GetArtifact(artifacts_pb2.GetArtifactRequest(artifact_id=artifact))
    _show(
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
    with _connect(context) as client:
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
        for each in problems:
            typer.echo(f"{each.artifact_id[:12]}  {each.file}: {each.problem}")
        typer.echo(f"{len(found)} files, {len(problems)} with a problem")
    raise typer.Exit(1 if problems else 0)


@models.command("list")
def models_list(context: typer.Context, as_json: Json = False) -> None:
    """List the models, which of them is live, and every change with who and why."""
    from athanor.loop.v1 import loop_pb2

    with _asking(context) as client:
        found = client.loop.ListModels(loop_pb2.ListModelsRequest())
    _show(
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

    with _asking(context, everything=True) as client:
        model = client.loop.PromoteModel(
            loop_pb2.PromoteModelRequest(
                weights_digest=weights_digest, who=getpass.getuser(), why=why, force=force
            )
        )
    _show(model, as_json, lambda: [_model_line(model)])


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

    with _asking(context, everything=True) as client:
        model = client.loop.RollBackModel(
            loop_pb2.RollBackModelRequest(weights_digest=to, who=getpass.getuser(), why=why)
        )
    _show(model, as_json, lambda: [_model_line(model)])


def report(
    context: typer.Context,
    name: Name = "",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to write it.")
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Open it in a browser.")] = False,
    as_json: Json = False,
) -> None:
    """Write the HTML report of a round to a file."""
    from athanor.client.connection import chunks
    from athanor.loop.v1 import loop_pb2

    with _asking(context) as client:
        page = chunks(client.loop.ReadReport(loop_pb2.ReadReportRequest(name=name), timeout=60))
    path = output or Path("report.html")
    path.write_bytes(page)
    typer.echo(json.dumps({"path": str(path), "size_bytes": len(page)}) if as_json else str(path))
    if show:
        webbrowser.open(path.resolve().as_uri())


def guarded(app: typer.Typer) -> None:
    """Run a command line; a failed call is one line on stderr and exit code 1, no traceback."""
    try:
        app()
    except AthanorError as error:
        typer.echo(f"{error.kind}: {error}", err=True)
        sys.exit(1)
