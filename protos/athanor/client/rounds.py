"""Follow a round until it ends, for a person at a terminal, a pipe, or a program."""

import json
import sys
import time
from collections.abc import Callable, Iterator

from google.protobuf.json_format import MessageToDict
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from athanor.client.connection import Client, retried
from athanor.loop.v1 import loop_pb2

POLL_S = 0.4
_PATIENCE = 300
"""Polls in a row that may fail before a round counts as out of reach: about two minutes."""
EXIT_CODES = {
    loop_pb2.OUTCOME_PROMOTED: 0,
    loop_pb2.OUTCOME_REJECTED: 10,
    loop_pb2.OUTCOME_UNDECIDED: 11,
    loop_pb2.OUTCOME_NOTHING_WEAK: 12,
    loop_pb2.OUTCOME_STARVED: 13,
    loop_pb2.OUTCOME_UNDERPOWERED: 14,
    loop_pb2.OUTCOME_AWAITING_APPROVAL: 15,
    loop_pb2.OUTCOME_CANCELLED: 20,
    loop_pb2.OUTCOME_FAILED: 1,
}
"""Exit code of `round start` and `round watch` by outcome; 2 is a wrong command line."""


def outcome_name(outcome: int) -> str:
    """Return `promoted` for `OUTCOME_PROMOTED`; empty while a round goes on."""
    name = loop_pb2.Outcome.Name(outcome).removeprefix("OUTCOME_").lower()  # type: ignore[arg-type]
    return "" if name == "unspecified" else name


def snapshots(client: Client, name: str) -> Iterator[loop_pb2.Round]:
    """Yield the round again and again, for the last time when it has an outcome.

    A loop that is away for a while, restarted perhaps, is waited for.
    """
    request = loop_pb2.GetRoundRequest(name=name)
    while True:
        seen = retried(
            lambda: client.loop.GetRound(request, timeout=10),
            attempts=_PATIENCE,
            pause=lambda _: time.sleep(POLL_S),
        )
        yield seen
        if seen.outcome:
            return
        time.sleep(POLL_S)


def follow(client: Client, name: str, *, as_json: bool) -> loop_pb2.Round:
    """Show the round until it ends: bars on a terminal, lines in a pipe, JSON lines if asked."""
    if as_json:
        show: Callable[[Iterator[loop_pb2.Round]], loop_pb2.Round] = _json_lines
    elif sys.stdout.isatty():
        show = _bars
    else:
        show = _lines
    return show(snapshots(client, name))


def _lines(rounds: Iterator[loop_pb2.Round]) -> loop_pb2.Round:
    """Print a line whenever a step changes its state, and every ten seconds of a running one."""
    states: dict[str, str] = {}
    said_at = time.monotonic()
    for seen in rounds:
        for step in seen.steps:
            if step.state != states.get(step.name, "waiting"):
                print(step_line(step), flush=True)  # noqa: T201 - the command's output
                said_at = time.monotonic()
            states[step.name] = step.state
        running = [step for step in seen.steps if step.state == "running"]
        if running and time.monotonic() - said_at > 10:
            print("  ".join(step_line(step) for step in running), flush=True)  # noqa: T201
            said_at = time.monotonic()
    return seen


def step_line(step: loop_pb2.Step) -> str:
    """Describe one step in a line."""
    parts = [f"{step.name:<18}", step.state]
    if step.state == "running" and step.total:
        parts.append(f"{step.completed:,.0f} of {step.total:,.0f} {step.unit}")
    if step.state == "succeeded":
        parts.append("from its artifact" if step.cached else f"in {step.duration_s:.1f} s")
    if step.message and step.state != "running":
        parts.append(step.message)
    return " ".join(parts)


def _json_lines(rounds: Iterator[loop_pb2.Round]) -> loop_pb2.Round:
    last = ""
    for seen in rounds:
        line = json.dumps(MessageToDict(seen, preserving_proto_field_name=True), sort_keys=True)
        if line != last:
            print(line, flush=True)  # noqa: T201 - the command's output
        last = line
    return seen


def _bars(rounds: Iterator[loop_pb2.Round]) -> loop_pb2.Round:
    columns = (
        TextColumn("{task.description:<18}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(compact=True),
    )
    console = Console()
    with Progress(*columns, console=console, transient=True) as progress:
        tasks: dict[str, TaskID] = {}
        for seen in rounds:
            for step in seen.steps:
                _advance(progress, tasks, step, console)
    return seen


def _advance(
    progress: Progress, tasks: dict[str, TaskID], step: loop_pb2.Step, console: Console
) -> None:
    """Draw one step: a bar while it runs, one line when it has ended."""
    if step.state == "running":
        task = tasks.get(step.name)
        if task is None:
            task = tasks[step.name] = progress.add_task(step.name, total=None, note="")
        progress.update(
            task,
            total=step.total or None,
            completed=step.completed,
            note=_note(progress, task, step),
        )
    elif step.state != "waiting" and tasks.get(step.name) is not _DONE:
        if (task := tasks.pop(step.name, None)) is not None:
            progress.remove_task(task)
        tasks[step.name] = _DONE
        console.print(step_line(step), highlight=False)


_DONE = TaskID(-1)


def _note(progress: Progress, task: TaskID, step: loop_pb2.Step) -> str:
    speed = next(each.speed for each in progress.tasks if each.id == task)
    rate = f", {speed:,.0f} {step.unit}/s" if speed else ""
    return (
        f"{step.completed:,.0f}/{step.total:,.0f} {step.unit}{rate}" if step.total else step.message
    )
