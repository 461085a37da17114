"""Kafka, one node that is broker and controller: 46 jars from Maven Central."""

import base64
import secrets
from pathlib import Path

from deploy.local.stack import look, obtain
from deploy.local.stack.guard import Command, Guard
from deploy.local.stack.server import Server, Start

_VERSION = "4.1.0"
_PART = f"kafka-{_VERSION}"
_FORMAT_S = 120.0
_POM = f"""<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>athanor</groupId><artifactId>kafka</artifactId><version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId><version>{_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId>
      <artifactId>slf4j-simple</artifactId><version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
"""
_PROPERTIES = """process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{client},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{client}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={data}
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
num.partitions=4
"""


def _fill(folder: Path, guard: Guard, log: Path) -> None:
    (folder / "pom.xml").write_text(_POM)
    goal = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"
    obtain.maven(folder, guard, log, goal, "-DoutputDirectory=libs")


def _command(start: Start, guard: Guard) -> Command:
    properties = start.folder / "server.properties"
    properties.write_text(_PROPERTIES.format(data=start.folder / "data", **start.ports))
    if not (start.folder / "data" / "meta.properties").exists():
        _format(start, guard, properties)
    argv = (*_java(start), "kafka.Kafka", str(properties))
    return Command(argv=argv, folder=start.folder)


def _format(start: Start, guard: Guard, properties: Path) -> None:
    cluster = base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")
    how = ("format", f"--cluster-id={cluster}", "-c", str(properties), "--ignore-formatted")
    command = Command(argv=(*_java(start), "kafka.tools.StorageTool", *how), folder=start.folder)
    guard.run(command, log=start.run.log(start.name), deadline_s=_FORMAT_S)


def _java(start: Start) -> tuple[str, ...]:
    return (obtain.java(), "-Xmx512m", "-cp", str(start.run.cache / _PART / "libs" / "*"))


def _is_ready(start: Start) -> bool:
    try:
        return bool(look.kafka_brokers(_address(start)))
    except OSError:
        return False


def _address(start: Start) -> str:
    return f"127.0.0.1:{start.ports['client']}"


KAFKA = Server(
    name="kafka",
    version=_VERSION,
    ports=("client", "controller"),
    parts={_PART: _fill},
    command=_command,
    is_ready=_is_ready,
    settings=lambda start: {"ATHANOR_KAFKA": _address(start)},
)
