"""The verbs that talk to a running Athanor: rounds and recipes here, beside `cli_results`.

`./athanor` adds the verbs that start processes. Every verb prints JSON with `--json`.
"""

import getpass
import hashlib
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from athanor.client import cli_corpus, cli_dead, cli_keeping, cli_results
from athanor.client.errors import AthanorError
from athanor.client.terminal import (
    Json,
    Name,
    answer,
    asking,
    connect_from,
    patience,
)

rounds = typer.Typer(no_args_is_help=True, help="Start, watch and look at rounds.")
recipes = typer.Typer(no_args_is_help=True, help="Check recipes before anything runs.")


def add_to(app: typer.Typer) -> None:
    """Add the remote verbs to a command line whose context object is a `Connection`."""
    app.add_typer(rounds, name="round")
    app.add_typer(recipes, name="recipe")
    cli_keeping.add_to(cli_results.artifacts)
    app.add_typer(cli_results.artifacts, name="artifacts")
    app.add_typer(cli_results.models, name="models")
    app.add_typer(cli_dead.dead, name="dead")
    app.add_typer(cli_corpus.corpus, name="corpus")
    app.command("lineage")(cli_results.lineage)
    app.command("report")(cli_results.report)


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
    with connect_from(context, everything=True, keep=detach) as client:
        with patience():
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

    with connect_from(context, everything=True) as client:
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

    with asking(context) as client:
        found = client.loop.ListRounds(loop_pb2.ListRoundsRequest(limit=limit))
    answer(
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

    with asking(context) as client:
        seen = client.loop.GetRound(loop_pb2.GetRoundRequest(name=name))
    answer(
        seen,
        as_json,
        lambda: [*(f"{step_line(s)}  {s.artifact_id[:12]}" for s in seen.steps), *summary(seen)],
    )


@rounds.command("cancel")
def round_cancel(context: typer.Context, name: Name = "", as_json: Json = False) -> None:
    """Ask a round to stop; what is done stays, and `round resume` takes it up again."""
    from google.longrunning import operations_pb2

    from athanor.loop.v1 import loop_pb2

    with asking(context) as client:
        seen = client.loop.GetRound(loop_pb2.GetRoundRequest(name=name))
        client.operations.CancelOperation(
            operations_pb2.CancelOperationRequest(name=seen.operation)
        )
    answer(seen, as_json, lambda: [f"{seen.name} is asked to stop"])


@rounds.command("resume")
def round_resume(context: typer.Context, name: Name = "", as_json: Json = False) -> None:
    """Take up a failed or cancelled round where it stopped, and show it until it ends."""
    from athanor.client.rounds import EXIT_CODES, follow
    from athanor.loop.v1 import loop_pb2

    with connect_from(context, everything=True) as client:
        seen = client.loop.GetRound(loop_pb2.GetRoundRequest(name=name))
        client.loop.ResumeRound(loop_pb2.ResumeRoundRequest(name=seen.name), timeout=60)
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
    with asking(context, everything=True) as client:
        checked = client.loop.CheckRecipe(request, timeout=120)
    answer(
        checked,
        as_json,
        lambda: (
            [f"fault: {fault}" for fault in checked.faults]
            or [f"{len(checked.steps)} steps: {' '.join(checked.steps)}", *checked.notes]
        ),
    )
    raise typer.Exit(1 if checked.faults else 0)
