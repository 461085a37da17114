"""Two Tritons and a MinIO of a test's own, to be killed and stopped, and models for them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deploy.local.stack import Run, down, kill, start, up
from libs.artifacts import Artifacts
from libs.blobs.folder import FolderBlobs
from libs.blobs.port import Blobs
from libs.lm.digest import folder_digest
from libs.lm.publish import Publisher
from libs.lm.triton.client import TritonLm
from libs.lm.triton.replica import Replica
from tests import buckets, hosts, stack

NAMES = ("triton", "triton-2")


class OwnTritons:
    """Servers in a run folder of their own, and checkpoints registered in `home`."""

    def __init__(self, run: Run, settings: Mapping[str, str], home: Path) -> None:
        self.run = run
        self.addresses = settings["ATHANOR_TRITON"].split(",")
        self.key = settings["ATHANOR_TRITON_KEY"]
        self.settings = settings
        self.home = home
        self.blobs = FolderBlobs(home / "blobs")

    def register(self, folder: Path) -> str:
        """Register a checkpoint and return the digest of its weights."""
        digest = folder_digest(folder)
        hosts.register(Artifacts(self.blobs), self.blobs, folder, digest)
        return digest

    def models(self) -> Blobs:
        """Return the store that the servers read."""
        return buckets.open_blobs(self.settings, self.home / "cache", "")

    @contextmanager
    def publisher(self, *, models: Blobs | None = None, **options: Any) -> Iterator[Publisher]:
        """Give a publisher to both servers."""
        replicas = [Replica(address, key=self.key) for address in self.addresses]
        store = models or self.models()
        publisher = Publisher(replicas, blobs=self.blobs, models=store, **options)
        try:
            yield publisher
        finally:
            publisher.close()

    def lm(self, addresses: Sequence[str] = (), **options: Any) -> TritonLm:
        """Return a client of both servers, or of some."""
        return TritonLm(
            addresses or self.addresses,
            blobs=self.blobs,
            models=self.models(),
            key=self.key,
            **options,
        )

    def restart(self, name: str) -> None:
        """Kill a server as a power cut would, and start it again."""
        kill(self.run, name)
        start(self.run, name)

    def send(self, name: str, number: int) -> None:
        """Send a signal to a server."""
        kill(self.run, name, number)


@contextmanager
def own_tritons(folder: Path, names: Sequence[str] = NAMES) -> Iterator[OwnTritons]:
    """Give servers that end with the block; skip the test where they were never obtained."""
    stack.require(names)
    run = Run(cache=stack.folder(), folder=folder / "stack")
    run.folder.mkdir()
    try:
        yield OwnTritons(run, up(run, names), folder)
    finally:
        down(run)
