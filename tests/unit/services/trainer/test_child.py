"""Children are real processes here; the fork server is shared by all tests of the run."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from libs.errors import Conflict, Unavailable
from services.trainer.child import Child, CrashError

ROOT = Path(__file__).parents[4]
PATIENCE_S = 30.0


def echo(job, mailbox):
    mailbox.send((job, os.getpid()))
    while (message := mailbox.receive()) != "end":
        mailbox.send(message)


def refuse(job, mailbox):
    raise Conflict(f"cannot {job}")


def crash(job, mailbox):
    raise ZeroDivisionError(job)


def idle():
    pass


def wait_for(condition):
    give_up = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_messages_go_both_ways_in_order():
    with Child(echo, "job") as child:
        job, pid = child.receive(idle)
        assert job == "job"
        assert pid != os.getpid()
        for number in range(3):
            child.send(number)
        assert [child.receive(idle) for _ in range(3)] == [0, 1, 2]


def test_leaving_the_block_ends_the_process():
    with Child(echo, "job") as child:
        _, pid = child.receive(idle)
    wait_for(lambda: not is_running(pid))


def test_an_error_of_ours_is_raised_in_the_parent():
    with Child(refuse, "agree") as child, pytest.raises(Conflict, match="cannot agree"):
        child.receive(idle)


def test_a_bug_is_raised_with_the_childs_traceback():
    with Child(crash, "oops") as child, pytest.raises(CrashError, match="ZeroDivisionError: oops"):
        child.receive(idle)


def test_a_killed_child_may_be_tried_again():
    with Child(echo, "job") as child:
        _, pid = child.receive(idle)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(Unavailable, match="-9"):
            child.receive(idle)
        child.send("nobody reads this")


def test_what_a_tick_raises_ends_the_wait_and_the_child():
    def stop():
        raise KeyError("stop")

    with pytest.raises(KeyError), Child(echo, "job") as child:
        _, pid = child.receive(idle)
        child.receive(stop)
    wait_for(lambda: not is_running(pid))


def test_a_child_ends_when_its_parent_is_killed():
    """The parent is a process of its own, killed as `kill -9` does."""
    program = (
        "import time\n"
        "from services.trainer import child\n"
        f"from {echo.__module__} import echo, idle\n"
        "child._PRELOAD.clear()\n"  # nothing to compute: start at once
        "with child.Child(echo, 'job') as it:\n"
        "    print(it.receive(idle)[1], flush=True)\n"
        "    time.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    with parent:
        pid = int(parent.stdout.readline())
        assert is_running(pid)
        parent.kill()
    wait_for(lambda: not is_running(pid))
