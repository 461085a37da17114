"""What every verb of the command line shares: its client, its options, its way of answering."""

import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

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
Artifact = Annotated[str, typer.Argument(help="Artifact id, or a prefix of at least 6 digits.")]


def connect_from(
    context: typer.Context, *, everything: bool = False, keep: bool = False
) -> AbstractContextManager["Client"]:
    opened: Connection = context.obj
    return opened(everything=everything, keep=keep)


@contextmanager
def asking(context: typer.Context, *, everything: bool = False) -> Iterator["Client"]:
    """Open a client for a block that shows nothing itself until it has its answer."""
    with connect_from(context, everything=everything) as client, patience():
        yield client


@contextmanager
def patience() -> Iterator[None]:
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


def answer(message: Any, as_json: bool, lines: Callable[[], list[str]]) -> None:
    """Print a protobuf message as JSON, or the lines for a person."""
    if as_json:
        from google.protobuf.json_format import MessageToDict

        typer.echo(json.dumps(MessageToDict(message, preserving_proto_field_name=True), indent=2))
    else:
        typer.echo("\n".join(lines()))
