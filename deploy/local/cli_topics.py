"""The verbs that compare the topics of the profile's bus with `deploy/topics.yaml`."""

import dataclasses
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer
from athanor.client.terminal import Json

from deploy.local.cluster import Where, enter
from deploy.local.home import home_folder
from libs.profile import Profile

if TYPE_CHECKING:
    from deploy.topic_drift import Drift
    from libs.bus.port import Topic, Topics

topics = typer.Typer(
    no_args_is_help=True, help="Compare the topics of the bus with deploy/topics.yaml."
)


@topics.command()
def plan(profile: Where = None, as_json: Json = False) -> None:
    """Show what is not as declared, and what `apply` would do; exit code 1 if anything is."""
    from deploy.topic_drift import drifts

    with _bus(profile) as found:
        drift = drifts(_declared(), found.existing())
    _show(drift, as_json)
    raise typer.Exit(1 if drift else 0)


@topics.command()
def apply(profile: Where = None, as_json: Json = False) -> None:
    """Create, grow and configure topics as declared; exit code 1 if something is left."""
    from deploy import topic_drift

    with _bus(profile) as found:
        declared = _declared()
        drift = topic_drift.drifts(declared, found.existing())
        topic_drift.apply(found, declared, drift)
    _show(drift, as_json)
    raise typer.Exit(1 if any(not each.remedy for each in drift) else 0)


def _declared() -> "list[Topic]":
    from deploy.topics import YAML, listed

    return listed(YAML.read_text("utf-8"))


@contextmanager
def _bus(profile: Profile | None) -> "Iterator[Topics]":
    from libs.config import ServiceConfig
    from libs.profile import Adapters

    enter(profile)
    bus = Adapters(ServiceConfig(home=home_folder()), os.environ).bus
    try:
        yield bus.topics
    finally:
        bus.close()


def _show(drift: "Sequence[Drift]", as_json: bool) -> None:
    if as_json:
        rows = [dataclasses.asdict(each) | {"remedy": each.remedy} for each in drift]
        typer.echo(json.dumps({"drift": rows}))
        return
    for each in drift:
        remedy = each.remedy or "stays: change it by hand"
        typer.echo(
            f"{each.topic:<40} {each.kind:<16} declared {each.declared!s:<6} "
            f"found {each.found!s:<6} {remedy}"
        )
    if not drift:
        typer.echo("every topic is as declared")
