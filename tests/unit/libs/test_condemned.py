import itertools
import threading

import pytest

from libs import condemned
from libs.blobs.folder import FolderBlobs
from libs.condemned import Condemned
from libs.errors import Busy, Conflict

A, B = "a" * 64, "b" * 64


@pytest.fixture
def listed(tmp_path):
    return Condemned(FolderBlobs(tmp_path))


def test_nothing_is_condemned_at_first(listed):
    assert listed.read().ids == ()
    listed.settle([A], check=pytest.fail)


def test_what_is_listed_is_waited_for_until_the_list_is_cleared(listed):
    listed.put("operations/loop/one#1", [A, B])
    looks = itertools.count()

    def check():
        if next(looks) == 2:
            listed.clear("operations/loop/one#1")

    listed.settle([B], check=check)
    assert next(looks) == 3


def test_who_waits_for_something_else_does_not_wait(listed):
    listed.put("operations/loop/one#1", [A])
    listed.settle([B], check=pytest.fail)


def test_a_wait_ends_with_what_the_check_raises(listed):
    listed.put("operations/loop/one#1", [A])

    def check():
        raise Conflict("lease lost")

    with pytest.raises(Conflict, match="lease lost"):
        listed.settle([A], check=check)


def test_no_wait_is_without_an_end(listed, monkeypatch):
    monkeypatch.setattr(condemned, "_PATIENCE_S", 0.0)
    listed.put("operations/loop/one#1", [A])
    with pytest.raises(Busy, match=f"{A} is being removed .* by operations/loop/one"):
        listed.settle([A], check=lambda: None)


def test_another_collection_is_refused_and_another_attempt_at_the_same_is_not(listed):
    listed.put("operations/loop/one#1", [A])
    with pytest.raises(Conflict, match="got that of operations/loop/one"):
        listed.put("operations/loop/two#1", [B])
    listed.put("operations/loop/one#2", [B])
    assert listed.read().ids == (B,)


def test_only_the_owner_clears_the_list(listed):
    listed.put("operations/loop/one#2", [A])
    listed.clear("operations/loop/one#1")
    assert listed.read().ids == (A,)


def test_of_racing_collections_one_wins(listed):
    start, won = threading.Barrier(8), []

    def race(number):
        start.wait(timeout=30)
        try:
            listed.put(f"operations/loop/{number}#1", [A])
        except Conflict:
            return
        won.append(number)

    threads = [threading.Thread(target=race, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
