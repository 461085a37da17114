"""With real processes: small programs, and launchers of their own where a launcher is killed."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from libs import launcher
from libs.errors import Conflict, DeadlineExceeded, NotFound, Unavailable
from libs.launcher import Launcher, Program

ROOT = Path(__file__).parents[3]
LISTEN = """
import socket, subprocess, sys, time
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
if len(sys.argv) > 2:
    child = subprocess.Popen(["sleep", "1000"])
    with open(sys.argv[2], "a") as file:
        print(child.pid, file=file, flush=True)
while True:
    server.accept()[0].close()
"""
HEALTHY = """
import sys
from libs import rpc
server = rpc.server(service="x", registrations=[], service_names=[], port=int(sys.argv[1]))
server.start()
server.wait()
"""
LAUNCH = """
import sys, time
from pathlib import Path
from libs.launcher import Launcher, Program
program = Program(
    name="one", argv=(sys.executable, "-c", sys.argv[2], "{port}", sys.argv[3]), health=False
)
owner = Launcher(Path(sys.argv[1]), [program])
owner.start()
print("ready", flush=True)
while True:
    owner.tend()
    time.sleep(0.02)
"""


def python(name, code, *argv, **given):
    return Program(
        name=name, argv=(sys.executable, "-c", code, *argv), **({"health": False} | given)
    )


def listener(name, children=""):
    return python(name, LISTEN, "{port}", *([str(children)] if children else []))


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for(condition, *, within_s=10.0):
    ends_at = time.monotonic() + within_s
    while not (value := condition()):
        assert time.monotonic() < ends_at, "waited for too long"
        time.sleep(0.01)
    return value


def revived(owner, name):
    wait_for(lambda: name in owner.tend())
    (report,) = [each for each in launcher.reports(owner.home) if each.name == name]
    return report


@contextmanager
def launched(home, *programs, **given):
    owner = Launcher(home, programs)
    owner.home = home
    try:
        owner.start(**given)
        yield owner
    finally:
        owner.stop()


@contextmanager
def launcher_process(home, children):
    """A launcher that can be killed, with one listener that has a child."""
    argv = [sys.executable, "-c", LAUNCH, str(home), LISTEN, str(children)]
    with subprocess.Popen(
        argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout.readline() == "ready\n", process.stderr.read()
            yield process
        finally:
            process.kill()


def child_of(children):
    return wait_for(lambda: children.exists() and [int(n) for n in children.read_text().split()])


def test_programs_run_and_are_reported_until_they_are_stopped(tmp_path):
    with launched(tmp_path, listener("one"), listener("two")):
        found = launcher.reports(tmp_path)
        assert [(each.name, each.restarts) for each in found] == [("one", 0), ("two", 0)]
        assert all(alive(each.pid) for each in found)
        assert all(launcher.accepts_connections(each.port) for each in found)
        assert launcher.holder(tmp_path) == os.getpid()
    assert not any(alive(each.pid) for each in found)
    assert launcher.reports(tmp_path) == []
    assert launcher.holder(tmp_path) is None


def test_other_programs_read_pids_and_ports_from_one_file(tmp_path):
    with launched(tmp_path, listener("one")) as owner:
        (report,) = launcher.reports(owner.home)
        status = json.loads((tmp_path / "run" / "launcher.json").read_text())
    fields = report._asdict()
    assert status == {"pid": os.getpid(), "services": {fields.pop("name"): fields}}


def test_a_grpc_service_is_ready_when_it_says_so(tmp_path):
    program = python("x", HEALTHY, "{port}", health=True, env=lambda _: {"PYTHONPATH": str(ROOT)})
    ready = []
    with launched(tmp_path, program, on_ready=ready.append) as owner:
        (report,) = launcher.reports(owner.home)
        assert launcher.answers_health(report.port)
    assert ready == ["x"]
    assert not launcher.answers_health(report.port)


def test_a_program_is_told_the_ports_of_all(tmp_path):
    told = tmp_path / "told"
    code = f"import os, pathlib; pathlib.Path({str(told)!r}).write_text(os.environ['PEER'])\n"
    asking = python(
        "one", code + LISTEN, "{port}", env=lambda ports: {"PEER": str(ports["two"].port)}
    )
    with launched(tmp_path, asking, listener("two")) as owner:
        assert told.read_text() == str(launcher.reports(owner.home)[1].port)


def test_ports_stay_the_same_over_starts_and_lie_below_the_ephemeral_ones(tmp_path):
    ports = []
    for _ in range(2):
        with launched(tmp_path, listener("one")) as owner:
            ports.append(launcher.reports(owner.home)[0].port)
    assert ports[0] == ports[1]
    lowest = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0]
    assert ports[0] < int(lowest)


def test_a_port_that_a_stranger_took_is_replaced_and_remembered(tmp_path, monkeypatch):
    monkeypatch.setattr("libs.launcher.home._PORT_PATIENCE_S", 0.0)
    with launched(tmp_path, listener("one")) as owner:
        before = launcher.reports(owner.home)[0].port
    with socket.create_server(("127.0.0.1", before)), launched(tmp_path, listener("one")) as owner:
        after = launcher.reports(owner.home)[0].port
    assert after != before
    assert json.loads((tmp_path / "run" / "ports.json").read_text())["one"][0] == after


def test_a_killed_program_is_started_again_on_its_port(tmp_path):
    with launched(tmp_path, listener("one")) as owner:
        (before,) = launcher.reports(tmp_path)
        os.kill(before.pid, signal.SIGKILL)
        after = revived(owner, "one")
        assert (after.port, after.restarts) == (before.port, 1)
        assert after.pid != before.pid
        wait_for(lambda: launcher.accepts_connections(after.port))


def test_the_children_of_a_killed_program_die_before_it_is_started_again(tmp_path):
    children = tmp_path / "children"
    with launched(tmp_path, listener("one", children)) as owner:
        (orphan,) = child_of(children)
        os.kill(launcher.reports(tmp_path)[0].pid, signal.SIGKILL)
        revived(owner, "one")
        wait_for(lambda: not alive(orphan))


def test_stopping_ends_children_and_those_who_ignore_the_signal(tmp_path):
    children = tmp_path / "children"
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + LISTEN
    owner = Launcher(tmp_path, [python("one", deaf, "{port}", str(children))])
    owner.start()
    (child,) = child_of(children)
    (report,) = launcher.reports(tmp_path)
    owner.stop(grace_s=0.1)
    wait_for(lambda: not alive(report.pid) and not alive(child))


def test_nothing_is_left_when_the_launcher_is_killed(tmp_path):
    children = tmp_path / "children"
    with launcher_process(tmp_path, children) as process:
        (child,) = child_of(children)
        (report,) = launcher.reports(tmp_path)
        assert alive(report.pid) and alive(child)
        process.kill()
        process.wait()
        wait_for(lambda: not alive(report.pid) and not alive(child))
        assert launcher.reports(tmp_path) == []


def test_a_reaper_that_was_killed_is_replaced(tmp_path):
    children = tmp_path / "children"
    with launcher_process(tmp_path, children) as process:
        (child,) = child_of(children)
        (report,) = launcher.reports(tmp_path)
        offspring = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        (reaper,) = set(map(int, offspring.read_text().split())) - {report.pid}
        os.kill(reaper, signal.SIGKILL)
        wait_for(lambda: set(map(int, offspring.read_text().split())) - {report.pid, reaper})
        process.kill()
        wait_for(lambda: not alive(report.pid) and not alive(child))


def test_after_a_kill_the_folder_can_be_taken_again_on_the_same_ports(tmp_path):
    with launcher_process(tmp_path, tmp_path / "children") as process:
        (before,) = launcher.reports(tmp_path)
        process.kill()
        process.wait()
        with launched(tmp_path, listener("one")):
            assert launcher.reports(tmp_path)[0].port == before.port


def test_a_second_launcher_on_one_folder_is_refused_by_name(tmp_path):
    with launcher_process(tmp_path, tmp_path / "children") as process:
        with pytest.raises(Conflict, match=f"launcher {process.pid} runs in"):
            Launcher(tmp_path, [listener("two")]).start()
        assert [each.name for each in launcher.reports(tmp_path)] == ["one"]


def test_a_stranger_with_the_number_of_a_dead_launcher_is_not_taken_for_it(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "launcher.lock").write_text(
        json.dumps({"pid": os.getpid(), "start_time": "of another"})
    )
    assert launcher.holder(tmp_path) is None
    with pytest.raises(NotFound, match="no launcher runs in"):
        launcher.end(tmp_path)


def test_another_process_ends_a_launcher_and_all_that_it_runs(tmp_path):
    with launcher_process(tmp_path, tmp_path / "children") as process:
        (report,) = launcher.reports(tmp_path)
        launcher.end(tmp_path)
        assert process.wait(timeout=5) == -signal.SIGTERM
        wait_for(lambda: not alive(report.pid))


def test_a_program_that_keeps_ending_is_shown_with_its_last_lines(tmp_path):
    broken = python("one", "import sys; sys.exit('ONE_PROT is no setting of one')")
    with pytest.raises(
        Unavailable, match=r"one ended instead of answering:\n(.*\n)*ONE_PROT is no"
    ):
        Launcher(tmp_path, [broken]).start()
    assert launcher.holder(tmp_path) is None


def test_a_program_that_does_not_answer_in_time_is_shown_with_its_last_lines(tmp_path):
    mute = python("one", "import time; print('warming up', flush=True); time.sleep(1000)")
    with pytest.raises(DeadlineExceeded, match="one did not answer in time:\nwarming up"):
        Launcher(tmp_path, [mute]).start(ready_s=0.5)
    assert launcher.reports(tmp_path) == []


def test_a_program_that_is_not_there_is_shown_by_name(tmp_path):
    absent = Program(name="one", argv=("no-such-program",), health=False)
    with pytest.raises(Unavailable, match=r"no-such-program|No such file"):
        Launcher(tmp_path, [absent]).start()


def test_the_first_termination_is_an_interrupt_and_a_second_does_not_cut_it_short():
    with launcher.signals_as_interrupt():
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        with suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize("ask", [launcher.reports, launcher.end])
def test_a_home_folder_below_a_file_is_unavailable(tmp_path, ask):
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="must be a folder that can be read"):
        ask(tmp_path / "file" / "home")
