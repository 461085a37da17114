"""A Kafka broker of a test's own, to be killed, stopped and started again."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests import stack
from tests.own_minio import free_port

_PATIENCE_S = 90.0
_SETTINGS = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={folder}/data
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
"""


class OwnKafka:
    """One broker over one folder; its port stays the same through restarts."""

    def __init__(self, folder: Path, **settings: str) -> None:
        """Write its settings; names of `settings` have `_` where Kafka has a dot."""
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        text = _SETTINGS.format(port=self.port, controller=free_port(), folder=folder)
        text += "".join(f"{name.replace('_', '.')}={value}\n" for name, value in settings.items())
        (folder / "server.properties").write_text(text)
        self._run("kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c")

    @property
    def settings(self) -> Mapping[str, str]:
        """What `stack` says of the shared broker, of this one."""
        return {"ATHANOR_KAFKA": f"127.0.0.1:{self.port}"}

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        with (self._folder / "kafka.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._java("kafka.Kafka"), stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        give_up = time.monotonic() + _PATIENCE_S
        while not self._answers():
            assert self._process.poll() is None, (self._folder / "kafka.log").read_text()
            assert time.monotonic() < give_up, f"Kafka did not answer within {_PATIENCE_S} s"
            time.sleep(0.1)

    def kill(self) -> None:
        """End it as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=_PATIENCE_S)

    def restart(self) -> None:
        """Kill it and start it again."""
        self.kill()
        self.start()

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Let it hang: it accepts connections and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            return True
        return False

    def _run(self, *command: str) -> None:
        subprocess.run(self._java(*command), check=True, capture_output=True, timeout=_PATIENCE_S)

    def _java(self, *command: str) -> list[str]:
        return [
            "java",
            "-Xmx256m",
            "-cp",
            f"{_jars()}/*",
            *command,
            str(self._folder / "server.properties"),
        ]


def _jars() -> Path:
    found = [*stack.folder().glob("kafka-*/libs")]
    if not found:
        refuse = pytest.fail if os.environ.get("ATHANOR_REQUIRE_STACK") else pytest.skip
        refuse(f"Kafka is not here ({stack.folder()}/kafka-*/libs is absent): make stack")
    return found[-1]
