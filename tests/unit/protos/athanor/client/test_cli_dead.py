"""The verbs for dead letters, asking the servicer itself."""

import json
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import typer
from athanor.client import cli
from athanor.trainer.v1 import events_pb2
from typer.testing import CliRunner

from libs.blobs.folder import FolderBlobs
from libs.bus import events
from libs.bus.consume import dead_letter
from libs.bus.dead_letters import DeadLetters
from libs.bus.port import Topic
from libs.bus.servicer import DeadLettersServicer
from libs.bus.sqlite import SqliteBus
from libs.errors import InvalidInput

TOPIC = Topic(name="trainer.checkpoints-saved.v1", key="artifact id", partitions=1)
NAME = f"{TOPIC.name}.dead/0/0"


@pytest.fixture
def bus(tmp_path):
    opened = SqliteBus(tmp_path / "bus.sqlite")
    opened.declare([TOPIC])
    yield opened
    opened.close()


class Stub:
    """Calls a servicer as the channel would."""

    def __init__(self, servicer):
        self._servicer = servicer

    def __getattr__(self, rpc):
        return lambda request, timeout: getattr(self._servicer, rpc)(request, None)


@pytest.fixture
def athanor(bus, tmp_path):
    app = typer.Typer()
    cli.add_to(app)
    letters = DeadLetters(bus, FolderBlobs(tmp_path / "blobs"))

    @contextmanager
    def connection(**opened):
        yield SimpleNamespace(dead_letters=Stub(DeadLettersServicer(letters, bus)))

    def run(*arguments):
        done = CliRunner().invoke(app, ["dead", *arguments], obj=connection)
        assert done.exit_code == 0, done.exception
        return done.stdout

    return run


def bury(bus):
    (message,) = bus.scan(TOPIC.name)
    dead_letter(bus, message, InvalidInput("expected a digest"))


@pytest.fixture
def event(bus):
    saved = events_pb2.CheckpointSaved(artifact_id="ab12")
    events.publish(bus, TOPIC.name, "ab12", saved, source="trainer")
    bury(bus)


def test_without_letters_the_list_says_so(athanor):
    assert athanor("list") == "no dead letters\n"


def test_a_letter_is_shown_with_its_payload_decoded(athanor, event):
    (line,) = athanor("list").splitlines()
    assert line.startswith(NAME)
    assert line.endswith("InvalidInput: expected a digest")
    shown = athanor("show", NAME)
    assert f"origin    {TOPIC.name}/0/0\n" in shown
    assert "header    ce_source: trainer\n" in shown
    assert '"artifact_id": "ab12"' in shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(b'{"operation": "x"}', '{"operation": "x"}'), (b"\xff\x00", "2 bytes that are no text")],
)
def test_a_payload_of_no_known_type_is_shown_as_text_or_counted(athanor, bus, value, shown):
    bus.publish(TOPIC.name, key="a", value=value, headers={"ce_type": "athanor.nobody.v1.Spoke"})
    bury(bus)
    assert shown in athanor("show", NAME)


def test_a_replay_says_what_it_came_to(athanor, event, bus):
    assert "would be replayed" in athanor("replay", NAME, "--dry-run")
    assert athanor("replay", NAME) == f"{NAME} replayed on {TOPIC.name}\n"
    assert "was replayed before" in athanor("replay", NAME)
    assert json.loads(athanor("list", "--json"))["letters"][0]["replayed"] is True
    assert len(list(bus.scan(TOPIC.name))) == 2
