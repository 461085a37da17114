"""Which adapters stand behind the ports: files of one machine, or the servers of a cluster.

`ATHANOR_PROFILE` says which; the cluster's servers are named by `ATHANOR_*`, the same names that
`make stack` writes into `stack.env`. Every `__main__` chooses through this module, so that a
service is the same program on both. Clients are imported where they are used.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from libs import config as settings
from libs.blobs.port import Blobs
from libs.bus.port import Bus
from libs.clock import Clock
from libs.config import ServiceConfig
from libs.errors import InvalidInput
from libs.lm.port import GenerativeLm
from libs.search.port import Search

if TYPE_CHECKING:
    from libs.lm.publish import Publisher
    from libs.lm.triton.client import TritonLm


class Profile(StrEnum):
    """Where state lies."""

    EMBEDDED = "embedded"
    CLUSTER = "cluster"


@dataclass(frozen=True, kw_only=True)
class Servers:
    """Where the servers of the cluster profile answer, from `ATHANOR_*`."""

    kafka: str
    """Bootstrap servers, `host:port`, split at commas."""
    minio: str
    """`http://host:port` of any S3 store."""
    minio_access_key: str
    minio_secret_key: str
    elasticsearch: str
    """`http://host:port`."""
    triton: str
    """gRPC addresses of the replicas, `host:port`, split at commas."""
    triton_key: str = ""
    """What Triton's repository endpoint asks for; empty: it asks for nothing."""
    triton_threads: int = 2
    """Threads of a model's arithmetic; other numbers give other last bits."""
    namespace: str = ""
    """Stands before every topic, group, bucket and index, so that several may share the servers."""


def chosen(env: Mapping[str, str]) -> Profile:
    """Return the profile that the environment asks for, without a word the embedded one.

    Raises:
        InvalidInput: there is no such profile.
    """
    name = env.get("ATHANOR_PROFILE") or Profile.EMBEDDED
    if name not in [*Profile]:
        raise InvalidInput(f"ATHANOR_PROFILE must be {' or '.join(Profile)}, got {name[:40]!r}")
    return Profile(name)


def servers(env: Mapping[str, str]) -> Servers | None:
    """Return where the cluster's servers answer; None on the embedded profile.

    Raises:
        InvalidInput: one of them is not named.
    """
    if chosen(env) is Profile.EMBEDDED:
        return None
    names = {f"ATHANOR_{field.name.upper()}" for field in dataclasses.fields(Servers)}
    known = {
        name: text
        for name, text in env.items()
        if name in names or name.removesuffix("_FILE") in names
    }
    return settings.read(Servers, "athanor", known)


def open_blobs(at: Servers | None, home: Path, clock: Clock) -> Blobs:
    """Return the cluster's object store, or without servers that of the home folder."""
    if at is None:
        from libs.blobs.folder import FolderBlobs

        return FolderBlobs(home / "blobs")
    from libs.blobs.minio import MinioBlobs

    return MinioBlobs(
        at.minio,
        access_key=at.minio_access_key,
        secret_key=at.minio_secret_key,
        namespace=at.namespace,
        cache=home / "cache",
        clock=clock,
    )


class Adapters:
    """The adapters of one process, each made when it is first asked for."""

    def __init__(self, config: ServiceConfig, env: Mapping[str, str]) -> None:
        """Choose by `env`. Raises `InvalidInput` when a server that is needed is not named."""
        self._config = config
        self._servers = servers(env)
        self.clock = Clock(config.clock_shift_file)

    @cached_property
    def blobs(self) -> Blobs:
        """The object store."""
        return open_blobs(self._servers, self._config.home, self.clock)

    @cached_property
    def bus(self) -> Bus:
        """Events and work queues."""
        session_s = self._config.lease_s
        if self._servers is None:
            from libs.bus.sqlite import SqliteBus

            file = self._config.home / "bus.sqlite"
            return SqliteBus(file, session_s=session_s, blobs=self.blobs, clock=self.clock)
        from libs.bus.kafka import KafkaBus

        return KafkaBus(
            self._servers.kafka,
            namespace=self._servers.namespace,
            session_s=session_s,
            blobs=self.blobs,
            clock=self.clock,
        )

    @cached_property
    def search(self) -> Search:
        """Full-text search."""
        if self._servers is None:
            from libs.search.tantivy import TantivySearch

            return TantivySearch(self._config.home / "index")
        from libs.search.elasticsearch import ElasticsearchSearch

        return ElasticsearchSearch(
            self._servers.elasticsearch, namespace=self._servers.namespace, clock=self.clock
        )

    @contextmanager
    def lm(self, address: str) -> Iterator[GenerativeLm]:
        """Yield the models that answer: those of the lm host at `address`, or of Triton.

        Raises:
            InvalidInput: the embedded profile, and no address.
        """
        if self._servers is None:
            from libs.lm.client import GrpcLm

            if not address:
                raise InvalidInput("the embedded profile needs the lm host's address, got none")
            with GrpcLm(address, tls=self._config.tls) as host:
                yield host
            return
        with self._tritons(self._servers) as replicas:
            yield replicas

    @contextmanager
    def lm_and_publisher(
        self, address: str, tell: Callable[[str, int, str], None]
    ) -> Iterator[tuple[GenerativeLm, "Publisher | None"]]:
        """Yield the models as `lm`, and who brings weights to Triton; None: nobody has to.

        Args:
            address: of the lm host.
            tell: hears model, version and weights digest of what is published.
        """
        if self._servers is None:
            with self.lm(address) as host:
                yield host, None
            return
        with self._tritons(self._servers, tell=lambda each: tell(*each)) as replicas:
            yield replicas, replicas.publisher

    def _tritons(self, at: Servers, **options: Any) -> "TritonLm":
        from libs.lm.triton.client import TritonLm

        # Triton reads one repository, whatever the namespace: its models are named by content.
        models = open_blobs(replace(at, namespace=""), self._config.home, self.clock)
        return TritonLm(
            at.triton.split(","),
            blobs=self.blobs,
            models=models,
            key=at.triton_key,
            num_threads=at.triton_threads,
            live=f"{at.namespace}live",
            **options,
        )
