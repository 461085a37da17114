"""What a guard starts dies with it, however it ends, until it is released."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploy.local.stack import gate, processes
from deploy.local.stack.guard import Command, Guard
from libs.errors import DeadlineExceeded, Unavailable

ROOT = Path(__file__).parents[5]
STARTER = """
import sys, time
from pathlib import Path
from deploy.local.stack.guard import Command, Guard

folder = Path(sys.argv[1])
with Guard() as guard:
    pid = guard.start(Command(argv=("sleep", "60"), folder=folder), log=folder / "log")
    if sys.argv[2] == "released":
        guard.release()
    print(pid, flush=True)
    time.sleep(60)
"""
PATIENCE_S = 20.0


def sleeper(folder):
    return Command(argv=("sleep", "60"), folder=folder)


def lives(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


def ends(pid):
    give_up = time.monotonic() + PATIENCE_S
    while lives(pid) and time.monotonic() < give_up:
        time.sleep(0.01)
    return not lives(pid)


@pytest.fixture
def log(tmp_path):
    return tmp_path / "logs" / "log"


def test_what_was_not_released_dies_with_the_block(tmp_path, log):
    with Guard() as guard:
        pid = guard.start(sleeper(tmp_path), log=log)
        assert lives(pid)
    assert not lives(pid)


def test_what_was_released_outlives_the_block(tmp_path, log):
    with Guard() as guard:
        pid = guard.start(sleeper(tmp_path), log=log)
        guard.release()
    assert lives(pid)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


@pytest.mark.parametrize("state", ["held", "released"])
def test_a_killed_starter_leaves_only_what_it_released(tmp_path, state):
    argv = [sys.executable, "-c", STARTER, str(tmp_path), state]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=ROOT) as starter:
        pid = int(starter.stdout.readline())
        starter.kill()
    if state == "held":
        assert ends(pid)
    else:
        assert lives(pid)
        os.kill(pid, signal.SIGKILL)


def test_a_process_whose_starter_died_before_it_was_watched_never_runs(tmp_path):
    touch = ("touch", str(tmp_path / "ran"))
    argv = [sys.executable, "-I", "-S", gate.__file__, str(tmp_path), *touch]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert done.returncode == 1
    assert not (tmp_path / "ran").exists()


def test_nothing_starts_once_everything_is_told_to_end(tmp_path, log):
    with Guard() as guard:
        guard.kill()
        with pytest.raises(Unavailable, match="sleep was not started"):
            guard.start(sleeper(tmp_path), log=log)


def test_a_run_that_fails_tells_its_last_lines(tmp_path, log):
    command = Command(argv=("sh", "-c", "echo no such artifact; exit 3"), folder=tmp_path)
    with Guard() as guard, pytest.raises(Unavailable, match=r"ended with 3:\nno such artifact"):
        guard.run(command, log=log, deadline_s=PATIENCE_S)


def test_a_run_that_takes_too_long_is_killed(tmp_path, log):
    command = Command(argv=("sleep", "60"), folder=tmp_path, env=processes.mark(tmp_path, "sleep"))
    with Guard() as guard:
        with pytest.raises(DeadlineExceeded, match=r"longer than 0.2 s"):
            guard.run(command, log=log, deadline_s=0.2)
        assert processes.members(tmp_path) == {}


def test_a_command_has_its_folder_and_environment(tmp_path, log):
    argv = ("sh", "-c", 'echo "$PWD $GREETING"')
    with Guard() as guard:
        command = Command(argv=argv, folder=tmp_path, env={"GREETING": "hello"})
        guard.run(command, log=log, deadline_s=PATIENCE_S)
    assert log.read_text() == f"{tmp_path} hello\n"


def test_a_program_that_does_not_exist_is_told(tmp_path, log):
    command = Command(argv=("no-such-program",), folder=tmp_path)
    with Guard() as guard, pytest.raises(Unavailable, match="No such file or directory"):
        guard.run(command, log=log, deadline_s=PATIENCE_S)
