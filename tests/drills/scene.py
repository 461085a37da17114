"""One disturbed round in a home folder of its own: begin, hit a step while it runs, let it end."""

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import grpc
from athanor.client.connection import open_channel
from athanor.loop.v1 import loop_pb2, loop_pb2_grpc

from libs.blobs.folder import FolderBlobs
from libs.blobs.port import Blobs
from libs.operations.record import Record, State
from tests.drills.servers import Servers
from tests.drills.stack import PATIENCE_S, Failed, Stack, wait_for
from tests.drills.state import AS_OF, REQUEST_ID, Left, Store

_LOOK_S = 0.001
"""How often a step is looked at that should be hit: the shortest take a few hundredths."""


class Missed(Exception):
    """The step had ended before it was hit."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all drills of one recipe share."""

    round_file: str
    """YAML."""
    rpc_by_step: Mapping[str, str]
    late_exam: Path
    """An exam that no round knows of."""
    site: Path | None = None
    """Rendered pages that the launcher shall serve."""
    servers: Servers | None = None
    """The real servers; None: the embedded profile."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """An undisturbed round."""

    left: Left
    duration_s: Mapping[str, float]
    """Step to the time that its operation took."""
    up_s: float
    """Time until all services answered."""
    round_s: float


@dataclass(frozen=True, kw_only=True)
class Found:
    """What was found in the home folder when the round had ended."""

    left: Left
    faults: tuple[str, ...]
    """What should not be there."""


@dataclass(kw_only=True)
class Scene:
    """One attempt at a drill."""

    folder: Path
    setting: Setting
    more: dict[str, str] = field(default_factory=dict)
    """Settings of services that this drill needs."""
    namespace: str = field(default_factory=lambda: f"drill-{uuid4().hex[:8]}-")
    """What its state is called on real servers: each attempt begins with nothing."""
    began: float = 0.0
    """Monotonic seconds of the round's start."""
    round_s: float = 0.0
    """How long the round took, once it has ended."""

    def __post_init__(self) -> None:
        self.home = self.folder / "home"
        servers = self.setting.servers
        told = servers.environment(self.namespace) if servers else {}
        self.stack = Stack(self.home, site=self.setting.site, more={**told, **self.more})
        blobs: Blobs = FolderBlobs(self.home / "blobs")
        if servers:
            blobs = servers.blobs(self.namespace, self.folder)
        self.store = Store(self.home, self.setting.rpc_by_step, blobs)
        self.found: Found | None = None

    @property
    def logs(self) -> Path:
        """Where the services log to."""
        told = self.folder / "logs"
        return told if told.exists() else self.home / "logs"

    @property
    def round_file(self) -> Path:
        """The round, as a file for the command line."""
        return self.folder / "round.yaml"

    def prepare(self) -> None:
        """Make an empty folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.home.mkdir(parents=True)
        self.round_file.write_text(self.setting.round_file)

    def begin(self) -> None:
        """Start the services and the round."""
        self.stack.start()
        self.start_round()

    def start_round(self) -> None:
        """Start the round; the same again is the same round."""
        request = loop_pb2.StartRoundRequest(
            request_id=REQUEST_ID, recipe_yaml=self.setting.round_file, as_of=AS_OF, who="drill"
        )
        with open_channel(f"127.0.0.1:{self.stack.report('loop').port}") as channel:
            stub = loop_pb2_grpc.LoopServiceStub(channel)
            self.began = time.monotonic()
            try:
                stub.StartRound(request, timeout=60, wait_for_ready=True)
            except grpc.RpcError as error:
                raise Failed(f"the round was not accepted: {error}") from error

    def await_running(self, step: str) -> float:
        """Return since when a step runs, monotonic seconds.

        Raises:
            Missed: it has ended already.
            Failed: the round ended without it.
        """
        operation = self.store.operation(step)
        give_up = time.monotonic() + PATIENCE_S
        next_look, seen = 0.0, ""
        while True:
            now = self.store.version(operation)
            if now != seen:
                seen = now
                record = self.store.record(operation)
                if record and record.ended:
                    raise Missed(f"{step} ended before it was seen to run")
                if record and record.state is State.RUNNING:
                    return time.monotonic()
            if time.monotonic() > next_look:
                next_look = time.monotonic() + 0.5
                self._check_goes_on(step)
                if time.monotonic() > give_up:
                    raise Failed(f"waited {PATIENCE_S:g} s for {step} to run")
            time.sleep(_LOOK_S)

    def await_moment(self, step: str, after_s: float) -> None:
        """Return when the step has run for so long. Raises `Missed`, `Failed`."""
        began = self.await_running(step)
        time.sleep(max(0.0, began + after_s - time.monotonic()))

    def check_hit(self, step: str) -> None:
        """Raise `Missed` unless the step still runs."""
        record = self.store.record(self.store.operation(step))
        if record is None or record.state is not State.RUNNING:
            raise Missed(f"{step} had ended")

    def running(self, service: str) -> list[Record]:
        """Return the operations that a service runs."""
        return [
            record
            for record in self.store.records()
            if record.service == service and record.state is State.RUNNING
        ]

    def await_end(self) -> Record:
        """Return the operation of the round once it ended."""

        def ended() -> Record | None:
            record = self.store.record(self.store.round_operation)
            return record if record and record.ended else None

        record = wait_for(ended, f"the round to end; {self._standing()}")
        self.round_s = time.monotonic() - self.began
        return record

    def took_over(self, before: Record) -> str:
        """Say who took an operation over. Raises `Failed` if nobody did."""
        after = self.store.record(before.name)
        assert after is not None
        if after.epoch <= before.epoch or after.holder == before.holder:
            raise Failed(
                f"nobody took over {before.service}.{before.method}: epoch {before.epoch} of "
                f"{before.holder}, then {after.epoch} of {after.holder}"
            )
        return f"{before.service}.{before.method} epoch {before.epoch} to {after.epoch}"

    def destroy(self) -> None:
        """End every process at once, and take what the round has left from shared servers."""
        self.stack.destroy()
        if self.setting.servers:
            self.setting.servers.forget(self.namespace)

    @property
    def servers(self) -> Servers:
        """The real servers that the round runs on."""
        assert self.setting.servers is not None, "a drill of the embedded profile has none"
        return self.setting.servers

    def keep(self) -> "Found":
        """Look at what the round has left, once, since a disk may go away."""
        if self.found is None:
            faults = tuple(self.store.faults([*{self.home / "logs", self.logs, self.folder}]))
            self.found = Found(left=self.store.left(), faults=faults)
        return self.found

    def _check_goes_on(self, step: str) -> None:
        record = self.store.record(self.store.round_operation)
        if record and record.ended:
            raise Failed(f"the round ended before {step} ran: {record.state} {record.error}")

    def _standing(self) -> str:
        # Asked when the wait begins; where it stands at its end is in the folder that is kept.
        steps = self.store.round().steps
        return ", ".join(f"{step.name} {step.state}" for step in steps if step.state == "running")
