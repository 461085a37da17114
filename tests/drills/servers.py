"""The real servers of the cluster's drills: a stack of their own, and a namespace for each round.

Others may use the machine's shared stack; what is killed and stopped here is nobody else's.
"""

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from elasticsearch import Elasticsearch

from deploy.local import stack
from deploy.local.stack.bring import forget
from libs import profile
from libs.blobs.port import Blobs
from libs.bus.kafka import KafkaBus
from libs.clock import Clock
from tests import buckets
from tests.drills.matrix import SERVERS
from tests.own_minio import read_only


class Servers:
    """Kafka, MinIO, Elasticsearch and Triton, started when they are first needed."""

    def __init__(self, run: stack.Run) -> None:
        """Keep their state in the folder of `run`."""
        self._run = run
        self._told: Mapping[str, str] = {}

    def environment(self, namespace: str) -> dict[str, str]:
        """Return the settings of services that use them; starts what does not run."""
        self._told = self._told or stack.up(self._run, only=SERVERS)
        own = {"ATHANOR_PROFILE": "cluster", "ATHANOR_NAMESPACE": namespace}
        # As many as the lm host has in a drill, so that both give the same bits.
        return {**self._told, **own, "ATHANOR_TRITON_THREADS": "1"}

    def blobs(self, namespace: str, folder: Path) -> Blobs:
        """Return the object store of a namespace, with a cache below `folder`."""
        return profile.open_blobs(profile.servers(self.environment(namespace)), folder, Clock())

    def kill(self, server: str) -> None:
        """Kill a server and whatever it started."""
        stack.kill(self._run, server)

    def start(self, server: str) -> None:
        """Start a server again and return when it answers."""
        stack.start(self._run, server)

    @contextmanager
    def stopped(self, server: str) -> Iterator[None]:
        """Let a server hang: it accepts connections and answers nothing."""
        stack.kill(self._run, server, signal.SIGSTOP)
        try:
            yield
        finally:
            stack.kill(self._run, server, signal.SIGCONT)

    @contextmanager
    def closed_store(self) -> Iterator[None]:
        """Let MinIO's disk take no writes."""
        disk = self._run.folder / "minio" / "data"
        read_only(disk, True)
        try:
            yield
        finally:
            read_only(disk, False)

    def forget(self, namespace: str) -> None:
        """Remove what a round has left on the servers, or the next would be slower for it."""
        buckets.remove(buckets.client(self._told), namespace)
        bus = KafkaBus(self._told["ATHANOR_KAFKA"], namespace=namespace)
        bus.topics.delete(bus.topics.existing())
        bus.close()
        with Elasticsearch(self._told["ATHANOR_ELASTICSEARCH"]) as server:
            if left := [*server.indices.get(index=f"{namespace}*")]:
                server.indices.delete(index=left)

    def down(self) -> None:
        """End every server and remove what they kept."""
        if self._told:
            forget(self._run)
