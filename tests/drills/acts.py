"""What the drills do to a round: kill, fill the disk, stop the clock's hands, register an exam.

Each act begins the round, disturbs it while a step runs, lets it end, and says what showed that
somebody took over. Whether the round left what it should is asked elsewhere, alike for all.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from athanor.client.connection import open_channel
from athanor.evaluator.v1 import evaluator_pb2, evaluator_pb2_grpc

from deploy.local.programs import ROOT, SERVICES, services
from libs import launcher
from libs.operations.record import Record, State
from tests.drills.matrix import SERVERS, Drill, Kind
from tests.drills.scene import Missed, Scene
from tests.drills.stack import (
    PATIENCE_S,
    Failed,
    Unable,
    await_nobody,
    environment,
    mount,
    settings,
    wait_for,
)

_HELD_S = 3.0
"""How long a disk stays full, or a folder closed, after somebody has met it: more than a lease."""
_DISK_BYTES = 128 << 20
_CLOCK_SHIFT_S = 3600.0
_MINUTE_S = 60.0
_STOPS = 50
_LATE_EXAM = "late"


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What an act has shown."""

    by: str
    """In words, for the table."""
    blobs: frozenset[str] = frozenset()
    """What it has itself put into the store."""


@dataclass(frozen=True, kw_only=True)
class Moment:
    """When to act."""

    step: str
    after_s: float
    """Seconds after the step began to run."""


Act = Callable[[Scene, Drill, Moment], Shown]


# Kills.


def kill(scene: Scene, drill: Drill, moment: Moment) -> Shown:
    """Kill services at once; the launcher starts them again, and they go on."""
    scene.begin()
    before = {service: scene.stack.report(service) for service in drill.victims}
    scene.await_moment(moment.step, moment.after_s)
    for report in before.values():
        os.kill(report.pid, signal.SIGKILL)
    scene.check_hit(moment.step)
    held = [record for service in drill.victims for record in scene.running(service)]
    restarted = [scene.stack.await_restart(*each) for each in before.items()]
    scene.await_end()
    idle = [each for each in restarted if each.name not in {record.service for record in held}]
    return Shown(
        by="; ".join(
            [scene.took_over(record) for record in held]
            + [f"{each.name}, which ran nothing then, was started again" for each in idle]
        )
    )


def kill_launcher(scene: Scene, drill: Drill, moment: Moment) -> Shown:
    """Kill the supervisor: everything dies with it, and goes on once it is started again."""
    scene.begin()
    scene.await_moment(moment.step, moment.after_s)
    scene.stack.kill_launcher()
    scene.check_hit(moment.step)
    held = [record for service in SERVICES for record in scene.running(service)]
    scene.stack.start()
    scene.await_end()
    return Shown(by="; ".join(map(scene.took_over, held)))


def terminate(scene: Scene, drill: Drill, moment: Moment) -> Shown:
    """Ask the supervisor to end, and start it again."""
    scene.begin()
    scene.await_moment(moment.step, moment.after_s)
    before = _driving(scene)
    scene.stack.stop()
    scene.stack.start()
    scene.await_end()
    return Shown(by=scene.took_over(before))


def _driving(scene: Scene) -> Record:
    record = scene.store.record(scene.store.round_operation)
    if record is None or record.state is not State.RUNNING:
        raise Missed("the round had ended")
    return record


# The command in the foreground.


def interrupt(scene: Scene, drill: Drill, moment: Moment) -> Shown:
    """Press Ctrl-C in a command that started the services itself, and give it again."""
    shown = _command_twice(scene, moment, lambda pid: os.killpg(pid, signal.SIGINT), expected=130)
    if "the next start goes on" not in (scene.folder / "command.log").read_text():
        raise Failed("the command must say that the next start goes on, see command.log")
    return shown


def kill_command(scene: Scene, drill: Drill, moment: Moment) -> Shown:
    """Kill such a command, and give it again."""
    return _command_twice(
        scene, moment, lambda pid: os.kill(pid, signal.SIGKILL), expected=-signal.SIGKILL
    )


def _command_twice(
    scene: Scene, moment: Moment, disturb: Callable[[int], None], *, expected: int
) -> Shown:
    first = _command(scene)
    try:
        scene.await_moment(moment.step, moment.after_s)
        before = _driving(scene)
        disturb(first.pid)
        code = first.wait(PATIENCE_S)
    finally:
        first.kill()
        first.wait()
    if code != expected:
        raise Failed(f"the command must end with {expected}, it ended with {code}, see command.log")
    await_nobody(scene.home)
    code = _command(scene).wait(PATIENCE_S)
    if code != 0:
        raise Failed(f"the command given again ended with {code}, see command.log")
    return Shown(by=scene.took_over(before))


def _command(scene: Scene) -> "subprocess.Popen[bytes]":
    argv = [str(ROOT / "athanor"), "round", "start", str(scene.round_file)]
    argv += ["--as-of", "drill", "--request-id", "drill"]
    with (scene.folder / "command.log").open("ab") as log:
        return subprocess.Popen(
            launcher.adopted(argv),
            env=environment(scene.home),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


# Disks.


def full_disk(scene: Scene, drill: Drill, moment: Moment) -> Shown:
    """Fill the disk under the home folder for a while."""
    ballast = scene.home / "ballast"
    with _tmpfs(scene.home):
        scene.begin()
        scene.await_moment(moment.step, moment.after_s)
        with _unbuffered(ballast) as file:
            _fill(file)
            scene.check_hit(moment.step)
            met = _await_complaints(scene, "Busy", ("No space left", "disk is full"), file)
        ballast.unlink()
        return _ended_on_disk(scene, met)


def read_only(scene: Scene, drill: Drill, moment: Moment) -> Shown:
    """Close the store's folder for writing for a while."""
    blobs = scene.home / "blobs"
    with _tmpfs(blobs):
        scene.begin()
        scene.await_moment(moment.step, moment.after_s)
        wait_for(lambda: mount("-o", "remount,ro", str(blobs)) or None, "the store to be closed")
        scene.check_hit(moment.step)
        met = _await_complaints(scene, "Unavailable", ("Read-only file system",))
        mount("-o", "remount,rw", str(blobs))
        return _ended_on_disk(scene, met)


def _ended_on_disk(scene: Scene, met: str) -> Shown:
    """Let the round end and the services too, while the disk is still there to be looked at."""
    scene.await_end()
    scene.keep()
    scene.stack.stop()
    return Shown(by=met)


def _fill(file: int) -> None:
    for size in (1 << 20, 1 << 12, 1):
        try:
            while True:
                os.write(file, bytes(size))
        except OSError:
            continue


@contextmanager
def _unbuffered(path: Path) -> Iterator[int]:
    file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    try:
        yield file
    finally:
        os.close(file)


def _await_complaints(
    scene: Scene, kind: str, messages: tuple[str, ...], ballast: int | None = None
) -> str:
    """Return who met it, once somebody has and a while has passed; keeps a disk full meanwhile."""

    def met() -> list[str] | None:
        if ballast is not None:
            _fill(ballast)
        found = [
            file.stem
            for file in sorted(scene.logs.glob("*.jsonl"))
            if any(message in file.read_text(errors="replace") for message in messages)
        ]
        return found or None

    wait_for(met, f"somebody to meet {kind}", patience_s=60.0)
    give_up = time.monotonic() + _HELD_S
    while time.monotonic() < give_up:
        names = met()
        time.sleep(0.1)
    return f"{kind} was met by {', '.join(names or [])}"


@contextmanager
def _tmpfs(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    if not mount("-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "tmpfs", str(folder)):
        raise Unable("mounting a tmpfs is not permitted here: run as root with CAP_SYS_ADMIN")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False, capture_output=True)


# Real servers.


def kill_server(scene: Scene, drill: Drill, moment: Moment) -> Shown:
    """Kill a server and start it again."""
    (server,) = drill.victims
    scene.begin()
    scene.await_moment(moment.step, moment.after_s)
    scene.check_hit(moment.step)
    scene.servers.kill(server)
    scene.servers.start(server)
    scene.await_end()
    return Shown(by=_who_named(scene, server))


def stop(scene: Scene, drill: Drill, moment: Moment) -> Shown:
    """Stop a server or a service for a minute, as a machine that swaps does, and let it go on."""
    (victim,) = drill.victims
    scene.begin()
    scene.await_moment(moment.step, moment.after_s)
    scene.check_hit(moment.step)
    hang = scene.servers.stopped if victim in SERVERS else scene.stack.stopped
    with hang(victim):
        time.sleep(_MINUTE_S)
    scene.await_end()
    return Shown(by=_who_named(scene, victim))


def closed_store(scene: Scene, drill: Drill, moment: Moment) -> Shown:
    """Let MinIO refuse every write for a minute."""
    scene.begin()
    scene.await_moment(moment.step, moment.after_s)
    with scene.servers.closed_store():
        scene.check_hit(moment.step)
        time.sleep(_MINUTE_S)
    scene.await_end()
    return Shown(by=_who_named(scene, "minio"))


def skew(scene: Scene, drill: Drill, moment: Moment) -> Shown:
    """Set one service's wall clock an hour ahead for a minute: the store refuses its signature."""
    (victim,) = drill.victims
    shift = Path(scene.more[f"{victim.upper()}_CLOCK_SHIFT_FILE"])
    scene.begin()
    scene.await_moment(moment.step, moment.after_s)
    scene.check_hit(moment.step)
    shift.write_text(str(_CLOCK_SHIFT_S))
    time.sleep(_MINUTE_S)
    shift.write_text("0")
    scene.await_end()
    return Shown(by=_who_named(scene, "minio"))


def _who_named(scene: Scene, dependency: str) -> str:
    """Say which services named the dependency in what they logged as failing."""
    told = {
        file.stem
        for file in sorted(scene.logs.glob("*.jsonl"))
        for line in file.read_text(errors="replace").splitlines()
        if '"level": "WARNING"' in line and dependency in line.lower()
    }
    return f"{dependency} was named by {', '.join(sorted(told)) or 'nobody: no call had to fail'}"


# Time.


def clock_ahead(scene: Scene, drill: Drill, moment: Moment) -> Shown:
    """Set one service's wall clock an hour ahead while it runs."""
    (victim,) = drill.victims
    shift = Path(scene.more[f"{victim.upper()}_CLOCK_SHIFT_FILE"])
    scene.begin()
    scene.await_moment(moment.step, moment.after_s)
    shift.write_text(str(_CLOCK_SHIFT_S))
    scene.await_end()
    records = scene.store.records()
    stolen = [record for record in records if record.epoch != 1]
    if stolen:
        raise Failed(f"{stolen[0].method} must be done at the first epoch, got {stolen[0].epoch}")
    now = time.time() + _CLOCK_SHIFT_S / 2
    ahead = sum(record.create_time > now for record in records if record.service == victim)
    if not ahead and victim != "lm":
        raise Failed(f"{victim} must have dated an operation an hour ahead, it has none")
    return Shown(by=f"no lease moved; {ahead} operations are dated an hour ahead")


# Two workers.


def two_workers(scene: Scene, drill: Drill, moment: Moment) -> Shown:
    """Stop a worker for longer than its lease while another stands by, and let it go on late."""
    (service,) = drill.victims
    scene.stack.start()
    second = _second(scene, service)
    try:
        return _overtaken(scene, service, moment)
    finally:
        os.killpg(second.pid, signal.SIGKILL)
        second.wait()


def _overtaken(scene: Scene, service: str, moment: Moment) -> Shown:
    scene.start_round()
    scene.await_moment(moment.step, moment.after_s)
    operation = _operation_of(scene, service, moment.step)
    record = scene.store.record(operation)
    late = _pid(record)
    _stop(scene, late)
    try:
        before = scene.store.record(operation)
        if before is None or before.state is not State.RUNNING or _pid(before) != late:
            raise Missed("the worker had done its work")
        wait_for(lambda: _ended(scene, operation), f"another worker to end {before.method}")
        done = scene.store.blobs.read(f"{operation}.json")
    finally:
        os.killpg(late, signal.SIGCONT)
    lost = f"{operation}: expected holder"
    wait_for(
        lambda: any(lost in file.read_text() for file in scene.logs.glob("*.jsonl")) or None,
        "the late worker to see that it lost its lease",
    )
    scene.await_end()
    if scene.store.blobs.read(f"{operation}.json") != done:
        raise Failed(f"{before.method}: the late worker changed the record after its end")
    return Shown(by=f"{scene.took_over(before)}; the late worker said that its lease was lost")


def _stop(scene: Scene, pid: int) -> None:
    """Stop a process outside the milliseconds for which it keeps others from a blob or the bus.

    One that is stopped within them keeps them out until it goes on or dies, as `libs.blobs.folder`
    says of itself; the drill is about the lease.
    """
    shared = [*scene.home.glob("blobs/.locks/*"), *scene.home.glob("bus.sqlite*")]
    inodes = {str(path.stat().st_ino) for path in shared}
    for _ in range(_STOPS):
        os.killpg(pid, signal.SIGSTOP)
        locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        held = {each[5].rpartition(":")[2] for each in locks if each[3:5] == ["WRITE", str(pid)]}
        if not held & inodes:
            return
        os.killpg(pid, signal.SIGCONT)
        time.sleep(0.01)
    raise Missed("the worker was inside a lock whenever it was stopped")


def _operation_of(scene: Scene, service: str, step: str) -> str:
    return scene.store.round_operation if service == "loop" else scene.store.operation(step)


def _pid(record: Record | None) -> int:
    if record is None or record.state is not State.RUNNING:
        raise Missed("the worker had done its work")
    return int(record.holder.split("/")[1])


def _ended(scene: Scene, operation: str) -> Record | None:
    record = scene.store.record(operation)
    return record if record and record.ended else None


def _second(scene: Scene, service: str) -> "subprocess.Popen[bytes]":
    """Start another process of a service on the same home folder; return once it answers."""
    reports = launcher.reports(scene.home)
    ports = {each.name: launcher.Ports(each.port, each.metrics_port) for each in reports}
    own = {
        f"{service.upper()}_PORT": "0",
        f"{service.upper()}_METRICS_PORT": "0",
        f"{service.upper()}_LOG_FILE": str(scene.logs / f"{service}-second.jsonl"),
    }
    (program,) = services(scene.home, names=(service,), settings={**settings(), **own})
    with (scene.folder / "second.log").open("ab") as log:
        process = subprocess.Popen(
            launcher.adopted(program.argv),
            env={**environment(scene.home, scene.stack.more), **program.env(ports)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    said = scene.home / "run" / f"{service}.json"
    wait_for(lambda: f'"pid": {process.pid}' in said.read_text() or None, f"a second {service}")
    return process


# An exam that comes late.


def new_exam(scene: Scene, drill: Drill, moment: Moment) -> Shown:
    """Register another exam while a round runs, whose exams are frozen."""
    scene.begin()
    scene.await_moment(moment.step, moment.after_s)
    exam_id = _register(scene)
    waiting = [step.name for step in scene.store.round().steps if step.state == "waiting"]
    if "train" not in waiting:
        raise Missed("training had begun")
    scene.await_end()
    return Shown(
        by=f"it was registered while {len(waiting)} steps were waiting",
        blobs=frozenset(_blobs_of(scene, exam_id)),
    )


def _register(scene: Scene) -> str:
    request = evaluator_pb2.ImportExamRequest(
        request_id=_LATE_EXAM,
        path=str(scene.setting.late_exam),
        as_of="drill",
        name=_LATE_EXAM,
    )
    with open_channel(f"127.0.0.1:{scene.stack.report('evaluator').port}") as channel:
        try:
            stub = evaluator_pb2_grpc.EvaluatorServiceStub(channel)
            operation = stub.ImportExam(request, timeout=60)
        except grpc.RpcError as error:
            raise Failed(f"the exam was not accepted: {error}") from error
    ended = wait_for(lambda: _ended(scene, operation.name), "the exam to be imported")
    if ended.result is None:
        raise Failed(f"the exam was not imported: {ended.error}")
    return ended.result.artifact_id


def _blobs_of(scene: Scene, artifact_id: str) -> Iterator[str]:
    """Yield what registering an exam puts into the store."""
    blobs = scene.store.blobs
    yield f"registry/exams/{_LATE_EXAM}.json"
    yield from (blob.name for blob in blobs.list(f"artifacts/{artifact_id}/"))
    for blob in blobs.list("requests/"):
        if blobs.read(blob.name).data.decode() == artifact_id:
            yield blob.name


ACTS: Mapping[Kind, Act] = {
    Kind.KILL: kill,
    Kind.KILL_TWO: kill,
    Kind.KILL_LAUNCHER: kill_launcher,
    Kind.FULL_DISK: full_disk,
    Kind.READ_ONLY: read_only,
    Kind.CLOCK_AHEAD: clock_ahead,
    Kind.TWO_WORKERS: two_workers,
    Kind.NEW_EXAM: new_exam,
    Kind.INTERRUPT: interrupt,
    Kind.KILL_COMMAND: kill_command,
    Kind.TERMINATE: terminate,
    Kind.KILL_SERVER: kill_server,
    Kind.STOP: stop,
    Kind.CLOSED_STORE: closed_store,
    Kind.SKEW: skew,
}


def settings_for(drill: Drill, folder: Path) -> dict[str, str]:
    """Return what the services of a drill are told beside what all drills tell them."""
    if drill.kind in (Kind.FULL_DISK, Kind.READ_ONLY):
        # What they say while the disk is full shall be heard.
        return {
            f"{name.upper()}_LOG_FILE": str(folder / "logs" / f"{name}.jsonl") for name in SERVICES
        }
    if drill.kind in (Kind.CLOCK_AHEAD, Kind.SKEW):
        victim = drill.victims[0].upper()
        # Long leases: none may move here, and a busy machine moves short ones.
        leases = {f"{name.upper()}_LEASE_S": "30" for name in SERVICES}
        return {**leases, f"{victim}_CLOCK_SHIFT_FILE": str(folder / "shift")}
    return {}
