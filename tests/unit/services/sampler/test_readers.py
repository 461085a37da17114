import threading

import pytest

from libs.errors import Busy
from services.sampler.readers import Readers


def test_a_reader_beyond_the_limit_is_busy_until_another_leaves():
    readers = Readers(limit=1, stall_s=60)
    with (
        readers.admitted(lambda: None),
        pytest.raises(Busy, match="1 streams are open"),
        readers.admitted(lambda: None),
    ):
        pass
    with readers.admitted(lambda: None):
        pass


def test_a_reader_that_takes_nothing_is_cancelled():
    readers, cancelled = Readers(limit=2, stall_s=0.05), threading.Event()
    with readers.admitted(cancelled.set) as reader:
        readers.handed(reader)
        assert cancelled.wait(10)


def test_a_reader_that_was_handed_nothing_or_took_it_is_not_cancelled_for_it():
    readers, stalled, patient = Readers(limit=3, stall_s=0.05), threading.Event(), []
    with (
        readers.admitted(lambda: patient.append("handed nothing")),
        readers.admitted(lambda: patient.append("took it")) as prompt,
        readers.admitted(stalled.set) as other,
    ):
        readers.handed(prompt)
        readers.taken(prompt)
        readers.handed(other)
        assert stalled.wait(10)
        assert patient == []


def test_no_thread_is_left_when_nobody_reads():
    readers = Readers(limit=2, stall_s=0.2)
    with readers.admitted(lambda: None):
        watching = [each for each in threading.enumerate() if each.name == "sampler-readers"]
        assert watching
    assert readers.wait_idle(0)
    for thread in watching:
        thread.join(10)
    assert not any(thread.is_alive() for thread in watching)
