"""10,000 events, consumers killed twenty times: every effect is there once, in order."""

import json
import multiprocessing
import os
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from libs.blobs.port import Blobs
from libs.bus.consume import consume
from libs.bus.port import Bus, Message, Topic
from libs.errors import Conflict
from tests import buckets, buses

EVENTS = 10_000
KEYS = 250
CONSUMERS = 3
KILLS = 20
PATIENCE_S = 400.0
TOPIC = Topic(name="test.things-happened.v1", key="thing", partitions=8)


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where publisher and consumers meet."""

    home: Path
    open_blobs: buckets.Opener
    open_bus: buses.Opener

    @property
    def handled(self) -> int:
        """How often a handler returned, by all processes, repetitions included."""
        return (self.home / "handled").stat().st_size


@pytest.fixture(params=[("folder", "kafka"), ("minio", "kafka")], ids="-".join)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    store, bus = request.param
    (tmp_path / "handled").touch()
    with (
        buckets.opener(store, request, tmp_path) as open_blobs,
        buses.opener(bus, request, tmp_path, session_s=2.0) as open_bus,
    ):
        yield Site(home=tmp_path, open_blobs=open_blobs, open_bus=open_bus)


def add_to_record(blobs: Blobs, message: Message) -> None:
    """Have the event's effect: its id at the end of its key's record, unless it is there."""
    name, event = f"artifacts/effects/{message.key}", int(message.value)
    with suppress(Conflict):
        blobs.create(name, json.dumps([event]).encode())
        return
    data, etag = blobs.read(name)
    events = json.loads(data)
    if event not in events:
        # Conflict: a member that was given up for dead is at it too; then the record says more.
        blobs.replace_if(name, json.dumps([*events, event]).encode(), etag=etag)


def handle_until_stopped(site: Site) -> None:
    """Be a consumer process until the file `stop` exists."""
    blobs, bus, stopped = site.open_blobs(), site.open_bus(), threading.Event()
    handled = os.open(site.home / "handled", os.O_WRONLY | os.O_APPEND)

    def handle(message: Message) -> None:
        while True:
            with suppress(Conflict):
                add_to_record(blobs, message)
                os.write(handled, b".")
                return

    def stop_when_told() -> None:
        if (site.home / "stop").exists():
            stopped.set()

    with bus.subscribe([TOPIC.name], group="handlers") as consumer:
        consume(bus, consumer, handle, stopped=stopped, each_poll=stop_when_told)
    bus.close()


def publish_all(bus: Bus) -> None:
    def publish(key: int) -> None:
        for event in range(key, EVENTS, KEYS):
            bus.publish(TOPIC.name, key=str(key), value=str(event).encode())

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(publish, range(KEYS)))


def start_one(site: Site) -> BaseProcess:
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=handle_until_stopped, args=(site,), daemon=True)
    process.start()
    return process


def kill_as_they_go(site: Site, consumers: list[BaseProcess]) -> None:
    """Kill one at random, and start another, each time a share of the events is handled."""
    chance = random.Random(7)
    give_up = time.monotonic() + PATIENCE_S
    for number in range(1, KILLS + 1):
        while site.handled < number * EVENTS // (KILLS + 1):
            assert time.monotonic() < give_up, f"{site.handled} of {EVENTS} were handled"
            time.sleep(0.02)
        victim = chance.randrange(CONSUMERS)
        consumers[victim].kill()
        consumers[victim].join()
        consumers[victim] = start_one(site)


def effects(blobs: Blobs) -> dict[int, list[int]]:
    """Return what the records hold, by key."""
    return {
        int(blob.name.rsplit("/", 1)[-1]): json.loads(blobs.read(blob.name).data)
        for blob in blobs.list("artifacts/effects/")
    }


def await_all(site: Site, blobs: Blobs) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while site.handled < EVENTS or sum(map(len, effects(blobs).values())) < EVENTS:
        assert time.monotonic() < give_up, f"{site.handled} of {EVENTS} were handled"
        time.sleep(1.0)


def test_every_effect_is_there_once_however_often_consumers_are_killed(site: Site) -> None:
    bus, blobs = site.open_bus(), site.open_blobs()
    bus.declare([TOPIC])
    consumers = [start_one(site) for _ in range(CONSUMERS)]
    publish_all(bus)
    kill_as_they_go(site, consumers)
    await_all(site, blobs)
    (site.home / "stop").touch()
    for consumer in consumers:
        consumer.join(PATIENCE_S)
    bus.close()
    assert effects(blobs) == {key: list(range(key, EVENTS, KEYS)) for key in range(KEYS)}
