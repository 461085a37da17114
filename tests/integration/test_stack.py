"""The real servers as `make stack` starts and ends them, in runs of this test's own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploy.local import sights
from deploy.local.stack import Run, bring, processes
from deploy.local.stack.obtain import absent
from deploy.local.stack.servers import SERVERS
from libs import rpc
from libs.clock import Clock
from libs.errors import DeadlineExceeded, Forbidden, NotFound, Unavailable
from libs.lm.triton.replica import Replica
from tests import stack

ROOT = Path(__file__).parents[2]
QUICK = ("minio", "prometheus")
PATIENCE_S = 120.0


@pytest.fixture
def run(tmp_path):
    """A run of its own on the shared cache; nothing of it is left afterwards."""
    cache = stack.folder()
    if missing := absent(list(SERVERS.values()), cache):
        stack.refuse(f"{', '.join(missing)} absent from {cache}: make stack")
    own = Run(cache=cache, folder=tmp_path / "run")
    yield own
    bring.down(own)
    assert processes.members(own.folder) == {}


def pids(run):
    return {name: found[0] for name, found in processes.members(run.folder).items()}


def states(run):
    return {each.name: each.state for each in bring.status(run)}


def wait_until(look):
    give_up = time.monotonic() + PATIENCE_S
    while not look():
        assert time.monotonic() < give_up, "it does not come"
        time.sleep(0.02)


def command(run, *arguments):
    """Start `python -m deploy.local.stack` on a run."""
    env = {"ATHANOR_STACK": str(run.cache), "ATHANOR_STACK_RUN": str(run.folder)}
    # A shell that started the tests with `&` has them ignore Ctrl-C, and so whatever they start.
    argv = ["env", "--default-signal=INT", sys.executable, "-m", "deploy.local.stack", *arguments]
    return subprocess.Popen(
        argv, cwd=ROOT, env={**os.environ, **env}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def broken(run, tmp_path):
    """Return the run on a cache whose MinIO ends at once."""
    cache = tmp_path / "cache"
    cache.mkdir()
    for part in run.cache.iterdir():
        (cache / part.name).symlink_to(part)
    (cache / "minio").unlink()
    (cache / "minio").mkdir()
    program = cache / "minio" / "minio"
    program.write_text("#!/bin/sh\necho the disk is on fire\nexit 3\n")
    program.chmod(0o755)
    return Run(cache=cache, folder=run.folder)


def test_up_starts_once_and_tells_where(run):
    settings = bring.up(run, QUICK)
    before = pids(run)
    assert bring.up(run, QUICK) == settings == run.settings()
    assert pids(run) == before
    assert states(run) == dict.fromkeys(QUICK, "ready")


def test_a_second_up_is_quick_and_says_so(run):
    bring.up(run, QUICK)
    began = time.monotonic()
    with command(run, "up", "--only", ",".join(QUICK)) as again:
        said = again.stdout.read().decode()
    assert time.monotonic() - began < 10  # 0.4 s on an idle machine
    assert again.returncode == 0
    assert said.count("runs already") == 2


def test_down_leaves_neither_a_process_nor_settings_and_may_be_repeated(run):
    bring.up(run, QUICK)
    assert sorted(bring.down(run)) == sorted(QUICK)
    assert processes.members(run.folder) == {}
    assert not run.env_file.exists()
    assert bring.down(run) == []


def test_down_ends_a_server_that_hangs(run):
    bring.up(run, ["minio"])
    bring.kill(run, "minio", signal.SIGSTOP)
    assert states(run) == {"minio": "not answering"}
    assert bring.down(run) == ["minio"]


def test_a_dead_server_is_started_alone_where_it_was(run):
    settings = bring.up(run, QUICK)
    before = pids(run)
    bring.kill(run, "minio")
    assert states(run) == {"minio": "down", "prometheus": "ready"}
    assert bring.start(run, "minio") == settings
    assert pids(run)["prometheus"] == before["prometheus"]
    assert pids(run)["minio"] != before["minio"]


def test_a_failure_half_way_ends_what_it_started_and_only_that(run, tmp_path):
    bring.up(run, ["prometheus"])
    before = pids(run)
    with pytest.raises(Unavailable, match=r"minio ended with 3 .*\n(.*\n)*the disk is on fire"):
        bring.up(broken(run, tmp_path), ["minio", "kafka"])
    assert pids(run) == before


def test_a_server_that_does_not_answer_in_time_is_named_and_ended(run):
    with pytest.raises(DeadlineExceeded, match="waited 0 s for minio"):
        bring.up(run, QUICK, ready_s=0.0)
    assert processes.members(run.folder) == {}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_up_that_is_cut_short_leaves_nothing(run, number):
    with command(run, "up", "--only", "kafka,elasticsearch,prometheus") as up:
        wait_until(lambda: len(processes.members(run.folder)) == 3)
        up.send_signal(number)
        up.wait(PATIENCE_S)
        assert processes.await_end(run.folder, [*SERVERS], deadline_s=PATIENCE_S)
    assert up.returncode == (-number if number == signal.SIGKILL else 130)
    assert not run.env_file.exists()


def test_up_that_is_killed_while_it_obtains_leaves_nothing_that_looks_whole(run, tmp_path):
    empty = Run(cache=tmp_path / "cache", folder=run.folder)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "mvn").write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 600\n")
    (tmp_path / "bin" / "mvn").chmod(0o755)
    os.environ["PATH"], before = f"{tmp_path}/bin:{os.environ['PATH']}", os.environ["PATH"]
    try:
        with command(empty, "up", "--only", "kafka") as up:
            wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
            up.kill()
    finally:
        os.environ["PATH"] = before
    maven = Path("/proc") / (tmp_path / "pid").read_text().strip() / "cmdline"
    wait_until(lambda: not maven.exists() or not maven.read_bytes())
    assert absent([SERVERS["kafka"]], empty.cache) == ["kafka-4.1.0"]


def test_a_signal_to_a_server_that_does_not_run_is_refused(run):
    with pytest.raises(NotFound, match="minio does not run"):
        bring.kill(run, "minio")


def test_what_was_stored_is_there_after_a_restart_and_dropped_when_asked(run):
    bring.up(run, ["minio"])
    stored = run.folder / "minio" / "data" / "models"
    assert stored.exists()
    bring.kill(run, "minio")
    bring.start(run, "minio")
    assert stored.exists()
    bring.forget(run)
    assert [path.name for path in run.folder.iterdir()] == ["lock"]


def test_two_commands_at_once_start_everything_once(run):
    both = [command(run, "up", "--only", "minio") for _ in range(2)]
    for each in both:
        with each:
            assert each.wait(PATIENCE_S) == 0
    assert len(processes.members(run.folder)["minio"]) == 1


def test_two_tritons_on_one_repository_load_for_those_with_the_key(run):
    settings = bring.up(run, ["triton", "triton-2"])
    addresses = settings["ATHANOR_TRITON"].split(",")
    assert len(set(addresses)) == 2
    for address in addresses:
        with pytest.raises(Forbidden):
            Replica(address).load("absent", timeout_s=30)
        with pytest.raises(rpc.RemoteError, match="failed to load"):
            Replica(address, key=settings["ATHANOR_TRITON_KEY"]).load("absent", timeout_s=30)


def test_doctor_finds_a_whole_stack_well(run):
    settings = bring.up(run, [*QUICK, "kafka", "triton"])
    found = sights.examine(settings, Clock())
    assert {each.name: each.remedy for each in found if each.name != "elasticsearch"} == {
        "kafka": "",
        "minio": "",
        "triton": "",
        "prometheus": "",
        "clocks": "",
    }
    assert "the repository opens to our key only" in next(
        each.found for each in found if each.name == "triton"
    )


@pytest.mark.parametrize(
    ("wrong", "name", "remedy"),
    [
        ({"ATHANOR_MINIO_SECRET_KEY": "no"}, "minio", "source its stack.env"),
        ({"ATHANOR_TRITON_KEY": "no"}, "triton", "set ATHANOR_TRITON_KEY"),
    ],
)
def test_doctor_tells_wrong_credentials(run, wrong, name, remedy):
    settings = {**bring.up(run, [name]), **wrong}
    found = {each.name: each for each in sights.examine(settings, Clock())}
    assert remedy in found[name].remedy
