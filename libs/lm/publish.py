"""Puts weights where Triton serves them from, and has its replicas take them up.

A candidate is a model of its own, `lm-<12 digits of the digest>`; `live` is what users ask, and its
weights change under them. Both in one order: an immutable version in the object store, its manifest
last; told to whoever listens; loaded, while the version before serves on; digested by the model
itself. `live` is entered into its configuration only once a replica has shown the digest, so what a
server finds when it restarts has always served before.

A load cannot be fenced. So `converge` asks what `live` must be when it has ended, and does it again
if that moved on: of two that race, the last one to load has asked the registry after it.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import NamedTuple

from libs import rpc
from libs.artifacts import Artifacts
from libs.blobs.port import Blobs
from libs.errors import Conflict, Corrupt, DeadlineExceeded, Unavailable
from libs.lm import weights
from libs.lm.pieces import check_digest
from libs.lm.triton import metrics
from libs.lm.triton.replica import Replica
from libs.lm.triton.repository import CANDIDATE, LIVE, Repository, config_json, model_name

_LOOK_S = 5.0
"""For asking a replica what it serves."""
_TRIES = 5
"""Of `converge`, while others publish at the same time."""
_log = logging.getLogger(__name__)


class Published(NamedTuple):
    """One version that the store holds and replicas are about to load."""

    model: str
    version: int
    weights_digest: str


class Publisher:
    """Candidates and `live` on several replicas of one repository; for use by any thread."""

    def __init__(
        self,
        replicas: Sequence[Replica],
        *,
        blobs: Blobs,
        models: Blobs,
        timeout_s: float = 120.0,
        max_models: int = 4,
        num_threads: int = 2,
        live: str = LIVE,
        tell: Callable[[Published], None] = lambda _: None,
    ) -> None:
        """Publish to `replicas`.

        Args:
            replicas: all servers that read the repository.
            blobs: where checkpoints are registered and stored.
            models: where the repository lies.
            timeout_s: for one load.
            max_models: candidates that a replica holds; the one asked longest ago leaves first.
            num_threads: of a model's arithmetic; other numbers give other last bits.
            live: what `live` is called there; several may share one repository.
            tell: hears of each version before replicas load it, of some more than once.
        """
        self.replicas = tuple(replicas)
        self._blobs = blobs
        self._artifacts = Artifacts(blobs)
        self._repository = Repository(models, num_threads=num_threads)
        self._timeout_s = timeout_s
        self._max_models = max_models
        self._live = live
        self._tell = tell
        self._begun: dict[tuple[str, str], Future[None]] = {}
        self._lock = threading.Lock()

    def hold(self, replica: Replica, weights_digest: str) -> None:
        """Have a replica hold a candidate, and see that it does.

        Raises:
            NotFound: no registered checkpoint has the digest.
            Corrupt: the weights stored under it have another one.
            Unavailable: the replica is down, or let go of the model at once for others.
        """
        name = model_name(weights_digest)
        self._store(name, weights_digest)
        self._make_room(replica, name)
        self._load(replica, name, weights_digest)
        metrics.BEHIND.labels(replica.address).set(0)

    def begin_hold(self, replica: Replica, weights_digest: str) -> None:
        """Tell a replica that is behind to load a published candidate, and do not wait."""
        name = model_name(weights_digest)
        key = (replica.address, name)
        with self._lock:
            begun = self._begun.get(key)
            if begun is not None and not begun.done():
                return
            self._make_room(replica, name)
            begun = self._begun[key] = replica.begin_load(name, timeout_s=self._timeout_s)
        begun.add_done_callback(lambda done: _note(done, replica.address, name))

    def converge(self, wanted: Callable[[], str]) -> None:
        """Have every replica answer as `live` with the weights that `wanted` returns.

        `wanted` is asked again at the end, since it reads a registry that others change. Replicas
        that do already are only asked; safe to repeat, to race and to kill.

        Raises:
            NotFound: no registered checkpoint has the digest.
            Corrupt: the weights stored under it have another one; what served before serves on.
            Unavailable: a replica is down; all others have the weights.
            Conflict: others published all the time.
        """
        for _ in range(_TRIES):
            digest = wanted()
            with suppress(_Overtaken):
                self._show(digest)
                if wanted() == digest:
                    return
        raise Conflict(
            f"{self._live} moved {_TRIES} times while it was loaded, the last was {digest}"
        )

    def close(self) -> None:
        """Close the channels to the replicas."""
        for replica in self.replicas:
            replica.close()

    def _show(self, digest: str) -> None:
        """Bring `live` to the weights, wherever a replica answers."""
        behind, down = self._behind(digest)
        versions = []
        for replica in behind:
            try:
                versions.append(self._load(replica, self._live, digest))
                metrics.BEHIND.labels(replica.address).set(0)
            except (Unavailable, DeadlineExceeded) as error:
                down.append(str(error))
        if versions or (len(down) < len(self.replicas) and not self._is_entered(digest)):
            self._enter(max(versions, default=0) or self._store(self._live, digest))
        if down:
            raise Unavailable("; ".join(down))

    def _behind(self, digest: str) -> tuple[list[Replica], list[str]]:
        """Return the replicas whose `live` is of other weights, and why others do not say."""
        behind, down = [], []
        for replica in self.replicas:
            try:
                held = replica.weights_digest(self._live, timeout_s=_LOOK_S)
            except (Unavailable, DeadlineExceeded) as error:
                down.append(str(error))
                held = ""
            else:
                behind += [replica] if held != digest else []
            metrics.BEHIND.labels(replica.address).set(held != digest)
        return behind, down

    def _is_entered(self, digest: str) -> bool:
        """Tell whether the configuration of `live` names these weights."""
        return self._repository.weights_digest(self._live) == digest

    def _enter(self, version: int) -> None:
        """Name the version in the configuration of `live`, and delete those before it."""
        try:
            self._repository.serve(self._live, version)
        except Conflict as conflict:
            raise _Overtaken(str(conflict)) from conflict
        self._repository.prune(self._live)

    def _load(self, replica: Replica, name: str, digest: str) -> int:
        """Load a model and see its digest; publish again, once, what rotted in the store."""
        version = self._store(name, digest)
        try:
            self._told_to_load(replica, name, version)
        except Corrupt as error:
            if not self._repository.discard_rotten(name, version):
                raise
            _log.error("version %d of %s rotted in the store: %s", version, name, error)
            version = self._store(name, digest)
            self._told_to_load(replica, name, version)
        held = replica.weights_digest(name, timeout_s=self._timeout_s)
        if not held:
            raise Unavailable(f"Triton at {replica.address}: {name} was let go of as it was loaded")
        check_digest(digest, held)
        return version

    def _told_to_load(self, replica: Replica, name: str, version: int) -> None:
        # Of `live` the version is named in the call: its configuration names what has served.
        config = config_json(name, version) if name == self._live else ""
        try:
            with metrics.loading(replica.address):
                replica.load(name, timeout_s=self._timeout_s, config=config)
        except (Corrupt, rpc.RemoteError) as error:
            if self._repository.served(name) > version:  # and this one was pruned meanwhile
                raise _Overtaken(str(error)) from error
            raise

    def _make_room(self, replica: Replica, name: str) -> None:
        """Let go of the candidates asked longest ago, as many as one more needs."""
        held = [each for each in replica.ready() if each.startswith(CANDIDATE) and each != name]
        for idle in held[: max(0, len(held) - self._max_models + 1)]:
            replica.unload(idle, timeout_s=self._timeout_s)

    def _store(self, name: str, digest: str) -> int:
        """Put the weights into the repository, unless they are there; return the version."""
        checkpoint = self._artifacts.open(weights.find(self._blobs, digest), kind="checkpoint")
        files = {file.name: checkpoint.path(file.name) for file in checkpoint.manifest.files}
        put = self._repository.add if name == self._live else self._repository.publish
        version = put(name, digest, files)
        self._tell(Published(name, version, digest))
        return version


class _Overtaken(Conflict):
    """Somebody else entered a later version."""


def _note(begun: Future[None], address: str, name: str) -> None:
    if error := begun.exception():
        _log.warning("%s is still behind: %s", address, error)
    else:
        metrics.BEHIND.labels(address).set(0)
        _log.info("%s holds %s", address, name)
