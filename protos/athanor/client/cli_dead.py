"""The verbs for dead letters: messages that could never be handled."""

from typing import Annotated, Any

import typer

from athanor.client.terminal import Json, answer, asking

Letter = Annotated[str, typer.Argument(help="Its name, as `dead list` shows it.")]
dead = typer.Typer(no_args_is_help=True, help="Messages that could never be handled.")


@dead.command("list")
def dead_list(
    context: typer.Context,
    topic: Annotated[str, typer.Option(help="Topic they were on; default: all.")] = "",
    limit: int = 100,
    as_json: Json = False,
) -> None:
    """List dead letters, newest first."""
    from athanor.common.v1 import dead_letters_pb2 as pb

    with asking(context) as client:
        found = client.dead_letters.ListDeadLetters(
            pb.ListDeadLettersRequest(topic=topic, limit=limit), timeout=60
        )
    answer(found, as_json, lambda: [_line(each) for each in found.letters] or ["no dead letters"])


@dead.command("show")
def dead_show(context: typer.Context, name: Letter, as_json: Json = False) -> None:
    """Show a dead letter: why, where from, how old, its headers and its payload."""
    from athanor.common.v1 import dead_letters_pb2 as pb

    with asking(context) as client:
        letter = client.dead_letters.GetDeadLetter(pb.GetDeadLetterRequest(name=name), timeout=60)
    answer(letter, as_json, lambda: _lines(letter))


@dead.command("replay")
def dead_replay(
    context: typer.Context,
    name: Letter,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Send a dead letter's message again where it came from; once, however often it is asked."""
    from athanor.common.v1 import dead_letters_pb2 as pb

    with asking(context) as client:
        done = client.dead_letters.ReplayDeadLetter(
            pb.ReplayDeadLetterRequest(name=name, dry_run=dry_run), timeout=60
        )
    answer(done, as_json, lambda: [f"{name} {done.outcome} on {done.topic}"])


def _line(letter: Any) -> str:
    replayed = "replayed " if letter.replayed else ""
    return f"{letter.name:<40} {letter.age_s:>9.0f} s  {replayed}{letter.cause}"


def _lines(letter: Any) -> list[str]:
    return [
        f"cause     {letter.cause}",
        f"origin    {letter.origin}",
        f"key       {letter.key}",
        f"age       {letter.age_s:.0f} s",
        f"replayed  {'yes' if letter.replayed else 'no'}",
        *(f"header    {name}: {text}" for name, text in sorted(letter.headers.items())),
        letter.payload or f"payload   {letter.size_bytes} bytes that are no text",
    ]
