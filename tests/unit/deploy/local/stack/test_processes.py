"""Whose a process is: told by its mark, whatever its number."""

import os
import signal
import subprocess

import pytest

from deploy.local.stack import processes


@pytest.fixture
def spawn(tmp_path):
    """Return `spawn(name, run=tmp_path)`: a process with the mark of a server, and its child."""
    started = []

    def start(name, run=tmp_path):
        process = subprocess.Popen(
            ["sh", "-c", "sleep 60 & echo $!; wait"],
            env={**os.environ, **processes.mark(run, name)},
            start_new_session=True,
            stdout=subprocess.PIPE,
        )
        started.append(process)
        return process, int(process.stdout.readline())

    yield start
    for process in started:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


def test_a_servers_processes_are_found_the_first_one_first(tmp_path, spawn):
    process, child = spawn("kafka")
    assert processes.members(tmp_path) == {"kafka": [process.pid, child]}


def test_processes_of_another_run_are_strangers(tmp_path, spawn):
    spawn("kafka", run=tmp_path / "other")
    assert processes.members(tmp_path) == {}


def test_the_rest_of_a_dead_server_is_found_and_has_no_leader(tmp_path, spawn):
    process, child = spawn("triton")
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert processes.members(tmp_path) == {"triton": [child]}
    assert not processes.leads(child)


def test_a_signal_passes_by_whoever_does_not_carry_the_mark(tmp_path, spawn):
    process, _ = spawn("kafka")
    processes.send(tmp_path, "minio", [process.pid], signal.SIGKILL)
    processes.send(tmp_path, "kafka", [process.pid], signal.SIGTERM)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert process.poll() == -signal.SIGTERM


def test_waiting_for_an_end_ends(tmp_path, spawn):
    spawn("kafka")
    assert not processes.await_end(tmp_path, ["kafka"], deadline_s=0.0)
    processes.send(tmp_path, "kafka", processes.members(tmp_path)["kafka"], signal.SIGKILL)
    assert processes.await_end(tmp_path, ["kafka"], deadline_s=20.0)


def test_memory_is_that_of_all_processes(tmp_path, spawn):
    process, child = spawn("kafka")
    both = processes.resident_bytes([process.pid, child])
    assert both > processes.resident_bytes([process.pid]) > 0
