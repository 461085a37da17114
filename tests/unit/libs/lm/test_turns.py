import threading
from itertools import count, islice

import pytest

from libs.errors import DeadlineExceeded, InvalidInput
from libs.lm import turns
from libs.lm.turns import Turns


@pytest.fixture
def thread(monkeypatch):
    monkeypatch.setattr(turns, "TURN_S", 0.0)  # one item a turn
    thread = Turns(lambda: None)
    yield thread
    thread.close()


def test_items_come_in_their_order(thread):
    found = [item for some in thread.share(iter(range(9)), "counting", 5.0) for item in some]
    assert found == list(range(9))


def test_a_turn_gives_what_is_ready_within_it(monkeypatch, thread):
    monkeypatch.setattr(turns, "TURN_S", 60.0)
    assert list(thread.share(iter(range(9)), "counting", 5.0)) == [list(range(9))]


def test_a_call_without_end_does_not_hold_up_another(thread):
    endless = thread.share(count(), "counting", None)
    assert next(endless) == [0]
    assert thread.run(lambda: "answer", "asking", 5.0) == "answer"
    assert next(endless) == [1]


def test_two_calls_take_turns(thread):
    order = []

    def noted(name):
        for number in range(20):
            order.append(name)
            yield number

    def consume(name, ready):
        ready.wait()
        for _ in thread.share(noted(name), name, 5.0):
            pass

    ready = threading.Barrier(2)
    callers = [threading.Thread(target=consume, args=(name, ready)) for name in "ab"]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    ends = [max(place for place, name in enumerate(order) if name == each) for each in "ab"]
    starts = [order.index(each) for each in "ab"]
    assert max(starts) < min(ends)  # neither was done before the other began


def test_nothing_is_computed_that_nobody_takes(thread):
    made = []
    stream = thread.share((made.append(number) for number in count()), "counting", 5.0)
    assert made == []
    list(islice(stream, 3))
    stream.close()
    thread.run(lambda: None, "waiting", 5.0)
    assert len(made) == 3


def test_a_call_that_gets_no_turn_in_time_says_what_it_was(thread):
    release = threading.Event()
    blocked = threading.Thread(target=thread.run, args=(lambda: release.wait(10), "blocking", None))
    blocked.start()
    with pytest.raises(DeadlineExceeded, match=r"counting did not end within 0\.1 s"):
        next(thread.share(count(), "counting", 0.1))
    release.set()
    blocked.join()


def test_the_time_is_for_all_turns_together(thread):
    with pytest.raises(DeadlineExceeded, match=r"counting did not end within 0\.1 s"):
        for _ in thread.share(count(), "counting", 0.1):
            pass


def test_what_goes_wrong_in_a_turn_is_the_callers(thread):
    def failing():
        yield 1
        raise InvalidInput("expected 2, got 1")

    stream = thread.share(failing(), "counting", 5.0)
    assert next(stream) == [1]
    with pytest.raises(InvalidInput, match="expected 2"):
        next(stream)
    assert thread.run(lambda: 7, "asking", 5.0) == 7
